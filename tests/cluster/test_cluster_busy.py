"""A cluster that is slow to answer, or that two launches want at once, is never started twice."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_ports

from kdsweep.cluster import up
from kdsweep.cluster.jobs import ask
from kdsweep.cluster.launch import end
from kdsweep.cluster.launcher import Launcher
from kdsweep.cluster.load import load_cluster
from kdsweep.cluster.local import Here
from kdsweep.errors import ResourceError

STAND_IN = """\
#!{python}
# Stands in for `ray start --head --block`: notes its start, and answers 503 while `busy` is there.
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
folder = Path({folder!r})
with (folder / "starts").open("a") as file:
    file.write(f"{{os.getpid()}}\\n")
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        (folder / "asked").touch()
        self.send_response(503 if (folder / "busy").exists() else 200)
        self.end_headers()
        version = b'{{"version": "4", "ray_version": "2.60.0", "ray_commit": ""}}'
        self.wfile.write(version if self.path == "/api/version" else b"[]")  # no jobs
    def log_message(self, *_):
        pass
port = next(word for word in sys.argv if word.startswith("--dashboard-port=")).partition("=")[2]
ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""

FILE = """\
cluster_name: slow
provider: {{type: local, head_ip: 127.0.0.1, worker_ips: []}}
auth: {{ssh_user: unused}}
head_start_ray_commands:
  - KDSWEEP_HOME={folder}/runs {folder}/ray start --head --dashboard-port={port}
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch, own_parents) -> Iterator[Launcher]:
    """A cluster of this machine whose `ray` is a small server, and is ended by its pid."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    program = tmp_path / "ray"
    program.write_text(STAND_IN.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    path = tmp_path / "slow.yaml"
    path.write_text(FILE.format(folder=tmp_path, port=free_ports(1)[0]))
    yield load_cluster(path)
    for pid in starts(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def starts(folder: Path) -> list[int]:
    """The pids of all that was ever started."""
    path = folder / "starts"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_busy_cluster_is_refused_and_never_started_again(cluster, tmp_path, monkeypatch):
    said: list[str] = []
    with up.running(cluster, said.append) as link:
        assert ask(link) == "up"
    (pid,) = starts(tmp_path)
    (tmp_path / "busy").touch()
    monkeypatch.setattr(up, "_BUSY_S", 1.0)
    with (
        pytest.raises(ResourceError, match=r"'slow' runs on this machine, but has not answered"),
        up.running(cluster, said.append),
    ):
        pass
    assert starts(tmp_path) == [pid]
    os.kill(pid, 0)
    assert len([line for line in said if line.startswith("Starting")]) == 1


def test_a_cluster_that_answers_late_is_joined(cluster, tmp_path):
    said: list[str] = []
    with up.running(cluster, said.append):
        pass
    (tmp_path / "busy").touch()
    (tmp_path / "asked").unlink()

    def calm_down() -> None:
        while not (tmp_path / "asked").exists():
            pass
        (tmp_path / "busy").unlink()

    thread = threading.Thread(target=calm_down)
    thread.start()
    with up.running(cluster, said.append) as link:
        assert ask(link) == "up"
    thread.join()
    assert len(starts(tmp_path)) == 1
    assert said[-1] == "Cluster slow is up: joining it."


def test_a_cluster_whose_ray_has_ended_is_started_again(cluster, tmp_path):
    with up.running(cluster, lambda _: None):
        pass
    up.end(cluster, lambda _: None)
    with up.joined(cluster) as link:
        assert link is None
    with up.running(cluster, lambda _: None) as link:
        assert ask(link) == "up"
    assert len(starts(tmp_path)) == 2


def test_a_command_that_takes_too_long_is_told():
    with pytest.raises(ResourceError, match=r"has not ended a command within 1 s: exec sleep"):
        Here().run("exec sleep 60", timeout_s=1.0)


def test_a_command_that_fails_is_told_without_the_secret_in_it(cluster, tmp_path):
    lines = "setup_commands: ['export API_TOKEN=topsecret; echo $API_TOKEN >/dev/null; exit 5']\n"
    cluster.path.write_text(cluster.path.read_text() + lines)
    with pytest.raises(ResourceError, match=r"exit code 5: export API_TOKEN=\*\*\*;") as caught:
        up.start(load_cluster(cluster.path), lambda _: None)
    assert "topsecret" not in str(caught.value)
    assert starts(tmp_path) == []


def test_launches_at_the_same_moment_start_a_cluster_once(cluster, tmp_path):
    together, said, answers = threading.Barrier(3, timeout=60), [], []

    def launch() -> None:
        together.wait()
        with up.running(cluster, said.append) as link:
            together.wait()  # nobody waits for the end of another's sweep
            answers.append(ask(link))

    threads = [threading.Thread(target=launch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["up", "up", "up"]
    assert len(starts(tmp_path)) == 1
    assert len([line for line in said if line.startswith("Starting")]) == 1


def test_a_cluster_that_a_launch_is_starting_is_not_ended_before_it_is_up(cluster, tmp_path):
    started, said, ended = threading.Event(), [], []

    def say(text: str) -> None:
        said.append(text)
        started.set()  # by the first words of the one that waits

    def take_down() -> None:
        ended.append((end(cluster, say), len(starts(tmp_path))))

    thread = threading.Thread(target=take_down)
    with up.alone(cluster, lambda _: None):
        thread.start()
        assert started.wait(timeout=60)
        up.start(cluster, lambda _: None)
    thread.join()
    assert said[0] == "Another command starts, joins or ends cluster slow: waiting for it."
    assert ended == [(True, 1)]
    assert not end(cluster, say)  # nothing of it is left
    with up.joined(cluster) as link:
        assert link is None
