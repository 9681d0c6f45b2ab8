"""The commands about clusters: which options go together, and what is said where nothing is up."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ports import free_ports

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
    return free_ports(2)


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


def test_a_missing_kubectl_is_told(kdsweep, tmp_path):
    done = kdsweep(
        "status", "--cluster", str(ROOT / "cluster" / "kuberay.yaml"), PATH=str(tmp_path)
    )
    assert done.returncode == 2
    assert "kubectl is not installed here" in done.stderr
