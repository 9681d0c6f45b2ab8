"""The commands about clusters: which options go together, and what is said where nothing is up."""

import base64
import contextlib
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "search_spaces" / "digits.yaml")
LOCAL = str(ROOT / "cluster" / "local.yaml")


@pytest.fixture
def kdsweep(tmp_path):
    """Runs the command line in a home folder of its own."""
    home = tmp_path / "home"
    home.mkdir()

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        ours = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.run(
            [sys.executable, "-m", "kdsweep", *words],
            env={**ours, "HOME": str(home), "COLUMNS": "200", **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["launch", DIGITS, "--cluster", LOCAL, "--address", "auto"], "give one of them"),
        (["launch", DIGITS, "--detach"], "--detach is for sweeps on a cluster"),
        (["launch", DIGITS, "--dry-run"], "`kdsweep check` is the dry run of a sweep file"),
        (["launch", DIGITS, "--address", "ray://h:10001"], "is of no known kind"),
        (["status", "--address", "http://127.0.0.1:x"], "is of no known kind"),
        (["status", "--address", "http://"], "is of no known kind"),
        (["launch", DIGITS, "--address", "auto"], "must be the absolute path"),
        (["resume", "x", "--address", "auto"], "must be the absolute path"),
        (["launch", DIGITS, "--cluster", LOCAL, "--home", "runs"], "--home is a path of this"),
        (["launch", DIGITS, "--cluster", "none.yaml"], "none.yaml: cannot be read"),
        (["resume", "../x", "--cluster", LOCAL], "is no name of a sweep"),
        (["logs", "x"], "add --cluster FILE or --address URL"),
        (["stop", "x"], "there is no sweep 'x'"),
        (["ui", "--cluster", LOCAL, "--port", "5001"], "--port: the MLflow of a cluster"),
        (["ui", "--home", "s3://bucket/runs"], "launched with (--tracking-uri)"),
    ],
)
def test_what_does_not_go_together_is_refused_plainly(kdsweep, words, told):
    done = kdsweep(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_touches_nothing_and_ignores_this_machines_home(kdsweep, tmp_path):
    done = kdsweep(
        *["launch", DIGITS, "--cluster", LOCAL, "--dry-run", "run.train.epochs=1"],
        **{"KDSWEEP_HOME": "/laptop", "MLFLOW_TRACKING_URI": "http://user:pw@laptop:1"},
    )
    assert done.returncode == 0, done.stderr
    assert "launch --address auto -- sweep.yaml run.train.epochs=1" in done.stdout
    assert "laptop" not in done.stdout
    assert list((tmp_path / "home").iterdir()) == []


def test_a_sweep_that_has_just_taken_its_lock_is_stopped_a_moment_later(kdsweep, tmp_path):
    lock = tmp_path / "runs" / "sweeps" / "x" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:  # and has not yet said who it is
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = kdsweep("stop", "x", "--home", "runs")
    assert (ended.returncode, ended.stderr.strip()) == (
        2,
        "kdsweep: sweep 'x' starts just now. Try again in a second.",
    )


def test_options_beat_the_cluster_file(kdsweep):
    words = ["--home", "/other", "--tracking-uri", "http://mlflow.corp:5000"]
    done = kdsweep("resume", "digits", "--more", "3", "--cluster", LOCAL, "--dry-run", *words)
    assert (
        "resume --address auto --home /other --tracking-uri http://mlflow.corp:5000 "
        "--more 3 -- digits"
    ) in done.stdout


def test_remote_storage_without_a_server_is_refused_before_a_cluster_is_started(kdsweep, tmp_path):
    path = tmp_path / "c.yaml"
    plain = Path(LOCAL).read_text().replace("MLFLOW_TRACKING_URI=http://127.0.0.1:5000", "A=1")
    path.write_text(plain)
    words = ["launch", DIGITS, "--cluster", str(path), "--dry-run", "--home", "s3://bucket/runs"]
    done = kdsweep(*words)
    assert done.returncode == 2
    assert "home s3://bucket/runs is remote storage" in done.stderr
    assert "--tracking-uri" in done.stderr
    for named in (
        ["--tracking-uri", "http://mlflow.corp:5000"],
        ["sweep.tracking={uri: 'http://mlflow.corp:5000'}"],
    ):
        assert kdsweep(*words, *named).returncode == 0


def test_a_cluster_that_is_not_up_says_what_starts_it(kdsweep, tmp_path, unused_ports):
    dashboard, _ = unused_ports
    path = tmp_path / "c.yaml"
    path.write_text(Path(LOCAL).read_text().replace("8265", str(dashboard)))
    for words in (["status"], ["logs", "x"], ["stop", "x"], ["ui"]):
        done = kdsweep(*words, "--cluster", str(path))
        assert done.returncode == 2
        assert "cluster 'local' is not up. `kdsweep launch SWEEP.yaml --cluster" in done.stderr


def test_the_end_of_a_cluster_that_is_not_up_says_that_there_is_nothing_to_do(
    kdsweep, tmp_path, unused_ports
):
    dashboard, _ = unused_ports
    path = tmp_path / "c.yaml"
    path.write_text(Path(LOCAL).read_text().replace("8265", str(dashboard)))
    done = kdsweep("down", "--cluster", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Cluster local is not up: there is nothing to do.")
    assert len(done.stdout.splitlines()) == 1


@pytest.fixture
def unused_ports():
    from kdsweep.cluster.ssh import free_ports

    return free_ports(2)


@pytest.fixture
def ray_cluster_of_others():
    """A dashboard that wants a token, as Ray's does; notes the tokens that it was shown."""
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            shown.append(given)
            ok = given == "Bearer right"
            self.send_response(200 if ok else 403 if given else 401)
            self.end_headers()
            self.wfile.write(b'{"ray_version": "2.60.0"}' if ok else b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", shown
        server.shutdown()


def test_a_missing_and_a_wrong_token_are_told_plainly(kdsweep, ray_cluster_of_others):
    url, shown = ray_cluster_of_others
    done = kdsweep("status", "--address", url)
    assert (
        f"the cluster at {url} asks for a token. Put its token into $RAY_AUTH_TOKEN" in done.stderr
    )
    done = kdsweep("status", "--address", url, RAY_AUTH_TOKEN="hunter2")
    assert f"the cluster at {url} does not accept this token" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert shown[-1] == "Bearer hunter2"


def test_an_address_where_nothing_listens_is_told(kdsweep, unused_ports):
    url = f"http://127.0.0.1:{unused_ports[0]}"
    done = kdsweep("launch", DIGITS, "--address", url)
    assert done.returncode == 2
    assert f"no Ray cluster answers at {url}." in done.stderr


def test_an_address_that_speaks_no_http_is_told(kdsweep):
    def talk() -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(b"\x00\x00 this is no HTTP\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=talk, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = kdsweep("status", "--address", url)
        listener.shutdown(socket.SHUT_RDWR)
    assert done.returncode == 2
    assert f"no Ray cluster answers at {url}." in done.stderr
    assert "Traceback" not in done.stderr


STAND_IN = """\
#!{python}
# Stands in for kubectl: answers from a file, notes its calls, forwards to a given port.
import json, os, sys, time
from pathlib import Path
folder = Path({folder!r})
words = sys.argv[1:]
with (folder / "calls").open("a") as file:
    file.write(json.dumps(words) + "\\n")
state = folder / "state"
if "--dry-run=server" in words:
    refusal = folder / "refusal"
    sys.exit(refusal.read_text() if refusal.exists() else 0)
elif "apply" in words:
    state.write_text("ready its-own-head-svc")
elif "delete" in words:
    state.unlink(missing_ok=True)
elif "raycluster" in words and "get" in words:
    print(state.read_text() if state.exists() else "", end="")
elif "secret" in words:
    print({secret!r}, end="")
elif "port-forward" in words:
    here = int(words[-1].partition(":")[0])
    os.execv(sys.executable, [sys.executable, {forwarder!r}, str(here), {target!r}])
"""

FORWARDER = """\
import socket, sys, threading
def pump(a, b):
    while data := a.recv(65536):
        b.sendall(data)
    b.shutdown(socket.SHUT_WR)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        one, _ = server.accept()
        other = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
        threading.Thread(target=pump, args=(one, other), daemon=True).start()
        threading.Thread(target=pump, args=(other, one), daemon=True).start()
"""


@pytest.fixture
def stand_in_kubectl(tmp_path, ray_cluster_of_others):
    """A stand-in for kubectl, for the order of its calls only: there is no Kubernetes here."""
    url, _ = ray_cluster_of_others
    folder = tmp_path / "kubectl"
    folder.mkdir()
    (folder / "forwarder.py").write_text(FORWARDER)
    program = folder / "kubectl"
    program.write_text(
        STAND_IN.format(
            python=sys.executable,
            folder=str(folder),
            secret=base64.b64encode(b"right").decode(),
            forwarder=str(folder / "forwarder.py"),
            target=url.rpartition(":")[2],
        )
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def calls(folder: Path) -> list[str]:
    lines = (folder / "calls").read_text().splitlines()
    return [" ".join(word for word in json.loads(line) if word[0] != "-") for line in lines]


def test_kuberay_goes_through_kubectl_in_order_with_a_stand_in(stand_in_kubectl, monkeypatch):
    from kdsweep.cluster import kubectl
    from kdsweep.cluster.jobs import ask
    from kdsweep.cluster.load import load_cluster

    monkeypatch.setenv("PATH", f"{stand_in_kubectl}{os.pathsep}{os.environ['PATH']}")
    path = ROOT / "cluster" / "kuberay.yaml"
    cluster, said = load_cluster(path), []
    with kubectl.joined(cluster) as link:
        assert link is None
    with kubectl.running(cluster, said.append) as link:
        assert ask(link) == "up"
        assert link.mlflow_url
    kubectl.end(cluster, said.append)
    order = calls(stand_in_kubectl)
    verbs = [line.removeprefix("default ").split(" ")[0] for line in order]
    assert verbs == [
        *["get", "get", "apply", "apply", "wait"],
        *["get", "get", "port-forward", "port-forward", "delete"],
    ]
    assert any("service/its-own-head-svc" in line for line in order)
    assert any("service/kdsweep-mlflow" in line for line in order)
    assert "right" not in "".join(said)
    assert said[-1].startswith("MLflow and the volume stay.")


def test_nothing_is_made_of_a_file_that_kubernetes_refuses(stand_in_kubectl, monkeypatch):
    from kdsweep.cluster import kubectl
    from kdsweep.cluster.load import load_cluster
    from kdsweep.errors import ResourceError

    monkeypatch.setenv("PATH", f"{stand_in_kubectl}{os.pathsep}{os.environ['PATH']}")
    told = 'strict decoding error: unknown field "spec.template.spec.containers[0].containerPorts"'
    (stand_in_kubectl / "refusal").write_text(told)
    cluster = load_cluster(ROOT / "cluster" / "kuberay.yaml")
    with pytest.raises(ResourceError, match="containerPorts"), kubectl.running(cluster, str):
        pass
    assert not (stand_in_kubectl / "state").exists()


def test_a_missing_kubectl_is_told(kdsweep, tmp_path):
    done = kdsweep(
        "status", "--cluster", str(ROOT / "cluster" / "kuberay.yaml"), PATH=str(tmp_path)
    )
    assert done.returncode == 2
    assert "kubectl is not installed here" in done.stderr
