"""What distillation is worth: a student against the undistilled one of the same size."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kdsweep.errors import SweepError
from kdsweep.results.directions import Direction
from kdsweep.results.measured import UNDISTILLED, Candidate, Value
from kdsweep.results.twin import trained_alike


@dataclass(frozen=True)
class Gain:
    """The gain of a student over a baseline of equal size. Positive is better, whatever the metric.

    Attributes:
        metric: Name of the metric.
        trial: Id of the student's trial.
        baseline: Id of the baseline's trial.
        student_value: The student's value over its own seeds.
        baseline_value: The baseline's value over its own seeds.
        differences: Gain of each seed that both were trained with.
        mean: Mean of `differences`; without a common seed, the difference of the two means.
        sd: Sample standard deviation of `differences`; NaN for fewer than two.
        same_recipe: Whether the baseline was trained as the student was, but for the method.
    """

    metric: str
    trial: str
    baseline: str
    student_value: Value
    baseline_value: Value
    mean: float
    sd: float
    differences: Mapping[int, float] = field(default_factory=dict)
    same_recipe: bool = True

    @property
    def n(self) -> int:
        """Pairs of runs with the same seed."""
        return len(self.differences)

    def __str__(self) -> str:
        """The gain in words: ``+0.021 ± 0.004 (3 seeds)``."""
        if self.n > 1:
            return f"{self.mean:+.4f} ± {self.sd:.4f} (paired, {self.n} seeds)"
        if self.n == 1:
            return f"{self.mean:+.4f} (one seed: no spread)"
        return f"{self.mean:+.4f} (difference of means, no common seed)"


def gain_between(
    student: Candidate,
    baseline: Candidate,
    metric: str,
    direction: Direction,
    *,
    same_recipe: bool = True,
) -> Gain | None:
    """Compares two configurations seed by seed.

    Args:
        student: The distilled student.
        baseline: What it is compared with.
        metric: Name of the metric.
        direction: The better direction of the metric.
        same_recipe: See `Gain`.

    Returns:
        The gain, or None where one of them has no value of the metric.
    """
    own, other = student.value(metric), baseline.value(metric)
    if own is None or other is None:
        return None
    sign = 1.0 if direction == "max" else -1.0
    differences = {
        seed: sign * (value - other.seeds[seed])
        for seed, value in sorted(own.seeds.items())
        if seed in other.seeds
    }
    values = list(differences.values())
    mean = statistics.fmean(values) if values else sign * (own.mean - other.mean)
    sd = statistics.stdev(values) if len(values) > 1 else math.nan
    return Gain(
        metric,
        student.record.trial,
        baseline.record.trial,
        own,
        other,
        mean,
        sd,
        differences,
        same_recipe,
    )


def comparable(found: Sequence[Candidate], metric: str) -> list[Candidate]:
    """The distilled students that have a metric and an undistilled baseline of their size."""
    sizes = {one.record.metrics.get("params") for one in found if one.label == UNDISTILLED}
    return [
        one
        for one in found
        if one.label != UNDISTILLED
        and one.record.metrics.get("params") in sizes
        and not math.isnan(one.mean(metric))
    ]


def equal_size(
    student: Candidate, baselines: Sequence[Candidate], metric: str, direction: Direction
) -> tuple[Candidate, bool]:
    """The undistilled baseline of exactly a student's size that it has to beat.

    That is its twin, trained as it was but for the method: where the learning rate is searched, a
    baseline with another one says nothing of distillation. Without a twin it is the best of that
    size, never the one that flatters most.

    Args:
        student: The distilled student.
        baselines: What it can be compared with; those that are distilled are passed over.
        metric: What the best is the best in.
        direction: The better direction of the metric.

    Returns:
        The baseline, and whether it is the twin.

    Raises:
        SweepError: There is none; the message says which sizes there are.
        TrackingUnavailable: The store does not answer.
    """
    undistilled = [one for one in baselines if one.label == UNDISTILLED]
    size = student.record.metrics.get("params")
    fitting = [one for one in undistilled if one.record.metrics.get("params") == size]
    if not fitting:
        sizes = sorted({one.record.metrics.get("params", math.nan) for one in undistilled})
        have = ", ".join(f"{value:,.0f}" for value in sizes) or "none"
        raise SweepError(
            f"there is no finished undistilled baseline of the size of trial "
            f"{student.record.trial} "
            f"({'unknown' if size is None else f'{size:,.0f}'} parameters; baselines: {have}). "
            "Add `baselines: [undistilled]` to the sweep and resume it."
        )
    twins = [one for one in fitting if trained_alike(student.record, one.record)]
    sign = 1.0 if direction == "max" else -1.0

    def quality(one: Candidate) -> float:
        value = one.value(metric)
        return -math.inf if value is None else sign * value.mean

    return max(twins or fitting, key=quality), bool(twins)
