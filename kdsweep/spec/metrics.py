"""The metrics that a sweep may optimise or bound, with the better direction of each."""

import math
from collections.abc import Collection, Iterable, Mapping

from kdsweep.config import Config
from kdsweep.spec.run import RunSpec, task_of
from kdsweep.tasks.base import Direction

STATIC: Mapping[str, Direction] = {
    "params": "min",
    "params_ratio": "max",
    "macs": "min",
    "macs_ratio": "max",
}
"""Known before training. A ratio is teacher / student: > 1 = the student is smaller."""

PROFILE: Mapping[str, Direction] = {
    **STATIC,
    "latency_ms": "min",
    "latency_ratio": "max",
    "peak_memory_mb": "min",
    "peak_memory_ratio": "max",
    "file_mb": "min",
    "file_ratio": "max",
}
"""What a finished student is measured for, whatever its task."""

COST: Mapping[str, Direction] = {
    "train_seconds": "min",
    "gpu_seconds": "min",
    "step_seconds": "min",
}
"""What the training took."""

_LOSS = "loss/total"


def known_metrics(task: str, data: Config | None = None) -> dict[str, Direction]:
    """Every metric a trial of a task ends with: the task's own first, then profile and cost.

    Args:
        task: The task.
        data: The data section of a run, to leave out what it does not give; None = of any data.
    """
    return {**_own(task, data), **PROFILE, **COST}


def epoch_metrics(task: str, data: Config | None = None) -> dict[str, Direction]:
    """Metrics reported at every evaluation, on which a trial can be stopped early."""
    return {**_own(task, data), _LOSS: "min"}


def stopping_metric(asked: str, objectives: Iterable[str], reported: Collection[str]) -> str:
    """By what trials are stopped early: what is asked for, else the first objective reported."""
    return asked or next((name for name in objectives if name in reported), "")


def metric_every(run: RunSpec, metric: str) -> int:
    """Epochs from one value of a metric to the next while a trial runs."""
    return 1 if metric == _LOSS else run.train.val_every


def known_from(epoch: float, every: int) -> int:
    """The first epoch from this one on that has a value of a metric."""
    return math.ceil(epoch / every) * every


def _own(task: str, data: Config | None) -> Mapping[str, Direction]:
    kind = task_of(task)
    return kind.metrics if data is None else kind.metrics_of(data)
