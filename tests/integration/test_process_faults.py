"""Every process of a sweep is killed in mid-trial, and the sweep is whole in the end."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from closed_form import SLOWLY, begun, sweep, workers
from processes import runs
from ray_state import actors, reserved
from sweep_process import Driver, command_line, counted, events
from watched import Watched
from whole_sweep_checks import Row, check_whole

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray leaves sockets and files to the garbage collector, and warns of its own deprecations.
    pytest.mark.filterwarnings("ignore"),
]

TRIALS, EPOCHS = 12, 12


def last_worker(log: Path) -> int:
    return int(log.read_text().splitlines()[-1].split()[1])


VICTIMS: dict[str, Callable[[Watched, str], list[int]]] = {
    "train worker killed": lambda watched, trial: [last_worker(watched.log(trial))],
    "all trial drivers killed": lambda *_: actors("ResourceTrainable"),
    "all Train controllers killed": lambda *_: actors("TrainController"),
    "host of all slots killed": lambda *_: actors("SlotHost"),
}

WORKERS_END_TOO = {"all Train controllers killed", "host of all slots killed"}
"""Ray ends them a moment later."""


@dataclass(frozen=True)
class Fault:
    """What was running when a process was killed, and what it had computed."""

    trials: tuple[str, ...]
    epochs: dict[str, list[int]]
    processes: int


@dataclass(frozen=True)
class Killed:
    watched: Watched
    faults: dict[str, Fault]
    row: Row
    reserved: list[str]


def epochs_begun(watched: Watched) -> dict[str, list[int]]:
    return {log.parent.name: begun(log) for log in (watched.folder / "runs").glob("*/epochs-0")}


def in_mid_run(watched: Watched, before: Fault | None) -> tuple[str, ...]:
    """Trials that have computed since the fault before, and have epochs before them."""
    known = before.epochs if before else {}
    return tuple(
        trial
        for trial, epoch in sorted(watched.training().items())
        if 2 <= epoch <= EPOCHS - 5
        and len(begun(watched.log(trial))) > len(known.get(trial, ())) + 2
        and runs(last_worker(watched.log(trial)))
    )


def kill(pids: Iterable[int]) -> int:
    """Gives how many were there still."""
    killed = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def have_ended(pids: Iterable[int]) -> bool:
    return not any(map(runs, pids))


def go_on(watched: Watched, trials: Iterable[str], before: dict[str, list[int]]) -> bool:
    """Whether each trial that has not ended has begun an epoch more than before."""
    now = epochs_begun(watched)
    left = watched.training().keys() & set(trials)
    return all(len(now.get(trial, ())) > len(before.get(trial, ())) for trial in left)


@pytest.fixture(scope="module")
def killed(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """One sweep in which one process after another is killed; nobody starts it again."""
    home = tmp_path_factory.mktemp("home")
    run = sweep().run.to_dict()
    run["train"]["epochs"] = EPOCHS
    spec = sweep(run=run, trials=TRIALS, early_stop={"grace_epochs": 9, "reduction": 4})
    faults: dict[str, Fault] = {}
    last: Fault | None = None
    with Watched(spec, home, execute=SLOWLY) as watched:
        for done, find in VICTIMS.items():
            trials = watched.wait_until(done, partial(in_mid_run, watched, last))
            too = actors("RayTrainWorker") if done in WORKERS_END_TOO else []
            pids, epochs = find(watched, trials[0]), epochs_begun(watched)
            last = faults[done] = Fault(trials, epochs, kill(pids))
            # What it makes trials repeat is to be told from what the next one does.
            watched.wait_until("they end", partial(have_ended, [*pids, *too]))
            again = partial(go_on, watched, watched.training(), epochs_begun(watched))
            watched.wait_until("the trials go on", again)
    yield Killed(watched, faults, check_whole(home, spec.name, TRIALS), reserved())


def test_a_sweep_whose_processes_were_killed_ends_whole_by_itself(killed: Killed) -> None:
    finished = killed.watched.finished
    assert finished is not None, killed.watched.error
    assert (finished.state, finished.reason) == ("finished", "")
    assert len(finished.record.starts) == 1
    assert (killed.row.lost, killed.row.duplicates) == (0, 0)


def until(killed: Killed, done: str) -> dict[str, list[int]]:
    """Epochs begun before the fault that came next, or in all."""
    later = list(killed.faults)[list(killed.faults).index(done) + 1 :]
    return killed.faults[later[0]].epochs if later else epochs_begun(killed.watched)


def repeats(epochs: dict[str, list[int]]) -> dict[str, int]:
    return {trial: len(begun) - len(set(begun)) for trial, begun in epochs.items()}


@pytest.mark.parametrize("done", VICTIMS)
def test_a_killed_process_costs_at_most_one_epoch_of_each_trial(
    killed: Killed, done: str, fault_table: Callable[..., None]
) -> None:
    fault = killed.faults[done]
    assert fault.processes
    record = killed.watched.finished.record
    assert {record.trials[trial].state for trial in fault.trials} <= {"finished", "stopped"}
    before = repeats(fault.epochs)
    repeated = {
        trial: n - before.get(trial, 0) for trial, n in repeats(until(killed, done)).items()
    }
    assert set(repeated.values()) <= {0, 1}
    assert sum(repeated.values()) <= 2  # two slots
    if done == "all trial drivers killed":
        assert sum(repeated.values()) == 0  # their workers never noticed
    fault_table(done, **{**asdict(killed.row), "repeated": sum(repeated.values())})


def test_a_killed_worker_was_replaced_by_another_process(killed: Killed) -> None:
    trial = killed.faults["train worker killed"].trials[0]
    assert len(workers(killed.watched.log(trial))) >= 2


def test_no_resources_stay_reserved(killed: Killed) -> None:
    assert killed.reserved == []


SWEEP_FILE = """
run:
  task: lidar_seg
  data: {synth: {scenes: 2}}
  teacher: {model: cylinder3d, width: 0.5, train: {epochs: 2}}
  student: {model: cylinder3d, width: 0.25}
  method: {name: pvd}
  train: {epochs: 4}
