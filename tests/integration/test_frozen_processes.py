"""Processes that are frozen for so long that the sweep goes on without them, and then come back."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from closed_form import computed, workers
from gated_engine import FORMULA, TRAIN, ended
from node_cluster import NodeCluster, Sweep, node_cluster, raylet, wait_until
from processes import runs
from ray_state import reserved
from small_lidar import write_root, write_sweep
from whole_sweep_checks import check_whole

from kdsweep.spec.load import load_sweep
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep import journal, launch

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.faults,
    # Ray leaves sockets and files to the garbage collector, and warns of its own deprecations.
    pytest.mark.filterwarnings("ignore"),
]

ASKED, EPOCHS = 3, 6


def started(folder: Path, cluster: NodeCluster, execute: str = TRAIN) -> Sweep:
    """A sweep of which each of two nodes has a trial at the gate."""
    values: dict[str, Any] = load_sweep(write_sweep(folder, write_root(folder / "root"))).to_dict()
    values["run"]["train"]["epochs"] = EPOCHS
    values |= {"name": "formula", "trials": ASKED, "baselines": []}

    def run(home: Path, **_: Any) -> Any:
        return launch(SweepSpec.from_dict(values), home=home, execute=execute)

    sweep = Sweep(folder / "home", cluster, run=run)
    sweep.wait_at_gate(2)
    return sweep


def at_gate(sweep: Sweep) -> dict[int, Path]:
    """The workers of the trials at the gate, with their logs."""
    logs = [sweep.folder / "runs" / trial / "epochs-0" for trial in sweep.at_gate()]
    return {pid: log for log in logs for pid in workers(log)}


def starts(sweep: Sweep, log: Path) -> int:
    told = journal.events(sweep.folder / "journal.jsonl")
    return sum(e["event"] == "trial_started" and e["trial"] == log.parent.name for e in told)


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def is_gone(pid: int) -> bool:
    return not runs(pid)


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Stops processes, those first that start others, and lets them go on in the end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            thaw(pid)


def thaw(pid: int) -> None:
    if not is_gone(pid):
        os.kill(pid, signal.SIGCONT)


def check(fault: str, sweep: Sweep, log: Path, table: Callable[..., None]) -> None:
    """The end of every sweep here: whole, and the moved trial was finished by its successor."""
    sweep.end()
    row = check_whole(sweep.home, "formula", ASKED)
    table(fault, **asdict(row))
    assert (row.finished, row.lost, row.duplicates) == (ASKED, 0, 0)
    assert sweep.moved() == [log.parent.name]
    last = int(log.read_text().split("\n")[-2].split()[1])
    assert ended(log)[last] == "finished"
    assert [*ended(log).values()].count("finished") == 1


def check_files(sweep: Sweep, log: Path) -> None:
    """What a real training leaves is the successor's, and nothing else is there."""
    kept = json.loads((log.parent / "metrics.json").read_text())
    assert kept["epoch"] == EPOCHS
    assert kept["metrics"] == sweep.end().record.trials[log.parent.name].metrics
    assert not [*log.parent.glob("checkpoint"), *log.parent.glob(".*")]


def test_a_frozen_worker_is_given_up_and_its_trial_goes_on(worker_path, tmp_path, fault_table):
    patience = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "5"}
    with node_cluster(tmp_path / "gate", **patience) as cluster:
        cluster.have(1, 1)
        sweep = started(tmp_path, cluster)
        pid, log = next(iter(at_gate(sweep).items()))
        with frozen(pid):
            cluster.gate.touch()
            wait_until(lambda: starts(sweep, log) == 2)
        check("train worker frozen, thawed when its trial has moved", sweep, log, fault_table)
        check_files(sweep, log)
        wait_until(partial(is_gone, pid))  # Ray ends a worker that was given up, frozen or not
        assert reserved() == []


@pytest.mark.parametrize(
    ("late", "execute", "end"),
    [("writing", TRAIN, "SupersededError"), ("reporting", FORMULA, "stopped")],
    ids=["writing", "reporting"],
)
def test_a_frozen_node_is_lost_and_what_wakes_up_on_it_is_too_late(
    worker_path, tmp_path, told, fault_table, late, execute, end
):
    """A training cannot write its checkpoint; a run that writes none is sent away by the pool."""
    with node_cluster(tmp_path / "gate") as cluster:
        _, doomed = cluster.have(1, 1)
        sweep = started(tmp_path, cluster, execute)
        there = raylet(doomed)
        ((pid, log),) = [item for item in at_gate(sweep).items() if item[0] in children(there)]
        with frozen(there, *children(there)):
            wait_until(lambda: "is lost. Trials at once: 1." in told())
            cluster.gate.touch()
            wait_until(lambda: max(computed(log)) >= 2)
            thaw(pid)  # before its raylet, which would end it
            wait_until(lambda: pid in ended(log))
        assert ended(log)[pid] == end
        wait_until(partial(is_gone, there))  # the cluster wants it no longer
        check(f"node frozen, its worker kept from {late}", sweep, log, fault_table)
        if execute == TRAIN:
            check_files(sweep, log)
            assert f"{log.parent.name} waits for an earlier attempt to leave" in told()
        assert reserved() == []
