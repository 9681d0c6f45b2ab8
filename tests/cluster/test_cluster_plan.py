"""What is prepared, shown by `--dry-run`, and shipped; and that secrets are in none of it."""

import ast
import json
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from kdsweep.cluster.driver import make_driver
from kdsweep.cluster.head import fetch_token
from kdsweep.cluster.launcher import Launcher, prepare
from kdsweep.cluster.load import load_cluster
from kdsweep.cluster.local import Here
from kdsweep.cluster.package import make_package, runtime_env
from kdsweep.cluster.plan import describe
from kdsweep.cluster.portable import refuse_local
from kdsweep.cluster.ssh import Host
from kdsweep.cluster.token import given_token, make_token, read_token, token_file
from kdsweep.environment import JOB, RAY
from kdsweep.errors import ResourceError, SpecError
from kdsweep.spec.load import load_sweep

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "search_spaces" / "digits.yaml"
SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "pw-in-the-environment",
    "AWS_SECRET_ACCESS_KEY": "aws-in-the-environment",
    "RAY_AUTH_TOKEN": "token-in-the-environment",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def onprem() -> Launcher:
    return load_cluster(ROOT / "cluster" / "onprem.yaml")


def test_prepared_is_what_the_file_says_with_a_token_and_processes_that_can_be_ended(home):
    cluster, token = onprem(), home / "t"
    before = json.dumps(cluster.config)
    config = prepare(cluster, token)
    assert json.dumps(cluster.config) == before
    assert config["file_mounts"] == {"~/.kdsweep/clusters/onprem/token": str(token)}
    assert config["setup_commands"] == cluster.config["setup_commands"]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        (ray, *_) = config[key]
        assert "RAY_AUTH_MODE=token" in ray
        assert "setsid" in ray
        assert "--block" in ray
    assert not token.exists()


def test_prepared_twice_is_prepared_once(home):
    cluster = onprem()
    once = prepare(cluster, home / "t")
    again = Launcher(cluster.path, once, cluster.name, cluster.ray, cluster.mlflow)
    assert prepare(again, home / "t") == once


def test_ray_accepts_what_is_prepared(home):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(prepare(onprem(), home / "t")))


def test_a_token_is_made_once_and_only_its_user_reads_it(home):
    token = make_token("c")
    assert make_token("c") == token == read_token("c")
    assert len(token) == 64
    assert stat.S_IMODE(token_file("c").stat().st_mode) == 0o600
    assert stat.S_IMODE(token_file("c").parent.stat().st_mode) == 0o700
    assert make_token("d") != token


@pytest.mark.parametrize("name", ["local", "onprem", "aws", "gcp", "kuberay"])
def test_a_dry_run_lists_what_is_run_and_sent(home, name):
    cluster = load_cluster(ROOT / "cluster" / f"{name}.yaml")
    text = describe(cluster, make_driver("launch", "digits", DIGITS, ["run.train.epochs=1"]))
    assert "nothing is touched" in text
    assert "-m kdsweep launch --address auto -- sweep.yaml run.train.epochs=1" in text
    assert f"sweep.yaml (this is {DIGITS})" in text
    if name == "kuberay":
        assert f"kubectl --namespace default apply -f {cluster.path}" in text
    else:
        assert "ray start --head" in text
        assert "mlflow server" in text
    assert list(home.iterdir()) == []


def test_a_dry_run_lists_every_variable_that_is_sent_and_no_other(home):
    driver = make_driver("launch", "digits", DIGITS, [])
    with runtime_env(driver.package) as environment:
        sent = {**environment["env_vars"], **RAY}
    *_, job = describe(onprem(), driver).partition("  Environment ")
    listed, *_ = job.partition("  Metadata ")
    assert dict(re.findall(r"([A-Z_]+)=([^,\s]+)", listed)) == sent


def test_whatever_gets_variables_gets_those_that_a_dry_run_lists():
    """No source makes a runtime environment of others."""
    found = set()
    for path in (ROOT / "kdsweep").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "env_vars":
                        found.add((path.stem, ast.unparse(value)))
    assert found == {("package", "dict(JOB)"), ("connection", "RAY")}


def test_secrets_are_in_no_dry_run_and_no_job(home, tmp_path):
    path = tmp_path / "c.yaml"
    shipped = (ROOT / "cluster" / "onprem.yaml").read_text()
    path.write_text(
        shipped.replace(
            "MLFLOW_TRACKING_URI=http://127.0.0.1:5000",
            "MLFLOW_TRACKING_PASSWORD=pw-in-the-file AWS_SECRET_ACCESS_KEY='aws in the file' "
            "MLFLOW_TRACKING_URI=postgresql://user:pw-in-a-url@db/mlflow",
        )
    )
    cluster = load_cluster(path)
    token = make_token(cluster.name)
    driver = make_driver("launch", "digits", DIGITS, [])
    with runtime_env(driver.package) as environment:
        shipped_text = json.dumps(environment) + "".join(
            file.read_text(errors="replace")
            for file in Path(environment["working_dir"]).rglob("*")
            if file.is_file()
        )
    shown = describe(cluster, driver)
    everything = shown + shipped_text + driver.entrypoint(cluster.python)
    for secret in (*SECRETS.values(), token, "pw-in-the-file", "aws in the file", "pw-in-a-url"):
        assert secret not in everything
    assert "MLFLOW_TRACKING_PASSWORD=***" in shown
    assert "postgresql://***@db/mlflow" in shown
    assert "RAY_AUTH_TOKEN_PATH=" in shown  # a path is no secret, and worth knowing