sweep: {name: formula, objectives: {miou: max}, trials: 8}
space: {method.point_output: {log_uniform: [0.0001, 100]}}
"""


@dataclass(frozen=True)
class Cut:
    """A driver that died right after it had created a trial, and what followed."""

    home: Path
    died: int
    left: list[dict[str, Any]]
    refused: list[tuple[int, str]]
    first_pid: int
    resumed: tuple[int, str]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Cut:
    """Killed between a trial's creation and its start, resumed, and launched again meanwhile."""
    home = tmp_path_factory.mktemp("home")
    changes = {"trials": 6, "confirm": {"top": 0}}
    dying = {"changes": changes, "die_after": ["trial_created", 6]}
    first = Driver(home, "launch", epoch_s=0.02, options=dying)
    died, _ = first.end()
    left = events(first.journal)
    gate = tmp_path_factory.mktemp("gate") / "open"  # it cannot end before
    second = Driver(home, "resume", epoch_s=0.02, CLOSED_FORM_GATE=str(gate))
    second.wait_for("sweep_started", 2)  # it holds the lock
    file = home / "again.yaml"
    file.write_text(SWEEP_FILE)
    try:
        refused = [
            command_line("launch", file, "--home", home),
            command_line("resume", "formula", "--home", home),
        ]
        still_runs = second.process.poll() is None
    finally:
        gate.touch()
    resumed = second.end()
    assert still_runs, resumed
    return Cut(home, died, left, refused, second.process.pid, resumed)


@pytest.mark.faults
def test_a_driver_killed_right_after_creating_a_trial_is_resumed_whole(
    cut: Cut, fault_table: Callable[..., None]
) -> None:
    assert cut.died == -signal.SIGKILL
    assert cut.left[-1]["event"] == "trial_created"
    name = cut.left[-1]["trial"]
    code, output = cut.resumed
    assert code == 0, output
    row = check_whole(cut.home, "formula", 6)
    assert (row.lost, row.duplicates) == (0, 0)
    assert row.repeated <= 2
    told = events(cut.home / "sweeps" / "formula" / "journal.jsonl")
    kinds = [event["event"] for event in told if event.get("trial") == name]
    assert kinds[:2] == ["trial_created", "trial_started"]
    assert kinds.count("trial_created") == 1
    fault_table("driver killed after creating a trial, resumed", **asdict(row))


@pytest.mark.faults
def test_a_sweep_that_runs_is_not_launched_or_resumed_a_second_time(
    cut: Cut, fault_table: Callable[..., None]
) -> None:
    for code, output in cut.refused:
        assert code == 2
        assert "sweep 'formula' is running already" in output
        assert f"process {cut.first_pid}" in output
        assert "Traceback" not in output
    code, output = cut.resumed
    assert code == 0, output
    starts = counted(cut.home / "sweeps" / "formula" / "journal.jsonl")["sweep_started"]
    assert starts == 2  # the launch and the resume; the refused ones left no trace
    fault_table("launched twice, refused", **asdict(check_whole(cut.home, "formula", 6)))
