"""Which trials are best: feasible ones, by Pareto rank and then by the first objective."""

from collections.abc import Iterable, Mapping

from kdsweep.spec.bounds import Bound
from kdsweep.sweep.ledger import Entry, missing

Objectives = Mapping[str, str]
"""Metrics with ``max`` or ``min``, the most important first."""


def feasible(entry: Entry, objectives: Iterable[str], bounds: Mapping[str, Bound]) -> bool:
    """Whether a trial finished, has all objectives and keeps all bounds."""
    return (
        entry.state == "finished"
        and not missing(entry.metrics, objectives)
        and all(
            bound.holds(entry.metrics.get(name, float("nan"))) for name, bound in bounds.items()
        )
    )


def dominates(left: Entry, right: Entry, objectives: Objectives) -> bool:
    """Whether a trial is at least as good in every objective and better in one."""
    gains = [_gain(left, name, way) - _gain(right, name, way) for name, way in objectives.items()]
    return min(gains) >= 0 and max(gains) > 0


def pareto(entries: Iterable[Entry], objectives: Objectives) -> list[Entry]:
    """The trials that no other dominates, best in the first objective first."""
    entries = list(entries)
    front = [
        entry
        for entry in entries
        if not any(dominates(other, entry, objectives) for other in entries)
    ]
    return by_first(front, objectives)


def ranked(entries: Iterable[Entry], objectives: Objectives) -> list[Entry]:
    """All trials: the Pareto front, then the front of what is left, and so on."""
    left, order = list(entries), []
    while left:
        front = pareto(left, objectives)
        order += front
        left = [entry for entry in left if entry not in front]
    return order


def by_first(entries: Iterable[Entry], objectives: Objectives) -> list[Entry]:
    """Trials by the first objective, best first."""
    name, way = next(iter(objectives.items()))
    return sorted(entries, key=lambda entry: -_gain(entry, name, way))


def _gain(entry: Entry, name: str, way: str) -> float:
    return entry.metrics[name] if way == "max" else -entry.metrics[name]
