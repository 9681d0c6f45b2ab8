"""A sweep, as it is asked for afterwards: its trials, the best, the front, what mattered."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdsweep.errors import SweepError, did_you_mean
from kdsweep.results.directions import Direction, checked, direction_of
from kdsweep.results.gain import Gain, comparable, equal_size, gain_between
from kdsweep.results.importance import importances
from kdsweep.results.measured import UNDISTILLED, Candidate, candidates, competing, rivals
from kdsweep.results.pareto import non_dominated
from kdsweep.results.selection import broken, eligible, parse
from kdsweep.results.trial import Trial
from kdsweep.tracking import Tracker, TrialRecord, Where

_DEFAULT = Where()

RATIOS = ("params_ratio", "macs_ratio", "latency_ratio", "peak_memory_ratio", "file_ratio")
"""Teacher / student: above 1 the student is the smaller."""

COSTS = (
    "params",
    "macs",
    "latency_ms",
    "peak_memory_mb",
    "file_mb",
    "train_seconds",
    "gpu_seconds",
)


class Sweep:
    """A sweep's results. It reads the store once; `refresh` reads it again.

    Attributes:
        name: Name of the sweep.
        info: What was given when it started.
        objectives: The better direction of each objective.
        records: All trials, in the order of their creation.
        candidates: The finished students with their confirmations.
        metrics: All metrics that some trial has.
    """

    def __init__(self, name: str, tracker: Tracker, where: Where = _DEFAULT) -> None:
        """Reads a sweep.

        Args:
            name: Name of the sweep.
            tracker: Where it was recorded.
            where: What commands and calls have to say to find it.

        Raises:
            TrackingError: There is no such sweep; the message lists the nearest names.
        """
        self.name = name
        self.tracker = tracker
        self.where = where
        self.refresh()

    def refresh(self) -> "Sweep":
        """Reads the sweep from the store again, for one that still runs."""
        self.info = self.tracker.read_sweep(self.name)
        self.objectives: dict[str, Direction] = dict(self.info.spec.get("objectives") or {})
        self.records: list[TrialRecord] = self.tracker.read_trials(self.name)
        self.candidates: list[Candidate] = candidates(self.records)
        self.metrics = sorted({name for record in self.records for name in record.metrics})
        return self

    def __repr__(self) -> str:
        """``<Sweep pvd: 12 trials, 9 finished>``."""
        finished = sum(record.state == "finished" for record in self.records)
        return f"<Sweep {self.name}: {len(self.records)} trials, {finished} finished>"

    @property
    def metric(self) -> str:
        """The first objective.

        Raises:
            SweepError: The sweep names no objective.
        """
        if not self.objectives:
            raise SweepError(f"sweep {self.name!r} names no objective: say which metric you mean")
        return next(iter(self.objectives))

    @property
    def teacher(self) -> Trial | None:
        """The teacher, where the sweep trained or evaluated one."""
        found = [record for record in self.records if record.kind == "teacher"]
        return self._trial(found[0]) if found else None

    def __getitem__(self, trial: str) -> Trial:
        """A trial by its id.

        Raises:
            SweepError: There is no such trial; the message lists the nearest ids.
        """
        for record in self.records:
            if record.trial == trial:
                return self._trial(record)
        ids = [record.trial for record in self.records]
        raise SweepError(f"sweep {self.name!r} has no trial {trial!r}. {did_you_mean(trial, ids)}")

    def trials(self, *, all_metrics: bool = False) -> pd.DataFrame:
        """One row per trial, in the order of their creation, whatever became of it.

        Args:
            all_metrics: Give every metric instead of objectives, constraints, ratios and cost.

        Returns:
            Columns ``id, kind, label, parent, state, reason, seed, epoch``, the parameters by
            dotted key, then the final metrics of each run; what a trial does not have is NaN.
        """
        names = self.metrics if all_metrics else self._columns()
        params = list(dict.fromkeys(name for record in self.records for name in record.params))
        columns = ["id", "kind", "label", "parent", "state", "reason", "seed", "epoch"]
        rows = [
            {
                "id": record.trial,
                **{column: getattr(record, column) for column in columns[1:]},
                **{name: record.params.get(name) for name in params},
                **{name: record.metrics.get(name, math.nan) for name in names},
            }
            for record in self.records
        ]
        return pd.DataFrame(rows, columns=list(dict.fromkeys([*columns, *params, *names])))

    def best(
        self,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
        *,
        direction: Direction | None = None,
        constrained: bool = True,
    ) -> Trial:
        """The best finished student.

        A configuration that was confirmed counts with the mean over its confirmation seeds. One
        that was not competes with its single seed only if that beats the own seed of every
        confirmed configuration that keeps the bounds, because the best of many single seeds is a
        lucky one (`kdsweep.results.measured`).

        Args:
            metric: What to compare by; the first objective if None.
            where: Bounds on metrics or parameters, for example ``{"params_ratio": ">= 4"}``.
            direction: The better direction, where the sweep file and the task do not tell it.
            constrained: Also keep the sweep's own constraints.

        Raises:
            SweepError: The metric is unknown or no finished trial keeps the bounds; the message
                says how far the trials are from them.
        """
        metric = metric or self.metric
        self._check_metric(metric)
        direction = direction or direction_of(metric, self.info.spec)
        checked({metric: direction})
        kept = self._eligible(where, constrained)
        rivals = [
            one for one in competing(kept, metric, direction) if not math.isnan(one.mean(metric))
        ]
        if not rivals:
            raise SweepError(f"no finished trial of sweep {self.name!r} has a value of {metric!r}")
        sign = 1.0 if direction == "max" else -1.0
        best = max(rivals, key=lambda one: sign * one.mean(metric))
        return Trial(self.tracker, best.record, best)

    def pareto(
        self, objectives: Mapping[str, Direction] | None = None, *, constrained: bool = True
    ) -> pd.DataFrame:
        """The finished students that no other beats in all objectives, best first.

        Values are those of `best`: means over the confirmation seeds where there are any. A single
        seed that lost to a confirmed student in the search is no rival to that one's mean.

        Args:
            objectives: Metrics with their better direction; the sweep's objectives if None.
            constrained: Leave out trials that break the sweep's constraints.

        Returns:
            Columns ``id, label, seeds``, the objectives, ``<objective>_sd`` for the first one,
            ratios, costs and parameters; if not `constrained`, also what `breaks` gives.

        Raises:
            SweepError: No finished trial keeps the constraints, none has finished yet, or a
                direction is neither.
        """
        chosen = checked(objectives or self.objectives)
        for name in chosen:
            self._check_metric(name)
        names = [name for name in self._columns() if name not in chosen]
        kept = rivals(self._eligible(None, constrained), chosen)
        rows = [_row(one, chosen, names) for one in kept]
        if not constrained and self._constraints:
            rows = [
                {**row, "breaks": self.breaks(one)} for row, one in zip(rows, kept, strict=True)
            ]
        frame = pd.DataFrame(rows)
        values = frame[list(chosen)].to_numpy(dtype=np.float64)
        front = frame[non_dominated(values, list(chosen.values()))]
        first, direction = next(iter(chosen.items()))
        front = front.sort_values(first, ascending=direction == "min")
        front = front.reset_index(drop=True)
        return front if front.empty else front.dropna(axis="columns", how="all")

    def breaks(self, student: Candidate) -> str:
        """Which of the sweep's own constraints a finished student does not keep, in words."""
        return ", ".join(broken(student, parse(self._constraints)))

    def importance(self, metric: str | None = None, *, method: str = "fanova") -> pd.DataFrame:
        """Which sampled parameters decide a metric.

        Args:
            metric: The first objective if None.
            method: ``fanova`` or ``ped_anova``.

        Returns:
            Columns ``parameter, importance``; the shares sum to 1, largest first. ``.attrs`` says
            over how many trials.

        Raises:
            SweepError: Too few finished trials, or nothing varies.
        """
        metric = metric or self.metric
        self._check_metric(metric)
        rows = [
            (record.params, record.metrics[metric])
            for record in self.records
            if record.kind == "search"
            and record.state == "finished"
            and math.isfinite(record.metrics.get(metric, math.nan))
        ]
        direction: Direction = direction_of(metric, self.info.spec)
        more = lambda n: self.where.command("resume", self.name, "--more", str(n))  # noqa: E731
        shares = importances(rows, more, direction=direction, method=method, seed=0)
        frame = pd.DataFrame({"parameter": list(shares), "importance": list(shares.values())})
        frame.attrs.update(metric=metric, method=method, trials=len(rows))
        return frame

    @property
    def baselines(self) -> list[Trial]:
        """The finished baselines, with their confirmations."""
        return [
            Trial(self.tracker, one.record, one)
            for one in self.candidates
            if one.record.kind == "baseline"
        ]

    def gain(self, trial: Trial | str | None = None, metric: str | None = None) -> Gain:
        """What distillation is worth: a student against the undistilled one of equal size.

        Of several baselines of its size it is that with the student's own recipe (learning rate,
        loss, data ...); without such a one the best of them, and `Gain.same_recipe` says so. Both
        were trained with the same seeds where they are confirmed; the gain is the mean of the
        differences seed by seed, and its spread their standard deviation.

        Args:
            trial: The student; the best distilled one of a size that has a baseline if None.
            metric: The first objective if None.

        Raises:
            SweepError: There is no undistilled baseline of this size, or `trial` is that baseline.
        """
        metric = metric or self.metric
        self._check_metric(metric)
        direction = direction_of(metric, self.info.spec)
        student = self._distilled(trial, metric, direction)
        if student.label == UNDISTILLED:
            raise SweepError(f"trial {student.record.trial} is itself the undistilled baseline")
        baseline, same = equal_size(student, self.candidates, metric, direction)
        found = gain_between(student, baseline, metric, direction, same_recipe=same)
        if found is None:
            raise SweepError(f"trial {student.record.trial} or its baseline has no {metric!r}")
        return found

    # ---- within --------------------------------------------------------------------------------

    @property
    def _constraints(self) -> Mapping[str, Any]:
        return self.info.spec.get("constraints") or {}

    def _trial(self, record: TrialRecord) -> Trial:
        own = [one for one in self.candidates if one.record.trial == record.trial]
        return Trial(self.tracker, record, own[0] if own else None)

    def _distilled(self, trial: Trial | str | None, metric: str, direction: Direction) -> Candidate:
        if trial is not None:
            chosen = self[trial] if isinstance(trial, str) else trial
            if chosen.candidate is None:
                raise SweepError(f"trial {chosen.id} is no finished student: it is {chosen.state}")
            return chosen.candidate
        found = comparable(self.candidates, metric)
        if not found:
            raise SweepError(
                f"sweep {self.name!r} has no finished distilled student with an undistilled "
                "baseline of equal size: add `baselines: [undistilled]` and resume it."
            )
        sign = 1.0 if direction == "max" else -1.0
        return max(competing(found, metric, direction), key=lambda one: sign * one.mean(metric))

    def _check_metric(self, metric: str) -> None:
        if metric not in self.metrics and metric not in self.objectives:
            raise SweepError(
                f"sweep {self.name!r} has no metric {metric!r}. "
                f"{did_you_mean(metric, self.metrics)}"
            )

    def _eligible(self, where: Mapping[str, Any] | None, constrained: bool) -> list[Candidate]:
        conditions = parse(self._constraints if constrained else {}) + parse(where)
        params = {name for record in self.records for name in record.params}
        known = params | set(self.metrics)
        for name in where or {}:
            if known and name not in known:
                raise SweepError(
                    f"{name!r} is neither a metric nor a parameter of sweep {self.name!r}. "
                    f"{did_you_mean(name, known)}"
                )
        if not self.candidates:
            states = [record.state for record in self.records]
            counts = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states))) or "empty"
            raise SweepError(f"sweep {self.name!r} has no finished student yet ({counts})")
        return eligible(self.candidates, conditions, self.name)

    def _columns(self) -> list[str]:
        wanted = [*self.objectives, *self._constraints, *RATIOS, *COSTS]
        return [name for name in dict.fromkeys(wanted) if name in self.metrics]


def _row(
    one: Candidate, objectives: Mapping[str, Direction], names: Sequence[str]
) -> dict[str, Any]:
    lead = next(iter(objectives))
    first = one.value(lead)
    return {
        "id": one.record.trial,
        "label": one.label,
        "seeds": first.n if first else 0,
        **{name: one.mean(name) for name in objectives},
        f"{lead}_sd": first.sd if first else math.nan,
        **{name: one.mean(name) for name in names},
        **one.record.params,
    }
