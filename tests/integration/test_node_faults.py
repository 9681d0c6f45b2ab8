"""What a sweep does while nodes of its cluster die, leave and join: real nodes on this machine."""

import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from closed_form import EXECUTE, computed, raylets
from node_cluster import NodeCluster, Sweep, node_cluster, raylet, wait_until
from ray_state import reserved
from sweep_process import Driver
from whole_sweep_checks import check_whole, rungs_from, rungs_of

from kdsweep.errors import ResourceError
from kdsweep.sweep import launch, resume
from kdsweep.sweep.ledger import Record
from kdsweep.sweep.schedulers import RungScheduler

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray leaves sockets and files to the garbage collector, and warns of its own deprecations.
    pytest.mark.filterwarnings("ignore"),
]

ASKED = 6


@pytest.fixture(scope="module")
def cluster(worker_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCluster]:
    """One head for the whole module; this process is its driver."""
    with node_cluster(tmp_path_factory.mktemp("gate") / "open") as nodes:
        yield nodes


@pytest.fixture
def live_rungs(monkeypatch: pytest.MonkeyPatch) -> list[RungScheduler]:
    """The schedulers that the sweeps of a test use."""
    made: list[RungScheduler] = []

    class Seen(RungScheduler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("kdsweep.sweep.schedulers.RungScheduler", Seen)
    return made


@pytest.fixture
def whole(fault_table, live_rungs, cluster):
    """Checks all that must be true of a sweep after its fault, and puts it into the table."""

    def check(fault: str, sweep: Sweep) -> None:
        record = sweep.end().record
        row = check_whole(sweep.home, "formula", ASKED)
        fault_table(fault, **asdict(row))
        assert (row.lost, row.duplicates) == (0, 0)
        assert rungs_of(live_rungs[0]) == rungs_from(sweep.spec, record)
        assert reserved() == []

    return check


def logs(home: Path, trial: str) -> list[Path]:
    return sorted((home / "sweeps" / "formula" / "runs" / trial).glob("epochs-*"))


@pytest.fixture
def unshare() -> None:
    """Skips where this process may not give another one mounts of its own."""
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs the right to make a mount namespace: {tried.stderr.decode()}")


def test_the_trial_of_a_killed_node_goes_on_in_the_slot_that_is_left(
    cluster, tmp_path, whole, told
):
    _, doomed = cluster.have(1, 1)
    sweep = Sweep(tmp_path, cluster)
    sweep.wait_at_gate(2)
    cluster.kill(doomed)
    wait_until(lambda: "is lost. Trials at once: 1." in told())
    whole("node killed", sweep)
    assert len(sweep.moved()) == 1


@pytest.mark.faults
def test_a_node_that_joins_gets_trials_again_when_it_is_back_but_not_without_the_home_folder(
    cluster, tmp_path, whole, told, unshare
):
    cluster.have(1)
    sweep = Sweep(tmp_path, cluster)
    sweep.wait_at_gate(1)
    blind = cluster.add_blind(4, tmp_path)
    try:
        wait_until(lambda: "gets no trials: it does not see the home folder" in told())
        joined = cluster.add(1)
        sweep.wait_at_gate(2)
        assert sweep.starts("slot-1") == 1
        cluster.kill(joined)
        cluster.add(1)
        wait_until(lambda: sweep.starts("slot-1") == 2)
        whole("node joined, lost and back", sweep)
    finally:
        blind.terminate()
        blind.wait()
    assert len(sweep.moved()) == 1
    assert "joined. Trials at once: 2." in told()


@pytest.mark.faults
def test_a_node_that_was_refused_gets_trials_once_it_sees_the_home_folder(
    cluster, tmp_path, whole, told, unshare, monkeypatch
):
    monkeypatch.setattr("kdsweep.sweep.nodes._AGAIN_S", 0.5)
    cluster.have(1)
    sweep = Sweep(tmp_path, cluster)
    sweep.wait_at_gate(1)
    blind = cluster.add_blind(1, tmp_path)
    try:
        wait_until(lambda: "gets no trials: it does not see the home folder" in told())
        cluster.show(blind, tmp_path)
        sweep.wait_at_gate(2)
        whole("node refused, then mended", sweep)
    finally:
        blind.terminate()
        blind.wait()
    assert told().count("gets no trials") == 1  # said once, however often it was asked
    assert "joined. Trials at once: 2." in told()


def test_the_trial_of_a_draining_node_moves_before_the_node_is_gone(cluster, tmp_path, whole, told):
    """Each node holds one trial of two workers, which are packed on it."""
    _, doomed = cluster.have(2, 2)
    sweep = Sweep(tmp_path, cluster, resources={"workers": 2})
    sweep.wait_at_gate(2)
    cluster.drain(doomed, deadline_s=600.0)
    wait_until(lambda: "is about to leave. Trials at once: 1." in told())
    whole("node drained", sweep)
    assert len(sweep.moved()) == 1
    for entry in sweep.end().record.of_kind("search"):
        first, second = logs(tmp_path, entry.plan.trial)
        assert raylets(first) == raylets(second)
    cluster.kill(doomed)


def test_a_spread_trial_that_loses_one_of_its_nodes_goes_on_with_another(
    cluster, tmp_path, whole, monkeypatch
):
    nodes = cluster.have(1, 1, 1)
    monkeypatch.setattr("kdsweep.sweep.session._JOIN_S", 0.0)
    packed = Sweep(tmp_path / "packed", cluster, resources={"workers": 2})
    with pytest.raises(ResourceError, match=r"sweep\.resources\.placement=spread"):
        packed.end()
    sweep = Sweep(tmp_path, cluster, resources={"workers": 2, "placement": "spread"})
    sweep.wait_at_gate(1)  # as the first worker says; the second may be later
    wait_until(lambda: [*map(computed, logs(tmp_path, "t001"))] == [[1], [1]])
    first, second = logs(tmp_path, "t001")
    (other,) = raylets(second) - raylets(first)
    # The first worker meets its dead peer in a collective, before Ray Train tells it to end.
    cluster.kill(next(node for node in nodes if raylet(node) == other), wait=False)
    whole("one of two nodes of a trial killed", sweep)
    assert len(sweep.moved()) == 1


def test_a_node_that_does_not_see_the_home_folder_is_refused(cluster, tmp_path, unshare):
    cluster.have(1)
    blind = cluster.add_blind(4, tmp_path)
    try:
        wait_until(lambda: cluster.num_alive() == 3)
        with pytest.raises(ResourceError) as refused:
            launch(Sweep.spec_of(), home=tmp_path, quiet=True, execute=EXECUTE)
    finally:
        blind.terminate()
        blind.wait()
    said = str(refused.value)
    assert said.startswith("node ") and f"does not see the home folder {tmp_path}" in said
    assert "--home" in said


@pytest.mark.faults
def test_a_sweep_goes_on_where_it_was_on_another_cluster(cluster, tmp_path, whole):
    cluster.have(1)
    cluster.gate.unlink(missing_ok=True)
    options = {"address": cluster.address, "changes": {**Sweep.CHANGES, "confirm": {"top": 0}}}
    first = Driver(tmp_path, "launch", epoch_s=0.2, options=options)
    first.wait_for("epoch", 3)
    first.kill()  # while a trial waits at the gate
    before = Record.read(tmp_path / "sweeps" / "formula" / "journal.jsonl")
    cluster.stop()
    cluster.start()
    cluster.have(1)
    sweep = Sweep(tmp_path, cluster, run=lambda **where: resume("formula", **where))
    whole("driver and cluster gone, resumed on another", sweep)
    assert sweep.moved() == [n for n, e in before.trials.items() if e.leases and not e.ended]
