"""What a configuration achieves, over the seeds it was trained with."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kdsweep.results.directions import Direction
from kdsweep.tracking import TrialRecord

UNDISTILLED = "undistilled"


@dataclass(frozen=True)
class Value:
    """A metric of one configuration.

    Attributes:
        mean: The mean over `seeds`.
        sd: Sample standard deviation over the seeds; NaN for fewer than two.
        seeds: The value of each seed.
        confirmed: Whether the seeds are confirmation seeds (see `Candidate`).
    """

    mean: float
    sd: float
    seeds: Mapping[int, float]
    confirmed: bool

    @property
    def n(self) -> int:
        """Seeds that the mean is taken over."""
        return len(self.seeds)


@dataclass(frozen=True)
class Candidate:
    """A finished trial of a student together with the finished trials that confirm it.

    The value of a metric is the mean over the confirmation seeds alone where there are any: the
    seed with which a configuration was found is left out, because being lucky with that seed may
    be why it was found. An undistilled baseline is chosen by nobody, so all its seeds count. A
    configuration that was not confirmed has the value of its only seed.

    Attributes:
        record: The trial.
        confirmations: Trials of the same configuration with other seeds.
        label: The trial's label, or that of the trial it confirms.
    """

    record: TrialRecord
    confirmations: tuple[TrialRecord, ...] = ()

    @property
    def label(self) -> str:
        """``undistilled``, ``published`` or empty."""
        return self.record.label

    @property
    def confirmed(self) -> bool:
        """Whether it was trained again with other seeds."""
        return bool(self.confirmations)

    @property
    def counted(self) -> Sequence[TrialRecord]:
        """The trials whose values count."""
        if not self.confirmed:
            return (self.record,)
        if self.label == UNDISTILLED:
            return (self.record, *self.confirmations)
        return self.confirmations

    def value(self, metric: str) -> Value | None:
        """The metric over the seeds that count, or None where none of them has a number for it."""
        found = {record.seed: record.metrics.get(metric, math.nan) for record in self.counted}
        seeds = {seed: value for seed, value in found.items() if not math.isnan(value)}
        if not seeds:
            return None
        values = list(seeds.values())
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        # Exact, unlike `fmean`: equal sizes stay equal, so that one of them dominates by accuracy.
        return Value(statistics.mean(values), sd, seeds, self.confirmed)

    def mean(self, metric: str) -> float:
        """The metric's value, or NaN."""
        value = self.value(metric)
        return math.nan if value is None else value.mean


def candidates(records: Iterable[TrialRecord]) -> list[Candidate]:
    """The finished students of a sweep, each with its finished confirmations.

    The teacher is none, and neither is a trial that was stopped, failed, rejected, or reused the
    result of an equal one.
    """
    finished = [record for record in records if record.state == "finished"]
    confirmations: dict[str, list[TrialRecord]] = {}
    for record in finished:
        if record.kind == "confirm" and record.parent is not None:
            confirmations.setdefault(record.parent, []).append(record)
    return [
        Candidate(record, tuple(confirmations.get(record.trial, ())))
        for record in finished
        if record.kind in ("search", "baseline")
    ]


def competing(found: Sequence[Candidate], metric: str, direction: Direction) -> list[Candidate]:
    """Those that may be called best in a metric.

    The best of many single seeds is a lucky one, and no fair rival to a mean over fresh seeds. A
    sweep confirms from the top: so a configuration that was not confirmed competes only if its
    seed beats the own seed of every confirmed one, and what lost to a confirmed one in the search
    does not come back because that one's mean turned out lower.
    """
    sign = 1.0 if direction == "max" else -1.0
    own = [
        sign * one.record.metrics[metric]
        for one in found
        if one.confirmed and metric in one.record.metrics
    ]
    if not own:
        return list(found)
    limit = max(own)
    return [
        one
        for one in found
        if one.confirmed or sign * one.record.metrics.get(metric, math.nan) > limit
    ]


def rivals(found: Sequence[Candidate], objectives: Mapping[str, Direction]) -> list[Candidate]:
    """Those that may stand on the front of several objectives: `competing` for more than one.

    A configuration that was not confirmed is left out if, by the seeds of the search, a confirmed
    one was as good in every objective and better in one.
    """

    def own(one: Candidate) -> list[float]:
        return [
            (1.0 if direction == "max" else -1.0) * one.record.metrics.get(metric, math.nan)
            for metric, direction in objectives.items()
        ]

    confirmed = [own(one) for one in found if one.confirmed]

    def lost(one: Candidate) -> bool:
        mine = own(one)
        return any(
            all(theirs >= value for theirs, value in zip(other, mine, strict=True))
            and other != mine
            for other in confirmed
        )

    return [one for one in found if one.confirmed or not lost(one)]