@pytest.mark.parametrize("text", ["two words", "line\nbreak", "größe", "\x00"])
def test_what_is_no_token_is_told_and_not_repeated(home, monkeypatch, text):
    path = home / "somebody's token"
    path.write_bytes(text.encode("latin-1"))
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    with pytest.raises(ResourceError, match="somebody's token holds no token") as caught:
        given_token()
    assert text not in str(caught.value)


def test_a_token_is_fetched_from_a_head_whose_shell_greets(home):
    class Greeting(Here):
        def run(self, script, *, timeout_s=120.0):
            return super().run(f"echo Welcome; echo 'mesg: no tty' >&2; {script}")

    class Head:
        run = Greeting().run

    assert fetch_token(onprem(), Head()) is None
    token = make_token("onprem")
    assert fetch_token(onprem(), Head()) == token


@pytest.mark.parametrize("name", ["local", "onprem", "aws", "gcp"])
def test_the_password_of_mlflows_database_is_in_no_dry_run_and_no_job(home, tmp_path, name):
    path = tmp_path / "c.yaml"
    shipped = (ROOT / "cluster" / f"{name}.yaml").read_text()
    text, count = re.subn(
        r"--backend-store-uri sqlite:\S+",
        "--backend-store-uri postgresql+psycopg://kd@db/mlflow",
        shipped.replace(
            "MLFLOW_DISABLE_TELEMETRY=true",
            "PGPASSFILE=/shared/pgpass PGPASSWORD=pw-in-the-file",
        ),
    )
    assert count == 1
    path.write_text(text)
    cluster, driver = load_cluster(path), make_driver("launch", "digits", DIGITS, [])
    shown = describe(cluster, driver)
    with runtime_env(driver.package) as environment:
        sent = json.dumps(environment) + driver.entrypoint(cluster.python)
        sent += "".join(map(str, driver.package.files))
    assert "pw-in-the-file" not in shown + sent + repr(load_sweep(DIGITS))
    assert "PGPASSFILE=/shared/pgpass PGPASSWORD=***" in shown  # a path is worth knowing


def test_the_package_holds_the_code_and_the_sweep_and_nothing_else(home):
    package = make_package(DIGITS)
    tops = {name.partition("/")[0] for name in package.files}
    assert tops == {"kdsweep", "sweep.yaml"}
    assert not [name for name in package.files if "__pycache__" in name]
    assert "kdsweep/__main__.py" in package.files
    assert package.num_bytes < 20 << 20
    with runtime_env(package) as environment:
        assert environment["env_vars"] == JOB
        folder = Path(environment["working_dir"])
        assert (folder / "sweep.yaml").read_text() == DIGITS.read_text()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("home_", "uri", "told"),
    [
        ("kdsweep_runs", None, "--home is a path of this machine"),
        (None, "http://localhost:5000", "address of this machine: localhost:5000"),
        (None, "sqlite:///mlflow.db", "is a file of this machine"),
        (None, "./mlruns", "is a file of this machine"),
        (None, "https://me:secret@mlflow.corp", "holds credentials"),
        (None, "https://secret@mlflow.corp", "holds credentials"),
        (None, "http://[::1:5000", "is no address"),
        (None, "http://localhost:50x", "is no address"),
        ("sftp://me:secret@host/runs", None, "--home holds a password"),
    ],
)
def test_places_of_this_machine_are_not_taken_to_a_cluster(home_, uri, told):
    with pytest.raises(SpecError) as caught:
        refuse_local(None, home_, uri)
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_paths_of_this_machine_in_a_sweep_are_told_all_at_once():
    sweep = load_sweep(
        ROOT / "search_spaces" / "lidar_seg" / "pvd.yaml",
        ["run.data.root=data/kitti", "sweep.tracking={uri: 'http://127.0.0.1:5000'}"],
    )
    with pytest.raises(SpecError) as caught:
        refuse_local(sweep, None, None)
    message = str(caught.value)
    assert "run.data.root is a path of this machine: 'data/kitti'" in message
    assert "run.teacher.checkpoint is a path of this machine: 'teacher.safetensors'" in message
    assert "sweep.tracking.uri is an address of this machine" in message


def test_pretrained_weights_of_this_machine_are_told():
    file = ROOT / "search_spaces" / "metric_learning" / "rkd.yaml"
    with pytest.raises(SpecError) as caught:
        refuse_local(load_sweep(file), None, None)
    assert re.search(r"run\.\w+\.pretrained is a path of this machine: '\w", str(caught.value))


def test_places_that_every_node_knows_are_taken():
    sweep = load_sweep(
        ROOT / "search_spaces" / "lidar_seg" / "pvd.yaml",
        ["run.data.root=/data/kitti", "run.teacher.checkpoint=/data/teacher.safetensors"],
    )
    refuse_local(sweep, "/shared/kdsweep", "http://mlflow.corp:5000")
    refuse_local(load_sweep(DIGITS), None, None)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed")
def test_keys_of_hosts_are_remembered_in_a_home_of_any_name(tmp_path):
    known = tmp_path / "it's 50%x" / "known_hosts"
    host = Host("10.0.0.1", "me", None, None, known)
    words = [*host.command(), "-G", host.name]
    told = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (told.returncode, f"userknownhostsfile {known}" in told.stdout) == (0, True)
    (option,) = [word for word in words if "UserKnownHostsFile" in word]
    assert option.partition("=")[2].startswith('"')  # one file, not one for each word
