"""Early stopping: successive halving over reported epochs, whose rungs survive a restart.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020 (ASHA), as in
Ray Tune's `AsyncHyperBandScheduler`. Differs from the source: only sampled trials enter the rungs,
and a trial is ranked among those that are no larger. Teacher, baselines and confirmations run to
their end and are no part of the population. Ranked among all, every small student would stop for
being less accurate than a large one, and no trade-off between the two would ever be seen.
Where the number of epochs is searched, a trial is ranked before its own last epoch only, among
those that are as far, however long they will be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket

from kdsweep.spec.lengths import trial_epochs
from kdsweep.spec.metrics import (
    STATIC,
    epoch_metrics,
    known_from,
    metric_every,
    stopping_metric,
)
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.ledger import Record

Decide = Callable[[str, int, bool], None]
"""Told of every decision at a rung: trial, epoch, whether it goes on."""

Epochs = Callable[[str], int]
"""Epochs of a trial's whole run."""

Size = Callable[[str], tuple[float, ...]]
"""How large a trial's student is, less being smaller; of as many numbers for every trial."""


def sizes(spec: SweepSpec, static: Mapping[str, float]) -> tuple[float, ...]:
    """How large a student is in the objectives that are known before training.

    Args:
        spec: The sweep.
        static: Metrics that are known of the run; empty where none are.
    """
    names = [name for name in spec.objectives if name in STATIC and name in static]
    return tuple(static[n] if spec.objectives[n] == "min" else -static[n] for n in names)


@dataclass(frozen=True)
class EarlyStop:
    """Settings of successive halving.

    Attributes:
        metric: What trials are ranked by.
        mode: Whether more or less of it is better.
        grace_epochs: No trial stops before this epoch.
        reduction: One of this many trials goes on beyond each rung.
        epochs: Epochs of a whole run; of the longest where their number is searched.
        every: Epochs from one value of the metric to the next.
    """

    metric: str
    mode: Literal["max", "min"]
    grace_epochs: int
    reduction: float
    epochs: int
    every: int = 1

    @classmethod
    def of(cls, spec: SweepSpec) -> "EarlyStop | None":
        """The settings of a sweep, None where it stops no trial early."""
        stop = spec.early_stop
        if stop is None:
            return None
        reported = epoch_metrics(spec.run.task)
        metric = stopping_metric(stop.metric, spec.objectives, reported)
        return cls(
            metric=metric,
            mode=spec.objectives.get(metric, reported[metric]),
            grace_epochs=stop.grace_epochs,
            reduction=stop.reduction,
            epochs=trial_epochs(spec.run, spec.space)[-1],
            every=metric_every(spec.run, metric),
        )

    def rungs(self, epochs: int | None = None) -> list[int]:
        """Epochs at which trials are compared, rising; the last epoch of a run is none of them.

        A rung without a value of the metric lies at the next epoch that has one.

        Args:
            epochs: Epochs of the run in question; default: those of the longest.
        """
        last, rung, found = epochs or self.epochs, float(self.grace_epochs), set()
        while rung < last:
            found.add(known_from(rung, self.every))
            rung *= self.reduction
        return sorted(epoch for epoch in found if epoch < last)


class _Name:
    """Stands for a Tune trial under the sweep's own id, which outlives Tune's."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class _SizedBracket(_Bracket):
    """Ray's rungs, in which a trial's rivals are those that are no larger than itself."""

    def __init__(self, *args: Any, rungs: Sequence[int], size: Size) -> None:
        super().__init__(*args)
        # Ray's own leave out when the metric is reported: a value that is later than a rung would
        # count there, and the next one at the rung below, which it has passed.
        self._rungs: list[tuple[int, dict[str, float]]] = [(rung, {}) for rung in reversed(rungs)]
        self._size = size
        self._ranked: tuple[float, ...] | None = None

    def on_result(self, trial: Any, cur_iter: int, cur_rew: float | None) -> str:
        self._ranked = self._size(trial.trial_id)
        try:
            return super().on_result(trial, cur_iter, cur_rew)
        finally:
            self._ranked = None

    def cutoff(self, recorded: Mapping[str, float]) -> Any:
        limit = self._ranked
        if limit is None:  # a rung is shown
            return super().cutoff(recorded)
        return super().cutoff(
            {
                name: value
                for name, value in recorded.items()
                if all(mine <= most for mine, most in zip(self._size(name), limit, strict=True))
            }
        )


class RungScheduler(AsyncHyperBandScheduler):
    """Successive halving by the sweep's own trial ids.

    Args:
        stop: The settings.
        decide: Told of every decision at a rung, so that a worker waiting there goes on or stops.
        size: How large each trial's student is; by default all are equal.
        epochs: How long each trial is; by default all are as long as the settings say.
    """

    def __init__(
        self,
        stop: EarlyStop,
        decide: Decide = lambda *_: None,
        size: Size = lambda _: (),
        epochs: Epochs | None = None,
    ) -> None:
        # Larger than the last epoch: trials that reach the end finish by themselves, they are not
        # stopped there; and the last rung lies before the end.
        super().__init__(
            time_attr="epoch",
            metric=stop.metric,
            mode=stop.mode,
            max_t=stop.epochs + 1,
            grace_period=stop.grace_epochs,
            reduction_factor=stop.reduction,
        )
        rungs = stop.rungs()
        settings = (stop.grace_epochs, stop.epochs + 1, stop.reduction, 0)
        self._brackets = [_SizedBracket(*settings, rungs=rungs, size=size)]
        self._rung_epochs = frozenset(rungs)
        self._last_epoch = epochs or (lambda _: stop.epochs)
        self._decide = decide

    def replay(self, record: Record) -> None:
        """Fills the rungs with what an earlier process saw, in the order in which it saw it."""
        for entry in record.of_kind("search"):
            if not entry.history:
                continue
            name = _Name(entry.plan.trial)
            super().on_trial_add(None, name)
            last = self._last_epoch(entry.plan.trial)
            for epoch in sorted(epoch for epoch in entry.history if epoch < last):
                super().on_trial_result(None, name, {"epoch": epoch, **entry.history[epoch]})
            super().on_trial_remove(None, name)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if _is_search(trial):
            super().on_trial_add(tune_controller, _Name(trial.config["trial"]))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Decides after an epoch; results without epoch or metric, and a trial's last epoch, decide
        nothing: a trial that has reached its own end finishes, however long others are."""
        if not _is_search(trial) or "epoch" not in result:
            return TrialScheduler.CONTINUE
        name = trial.config["trial"]
        if result["epoch"] >= self._last_epoch(name):
            return TrialScheduler.CONTINUE
        decision = super().on_trial_result(tune_controller, _Name(name), result)
        if result["epoch"] in self._rung_epochs:
            self._decide(name, int(result["epoch"]), decision != TrialScheduler.STOP)
        return decision

    def on_trial_complete(
        self, tune_controller: Any, trial: Any, result: Mapping[str, Any]
    ) -> None:
        # The last epoch was handed in as a result before; only the bookkeeping is left.
        if _is_search(trial):
            super().on_trial_complete(tune_controller, _Name(trial.config["trial"]), {})

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Leaves the rungs as they are: a trial that starts again was ranked there already."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Leaves the rungs as they are."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its whole setting for a restore of its own, which is never used."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "RungScheduler":
        return self

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing: the rungs are rebuilt from the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Reads nothing: see `replay`."""


def _is_search(trial: Any) -> bool:
    return trial.config.get("kind") == "search"
