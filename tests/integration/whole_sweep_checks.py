"""What must be true of a sweep of formulas once it has ended, whatever happened on the way.

`check_whole` is called after a fault and a recovery. It reads what a sweep leaves behind: its
journal, the lines that `closed_form` wrote for every epoch, and the tracker's database.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from closed_form import begun, computed
from mlflow import MlflowClient
from optuna.trial import TrialState

from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep import journal
from kdsweep.sweep.admission import Admission
from kdsweep.sweep.budget import Budget
from kdsweep.sweep.ledger import ENDED, Entry, Ledger, Record
from kdsweep.sweep.lock import is_running
from kdsweep.sweep.planner import Planner
from kdsweep.sweep.proposals import SETTLED
from kdsweep.sweep.schedulers import EarlyStop, RungScheduler, sizes

Rungs = dict[int, dict[str, float]]


@dataclass(frozen=True)
class Row:
    """What a fault cost; `dataclasses.asdict` gives the columns of the table of faults.

    Attributes:
        asked: Sampled trials that were asked for.
        finished: Those of them that finished or were stopped early by the search.
        repeated: Epochs that were begun more than once.
        lost: Epochs that a worker computed and the record does not hold.
        duplicates: MLflow runs beyond one for each trial.
    """

    asked: int
    finished: int
    repeated: int
    lost: int
    duplicates: int


def check_whole(home: Path, name: str, asked: int, *, tracking_uri: str | None = None) -> Row:
    """Asserts that a sweep is whole and gives the figures.

    Args:
        home: Its home folder.
        name: Its name.
        asked: Sampled trials that were asked for, those of `resume --more` included.
        tracking_uri: Where it was tracked; default: the database in `home`.
    """
    folder = home / "sweeps" / name
    path = folder / "journal.jsonl"
    record, told = Record.read(path), journal.events(path)
    assert record.state == "finished", record.ends[-1:]
    assert not is_running(folder)
    sampled = [entry for entry in record.of_kind("search") if entry.state not in SETTLED]
    assert len(sampled) == asked
    assert {n: e.state for n, e in record.trials.items() if e.state not in ENDED} == {}
    _check_journal(told)
    spec = SweepSpec.from_dict(json.loads((folder / "sweep.json").read_text()))
    _check_study(spec, path, asked)
    _check_decisions(spec, record, told)
    ran = [entry for entry in record.trials.values() if entry.leases]
    return Row(
        asked=asked,
        finished=sum(entry.state in ("finished", "stopped") for entry in sampled),
        repeated=sum(_repeated(entry, folder) for entry in ran),
        lost=sum(_lost(entry, folder) for entry in ran),
        duplicates=_duplicates(tracking_uri or f"sqlite:///{home / 'mlflow.db'}", name, record),
    )


def rungs_of(scheduler: RungScheduler) -> Rungs:
    """The values at each rung of a live scheduler, by epoch and trial."""
    (bracket,) = scheduler._brackets
    return {
        int(epoch): {trial: float(value) for trial, value in values.items()}
        for epoch, values in bracket._rungs
        if values
    }


def rungs_from(spec: SweepSpec, record: Record) -> Rungs:
    """The rungs that a resume would begin with."""
    stop = EarlyStop.of(spec)
    assert stop is not None
    scheduler = RungScheduler(stop)
    scheduler.replay(record)
    return rungs_of(scheduler)


def _check_journal(told: list[dict[str, Any]]) -> None:
    """Every trial is created once and finishes at most once, every epoch is recorded once."""
    kinds = {
        "trial_created": [e["trial"] for e in told if e["event"] == "trial_created"],
        "epoch": [(e["trial"], e["epoch"]) for e in told if e["event"] == "epoch"],
        "finished": [
            e["trial"] for e in told if e["event"] == "trial_ended" and e["state"] == "finished"
        ],
    }
    for kind, found in kinds.items():
        assert {what: n for what, n in Counter(found).items() if n > 1} == {}, kind


def _check_study(spec: SweepSpec, path: Path, asked: int) -> None:
    """A resume would find every sampled trial in Optuna's study, and none still running."""
    with _copied(path) as copy, Ledger.open(copy) as ledger:
        planner = Planner(
            spec,
            ledger,
            budget=Budget(),
            trials=asked,
            admission=Admission(spec),
            teacher=None,
        )
        states = Counter(trial.state for trial in planner.study.trials)
        assert sum(states.values()) == len(ledger.record.of_kind("search"))
    assert states.keys() <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}


def _check_decisions(spec: SweepSpec, record: Record, told: list[dict[str, Any]]) -> None:
    """Who was stopped early is who the recorded epochs, in their order, say."""
    stop = EarlyStop.of(spec)
    if stop is None:
        return
    stops: dict[str, int] = {}
    scheduler = RungScheduler(
        stop,
        lambda trial, epoch, on: None if on else stops.setdefault(trial, epoch),
        lambda trial: sizes(spec, record.trials[trial].metrics),
    )
    trials = {entry.plan.trial: _Trial(entry.plan.trial) for entry in record.of_kind("search")}
    for trial in trials.values():
        scheduler.on_trial_add(None, trial)
    for event in told:
        if event["event"] == "epoch" and event["trial"] in trials:
            result = {"epoch": event["epoch"], **event["metrics"]}
            scheduler.on_trial_result(None, trials[event["trial"]], result)
    for name in trials:
        entry = record.trials[name]
        if entry.state == "stopped":
            assert stops.get(name) == entry.epoch, name
        elif entry.state == "finished" and len(entry.leases) == 1:
            # One that was interrupted at a rung has its word there from before and goes on.
            assert name not in stops


class _Trial:
    """As much of a Tune trial as the scheduler asks for."""

    def __init__(self, trial: str) -> None:
        self.config = {"trial": trial, "kind": "search"}


def _log(entry: Entry, folder: Path) -> Path:
    """Lines of a trial's epochs; the teacher's are not in the sweep's folder."""
    run_dir = Path(entry.run_dir) if entry.run_dir else folder / "runs" / entry.plan.trial
    return run_dir / "epochs-0"


def _repeated(entry: Entry, folder: Path) -> int:
    """Epochs begun again: whoever takes a trial up begins at most one epoch anew."""
    epochs = begun(_log(entry, folder))
    steps = [later - earlier for earlier, later in pairwise(epochs)]
    assert set(steps) <= {0, 1}, (entry.plan.trial, epochs)
    return steps.count(0)


def _lost(entry: Entry, folder: Path) -> int:
    return len(set(computed(_log(entry, folder))) - entry.history.keys())


def _duplicates(uri: str, name: str, record: Record) -> int:
    """Superfluous MLflow runs; every trial has one that ended as the record says."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    tags = [run.data.tags for run in runs]
    states = {tag["kdsweep.trial"]: tag["kdsweep.state"] for tag in tags}
    assert states.pop(".sweep") == record.state
    assert states == {name: entry.state for name, entry in record.trials.items()}
    assert "RUNNING" not in {run.info.status for run in runs}
    return len(tags) - len(states) - 1


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A copy to open for writing, so that the original stays what the sweep left."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copy2(path, folder))
