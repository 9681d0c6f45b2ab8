"""A real MLflow server that tests may stop, freeze and start again."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from ports import free_ports


class Server:
    """`mlflow server` on the loopback interface, in a process group of its own.

    Args:
        folder: Keeps its database, its artifacts and its log, also while it is down.
        database: Another database than an SQLite file in the folder.
        variables: What its environment has besides.
    """

    def __init__(self, folder: Path, database: str | None = None, **variables: str) -> None:
        self.folder = folder
        self.database = database or f"sqlite:///{folder / 'mlflow.db'}"
        self.variables = variables
        self.log = folder / "mlflow.log"
        (self.port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, on the same port every time, and waits until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **self.variables,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process is not None and self.process.poll() is None, "it ended by itself"
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the server does not answer")

    def freeze(self) -> None:
        """Lets all its processes hang: connections are taken, no answer comes."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets them go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kills all its processes; stopping twice is allowed."""
        if self.process is not None and self.process.poll() is None:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)
