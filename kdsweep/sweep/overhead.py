"""Where a sweep's time went: in training steps, in trials outside their steps, between trials."""

import itertools
import math
import statistics
from dataclasses import dataclass

from kdsweep.sweep.ledger import Record


@dataclass(frozen=True)
class Overhead:
    """Seconds of slots, over the finished students of a sweep.

    Attributes:
        trials: Trials that are counted.
        steps_s: Mean seconds of a trial within training steps.
        outside_s: Mean seconds of a trial in its slot, but outside training steps: building the
            network, evaluation, checkpoints, export, profile.
        between_s: Median seconds from the end of a trial to the start of the next in its slot, in
            the same process.
        startup_s: Seconds from the start of the process until the first trial had a slot.
    """

    trials: int
    steps_s: float
    outside_s: float
    between_s: float
    startup_s: float

    @property
    def share(self) -> float:
        """Part of a slot's time per trial that is not spent in training steps."""
        total = self.steps_s + self.outside_s + self.between_s
        return (self.outside_s + self.between_s) / total if total else math.nan

    def __str__(self) -> str:
        return (
            f"{self.outside_s:.1f} s outside training steps in a trial and {self.between_s:.2f} s "
            f"between two trials, {self.share:.0%} of a slot's time ({self.trials} trials with "
            f"{self.steps_s:.1f} s of steps each); start-up {self.startup_s:.1f} s"
        )


def overhead(record: Record) -> Overhead | None:
    """Measures a sweep from its journal; None where no student has finished with one lease."""
    counted = [
        entry
        for entry in record.trials.values()
        if entry.plan.kind != "teacher"
        and entry.state == "finished"
        and len(entry.leases) == 1
        and math.isfinite(entry.metrics.get("step_seconds", math.nan))
    ]
    if not counted:
        return None
    steps = statistics.fmean(entry.metrics["step_seconds"] for entry in counted)
    leased = statistics.fmean(entry.leased_s for entry in counted)
    gaps = _gaps(record)
    return Overhead(
        trials=len(counted),
        steps_s=steps,
        outside_s=max(0.0, leased - steps),
        between_s=statistics.median(gaps) if gaps else 0.0,
        startup_s=_startup_s(record),
    )


def _gaps(record: Record) -> list[float]:
    """Between two processes of the sweep nothing was to run: that pause is no gap."""
    slots: dict[tuple[str, float], list[list[float]]] = {}
    for entry in record.trials.values():
        if entry.slot and len(entry.leases) == 1:
            (lease,) = entry.leases
            slots.setdefault((entry.slot, _began_s(record, lease[0])), []).append(lease)
    gaps = []
    for leases in slots.values():
        leases.sort()
        gaps += [max(0.0, later[0] - earlier[1]) for earlier, later in itertools.pairwise(leases)]
    return gaps


def _startup_s(record: Record) -> float:
    leased = [entry.leases[0][0] for entry in record.trials.values() if entry.leases]
    return min(leased) - _began_s(record, min(leased)) if leased else 0.0


def _began_s(record: Record, time_s: float) -> float:
    """When the process began that ran the sweep at a time; that time where none had begun."""
    return max((start for start, _ in record.sessions if start <= time_s), default=time_s)
