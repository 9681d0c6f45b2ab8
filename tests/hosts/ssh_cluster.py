"""A cluster of virtual hosts, and the machines from which people use it."""

import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sweep_process import events
from virtual_hosts import Host

from kdsweep.sweep.ledger import Record
from kdsweep.sweep.relay import EPOCHS

TIMEOUT_S = 1800.0
_SPACES = Path(__file__).parents[2] / "search_spaces"
QUICKSTART, DIGITS = _SPACES / "quickstart.yaml", _SPACES / "digits.yaml"

_HEALTH = (
    "RAY_health_check_period_ms=2000 RAY_health_check_timeout_ms=5000 "
    "RAY_health_check_failure_threshold=4"
)
"""A host that was cut off is noticed after half a minute instead of one and a half."""


@dataclass(frozen=True)
class Laptop:
    """This machine as the user's own: one home folder, and no address of its own to reach.

    Attributes:
        home: The user's home folder.
    """

    home: Path

    def kdsweep(self, *words: str | Path) -> str:
        """Runs a command to its end, which has to be a good one; gives what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "kdsweep", *map(str, words)],
            env={**os.environ, "HOME": str(self.home), "COLUMNS": "160"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@dataclass(frozen=True)
class Desk:
    """A host that belongs to no cluster: another machine of the same user.

    Attributes:
        host: The host.
    """

    host: Host

    def kdsweep(self, *words: str | Path) -> str:
        """See `Laptop.kdsweep`."""
        line = shlex.join([sys.executable, "-m", "kdsweep", *map(str, words)])
        checkout = Path(__file__).parents[2]
        return self.host.run(f"cd {checkout} && {line} 2>&1", timeout_s=TIMEOUT_S)


def write_cluster(folder: Path, head: Host, workers: list[Host]) -> Path:
    """A cluster file as people write it, of which every worker has one CPU."""
    name = f"hosts-{secrets.token_hex(3)}"
    home = folder / "kdsweep"
    ray = f"{sys.prefix}/bin/ray start --disable-usage-stats --object-store-memory=200000000"
    values: dict[str, Any] = {
        "cluster_name": name,
        "provider": {
            "type": "local",
            "head_ip": head.address,
            "worker_ips": [worker.address for worker in workers],
        },
        "auth": {"ssh_user": "root", "ssh_private_key": str(head.key)},
        "head_start_ray_commands": [
            f"{_HEALTH} KDSWEEP_HOME={home} MLFLOW_TRACKING_URI=http://127.0.0.1:5000 "
            f"{ray} --head --port=6379 --dashboard-port=8265 --num-cpus=0 "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
            f"mkdir -p {home}; MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false "
            f"MLFLOW_DISABLE_TELEMETRY=true {sys.prefix}/bin/mlflow server --host 127.0.0.1 "
            f"--port 5000 --workers 1 --backend-store-uri sqlite:///{home}/mlflow.db "
            f"--artifacts-destination {home}/artifacts",
        ],
        "worker_start_ray_commands": [f"{ray} --address=$RAY_HEAD_IP:6379 --num-cpus=1"],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values, width=1000))
    return path


class Watch:
    """What a sweep has done so far, read from the shared folder.

    Args:
        folder: The shared folder.
        sweep: Name of the sweep, which is about to be launched.
    """

    def __init__(self, folder: Path, sweep: str) -> None:
        self.home = folder / "kdsweep"
        self.name = sweep
        self._folder = self.home / "sweeps" / sweep
        self._began_s = time.time()

    @property
    def record(self) -> Record:
        """The sweep as its journal tells it."""
        return Record.read(self._folder / "journal.jsonl")

    def hosts_of(self, trial: str) -> list[str]:
        """The hosts on which a trial was taken up, in order."""
        return [event["node"] for event in self._started() if event["trial"] == trial]

    def hosts_since(self, moment_s: float) -> set[str]:
        """The hosts on which trials were taken up after a moment."""
        return {event["node"] for event in self._started() if event["t"] > moment_s}

    def in_the_middle(self) -> tuple[str, str] | None:
        """A sampled trial between the rungs of epochs 4 and 8, which stop none, and its host."""
        if not self._folder.joinpath("journal.jsonl").exists():
            return None
        for entry in self.record.of_kind("search"):
            if entry.state == "running" and 5 <= entry.epoch <= 6:
                return entry.plan.trial, entry.node
        return None

    def wait_for(self, what: str, ready: Callable[[], Any]) -> Any:
        """Waits while the sweep runs for something to become true; gives its value."""
        until = time.monotonic() + TIMEOUT_S
        while not (found := ready()):
            over = self._folder.exists() and self.record.state == "finished"
            assert not over and time.monotonic() < until, f"{what}: not in this sweep"
            time.sleep(0.1)  # other hosts are waited for
        return found

    def repeated(self) -> dict[str, int]:
        """Epochs computed more than once, by trial; fails if the journal lacks a computed one."""
        found = {}
        for trial, entry in self.record.trials.items():
            if not entry.leases:
                continue  # never trained: its result was known
            lines = events(self._folder / "runs" / trial / EPOCHS)
            epochs = [event["epoch"] for event in lines]
            assert set(epochs) <= entry.history.keys(), trial
            assert sorted(entry.history) == [*range(1, entry.epoch + 1)], trial
            found[trial] = len(epochs) - len(set(epochs))
        return {trial: count for trial, count in found.items() if count}

    def figures(self) -> str:
        """What the sweep took."""
        told = events(self._folder / "journal.jsonl")
        first = next(event["t"] for event in told if event["event"] == "epoch")
        return (
            f"{self.name}: launch to the first epoch {first - self._began_s:.0f} s, to the end "
            f"{told[-1]['t'] - self._began_s:.0f} s, {len(self.record.trials)} trials, "
            f"{sum(self.repeated().values())} epochs repeated"
        )

    def _started(self) -> list[dict[str, Any]]:
        told = events(self._folder / "journal.jsonl")
        return [event for event in told if event["event"] == "trial_started"]
