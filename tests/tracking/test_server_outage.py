"""A real MLflow server that goes away and comes back."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from kdsweep.tracking import SweepInfo, TrackingUnavailable, TrialInfo, connect

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`mlflow server` on the loopback interface, in a process group of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.wait_until_it_answers()

    def wait_until_it_answers(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the server ended by itself"
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the server does not answer")

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    yield server
    server.stop()


def test_what_failed_while_the_server_was_down_is_recorded_once_when_it_is_back(server, tmp_path):
    student = tmp_path / "student"
    student.mkdir()
    (student / "student.json").write_text("{}")
    tracker = connect(server.uri, tmp_path / "home")
    tracker.open_sweep(SweepInfo("s", {"objectives": {"miou": "max"}}, "sweep: {}\n"))
    tracker.open_trial(TrialInfo("s", "t000", "search", params={"a.b": 0.5}, spec={"x": 1}))
    tracker.log_epoch("s", "t000", 1, {"miou": 0.1})
    server.stop()

    calls = [
        lambda: tracker.log_epoch("s", "t000", 2, {"miou": 0.2}),
        lambda: tracker.open_trial(TrialInfo("s", "t001", "search")),
        lambda: tracker.end_trial("s", "t000", "finished", "", {"miou": 0.2}, {"student": student}),
        lambda: tracker.log_summary("s", {"sweep.txt": student / "student.json"}, headline="x"),
    ]
    for call in calls:
        with pytest.raises(TrackingUnavailable, match="could not"):
            call()
    with pytest.raises(TrackingUnavailable, match="does not answer"):
        connect(server.uri, tmp_path / "home")

    server.start()
    for call in [*calls, *calls]:
        call()
    first, second = tracker.read_trials("s")
    assert (first.trial, first.state, first.epoch) == ("t000", "finished", 2)
    assert first.history()["miou"] == [(1, 0.1), (2, 0.2)]
    assert first.params == {"a.b": 0.5} and first.spec() == {"x": 1}
    assert (second.trial, second.state) == ("t001", "running")
    fetched = tracker.fetch("s", "t000", "student")
    assert (fetched / "student.json").read_text() == "{}"
    assert fetched.is_relative_to(tmp_path / "home")
    assert tracker.sweeps()[0].location.startswith(f"{server.uri}/#/experiments/")
