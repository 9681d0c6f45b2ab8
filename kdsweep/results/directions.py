"""Which way a metric gets better."""

from collections.abc import Mapping
from typing import Any, Literal

from kdsweep import discover
from kdsweep.errors import SweepError

Direction = Literal["max", "min"]

_SMALLER_PREFIXES = ("params", "macs", "loss/", "seconds/")
_SMALLER_SUFFIXES = ("_seconds", "_ms", "_mb")


def checked(objectives: Any) -> dict[str, Direction]:
    """Objectives as a caller gave them, each with its better direction.

    Raises:
        SweepError: They are no mapping, or a direction is neither ``max`` nor ``min``.
    """
    if not isinstance(objectives, Mapping):
        raise SweepError(
            f"objectives are {objectives!r}; valid: metrics with their better direction, such as "
            "{'miou': 'max', 'latency_ms': 'min'}."
        )
    for metric, direction in objectives.items():
        if direction not in ("max", "min"):
            raise SweepError(f"the direction of {metric!r} is {direction!r}; valid: 'max', 'min'.")
    return dict(objectives)


def direction_of(metric: str, spec: Mapping[str, Any]) -> Direction:
    """Finds the better direction of a metric.

    The sweep's objectives decide first, then what the metric is (costs are better small, ratios of
    teacher to student better large), then the task that computes it.

    Args:
        metric: Name of the metric.
        spec: The resolved sweep.

    Raises:
        SweepError: Nothing says which way the metric gets better.
    """
    objectives: Mapping[str, Direction] = spec.get("objectives") or {}
    if metric in objectives:
        return objectives[metric]
    if metric.endswith("_ratio"):
        return "max"
    if metric.startswith(_SMALLER_PREFIXES) or metric.endswith(_SMALLER_SUFFIXES):
        return "min"
    task = (spec.get("run") or {}).get("task")
    if task in discover.names("tasks"):
        from kdsweep.spec.metrics import known_metrics  # loads the task, and torch with it

        known = known_metrics(task)
        if metric in known:
            return known[metric]
    raise SweepError(
        f"which way {metric!r} gets better is not known: it is no objective of the sweep "
        f"({', '.join(objectives) or 'none'}). Say direction='max' or 'min'."
    )
