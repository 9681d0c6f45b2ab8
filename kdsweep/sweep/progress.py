"""How far a sweep is, as plain values that any display can show."""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kdsweep.spec.bounds import Bound
from kdsweep.sweep.ledger import Entry, Record
from kdsweep.sweep.ranking import feasible

_STAGES = {
    "teacher": "Training the teacher",
    "baseline": "Baselines and search",
    "search": "Searching",
    "confirm": "Confirming",
}


@dataclass(frozen=True)
class Row:
    """A running trial.

    Attributes:
        trial: Its id.
        epoch: Epochs done.
        epochs: Epochs of the whole run.
        value: The first objective after the last epoch, in words; empty before.
        began_s: When it got its slot, seconds since 1970.
    """

    trial: str
    epoch: int
    epochs: int
    value: str
    began_s: float

    @property
    def done(self) -> float:
        """Part of the epochs that is done, 0..1."""
        return min(1.0, self.epoch / max(1, self.epochs))


@dataclass(frozen=True)
class View:
    """A sweep at one moment.

    Attributes:
        stage: What it does, in words.
        counts: Trials by state.
        best: Best value of each objective so far that keeps the constraints, in words.
        running: The trials that hold a slot.
        began_s: Start of this process, seconds since 1970.
        now_s: When this was true.
        left_s: Estimate of the seconds that are left; None while nothing is known.
    """

    stage: str = "Starting Ray and the first worker"
    counts: Mapping[str, int] = field(default_factory=dict)
    best: tuple[str, ...] = ()
    running: tuple[Row, ...] = ()
    began_s: float = 0.0
    now_s: float = 0.0
    left_s: float | None = None


def view(
    record: Record,
    objectives: Mapping[str, str],
    trials: int,
    now_s: float,
    *,
    others: int = 0,
    bounds: Mapping[str, Bound] = MappingProxyType({}),
) -> View:
    """Describes a sweep.

    Args:
        record: What happened.
        objectives: Metrics with ``max`` or ``min``.
        trials: Sampled trials that are asked for.
        now_s: Seconds since 1970.
        others: Baselines and confirmations that come on top.
        bounds: What the best must keep.
    """
    entries = list(record.trials.values())
    running = [entry for entry in entries if entry.state == "running"]
    first = next(iter(objectives))
    rows = tuple(_row(entry, first) for entry in running)
    counts = Counter(entry.state for entry in entries if entry.state != "created")
    return View(
        stage=_STAGES[running[-1].plan.kind] if running else View.stage,
        counts=dict(counts),
        best=_best(entries, objectives, bounds),
        running=rows,
        began_s=record.sessions[-1][0] if record.sessions else 0.0,
        now_s=now_s,
        left_s=_left_s(record, trials, others, now_s),
    )


def _row(entry: Entry, metric: str) -> Row:
    value = entry.metrics.get(metric)
    return Row(
        trial=entry.plan.trial,
        epoch=entry.epoch,
        epochs=int(entry.plan.spec["train"]["epochs"]),
        value="" if value is None else f"{metric} {value:.4g}",
        began_s=entry.leases[-1][0] if entry.leases else 0.0,
    )


def _best(
    entries: list[Entry], objectives: Mapping[str, str], bounds: Mapping[str, Bound]
) -> tuple[str, ...]:
    found = []
    for metric, way in objectives.items():
        values = {
            entry.plan.trial: entry.metrics[metric]
            for entry in entries
            if entry.plan.kind in ("search", "baseline") and feasible(entry, [metric], bounds)
        }
        if values:
            pick = max if way == "max" else min
            trial = pick(values, key=lambda name: values[name])
            found.append(f"{metric} {values[trial]:.4g} ({trial})")
    return tuple(found)


def _left_s(record: Record, trials: int, others: int, now_s: float) -> float | None:
    """Mean time of a finished student x what is left / how many run at once."""
    students = [entry for entry in record.trials.values() if entry.plan.kind != "teacher"]
    took = [entry.leased_s for entry in students if entry.ended and entry.leases]
    if not took:
        return None
    running = [entry for entry in students if entry.state == "running"]
    settled = ("reused", "rejected")
    searched = sum(entry.plan.kind == "search" and entry.state not in settled for entry in students)
    beside = sum(entry.plan.kind != "search" for entry in students)
    to_come = max(0, trials - searched) + max(0, others - beside)
    waiting = to_come + sum(not entry.ended for entry in students)
    mean = statistics.fmean(took)
    spent = sum(max(0.0, now_s - entry.leases[-1][0]) for entry in running if entry.leases)
    return max(0.0, mean * waiting - spent) / max(1, len(running))
