"""A cluster that asks for a token says plainly what is wrong with those who cannot join it."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from kdsweep.environment import RAY

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

JOIN = """
import json
import sys
from pathlib import Path
import ray
if len(sys.argv) > 3:
    ray.__version__ = sys.argv[3]
from kdsweep.errors import ResourceError
from kdsweep.sweep.connection import connected
try:
    with connected(sys.argv[1], None, Path(sys.argv[2])):
        sent = ray.get_runtime_context().runtime_env["env_vars"]
    print("joined", json.dumps(sent))
except ResourceError as error:
    print(error)
"""

START = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
)
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

Join = Callable[..., str]


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, str]]:
    """A running cluster's address and token. Ray reads its mode once in a process: not in this."""
    token = secrets.token_hex(32)
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        found = next(line for line in process.stdout if line.startswith("address "))
        yield found.split()[1], token
        process.communicate()


@pytest.fixture
def join(address, tmp_path) -> Join:
    """Joins from another process; gives what it printed, to either stream."""

    def call(*version: str, **environment: str) -> str:
        others = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        words = [sys.executable, "-c", JOIN, address[0], str(tmp_path / "ray.log"), *version]
        done = subprocess.run(
            words,
            env={**others, "HOME": str(tmp_path), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert address[1] not in done.stdout
        return done.stdout.strip()

    return call


def test_a_missing_token_is_told_with_where_to_put_it(join, address):
    said = join()
    assert said.startswith(f"the Ray cluster at {address[0]} does not let this process in.")
    assert "Most likely it asks for a token. Put its token into $RAY_AUTH_TOKEN" in said
    assert "\n" not in said


def test_a_token_that_was_not_found_is_told_with_where_to_put_it(join):
    said = join(RAY_AUTH_MODE="token")
    assert "asks for a token, and this process has none. Put its token into" in said
    assert "\n" not in said


def test_another_version_is_told_with_both(join, address):
    said = join("2.59.0", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=address[1])
    assert " runs Ray 2." in said and "this process Ray 2.59.0 on Python 3." in said
    assert "\n" not in said


def test_with_the_token_it_is_joined_and_gets_the_variables_of_a_dry_run_and_no_others(
    join, address
):
    word, _, sent = join(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=address[1]).partition(" ")
    assert word == "joined", sent
    assert json.loads(sent) == RAY
