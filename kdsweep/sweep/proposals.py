"""Sampled trials: asks the study for points and settles those that need no run of their own."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import optuna

from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.admission import Admission
from kdsweep.sweep.ledger import Entry, Ledger, Plan
from kdsweep.sweep.space import Point, enumerate_points, is_finite
from kdsweep.sweep.study import Result, Study

SETTLED = frozenset({"reused", "rejected"})
"""States of trials that took no resource."""

_REPEATS = 5
"""After so many repeated points in a row, a finite space is walked through instead."""
_FRUITLESS = 50
"""After so many points in a row that bring no new run, the search ends."""
_PAST = {"finished": "finished", "stopped": "was stopped early", "failed": "failed"}


class Proposals:
    """The sampled trials of a sweep.

    Args:
        spec: The sweep.
        ledger: What happened so far; settled trials are written to it.
        admission: Judges a run before it takes any resource.
        again: Ids of trials that will run again, so that the study does not count them as ended.
    """

    def __init__(
        self, spec: SweepSpec, ledger: Ledger, admission: Admission, again: set[str]
    ) -> None:
        self._spec = spec
        self._ledger = ledger
        self._admission = admission
        self._again = set(again)
        self._handles: dict[str, optuna.Trial] = {}
        self._followers: dict[str, list[str]] = defaultdict(list)
        self._repeats = self._fruitless = 0
        self.exhausted = ""
        """Why there is nothing more to propose; empty while there is."""
        searched = ledger.record.of_kind("search")
        self.study = Study(spec, skip=len(searched))
        for entry in searched:
            if entry.plan.trial not in again:
                self.study.add(entry.plan.params, self._result(entry), entry.plan.marks)
        self._points = self._fixed_points(used=len(searched))

    @property
    def counted(self) -> int:
        """Sampled trials that run or ran; those settled without a run do not count."""
        waiting = {trial for trials in self._followers.values() for trial in trials}
        return sum(
            entry.state not in SETTLED and entry.plan.trial not in waiting
            for entry in self._ledger.record.of_kind("search")
        )

    def next(self) -> Plan | None:
        """The next sampled trial that has to run, or None once the space is exhausted."""
        while not self.exhausted:
            fixed = self._fixed()
            if self.exhausted:
                break
            plan, handle = self._propose(fixed)
            if self._must_run(plan, handle):
                self._repeats = self._fruitless = 0
                return plan
            self._fruitless += 1
            if self._fruitless >= _FRUITLESS:
                self.exhausted = (
                    f"{_FRUITLESS} points in a row brought no new run; the last, {plan.trial}: "
                    f"{self._ledger.record.trials[plan.trial].reason or 'waits for another trial'}"
                )
        return None

    def again(self, plan: Plan) -> bool:
        """Takes a trial of an earlier process up again; True if it has to run."""
        handle, _ = self.study.ask(plan.params)
        entry = self._ledger.record.trials[plan.trial]
        if entry.state == "reused":
            # Trackers take the result of a trial once; one that was interrupted gets another.
            reason = "the trial that it repeats runs again"
            self._ledger.ended(plan.trial, "interrupted", reason=reason)
        if not entry.leases:  # it may be a repetition
            return self._must_run(plan, handle)
        self._handles[plan.trial] = handle
        return True

    def waiting_for(self, trial: str) -> list[str]:
        """Trials of the same configuration, which take over the result of this one."""
        return self._followers[trial]

    def ended(self, entry: Entry) -> None:
        """Tells the search how a trial ended, and settles those that waited for its result."""
        self._again.discard(entry.plan.trial)
        handle = self._handles.pop(entry.plan.trial, None)
        if handle is not None:
            self.study.tell(handle, self._result(entry))
        for follower in self._followers.pop(entry.plan.trial, []):
            self._reuse(follower, entry)

    def _propose(self, fixed: Point | None) -> tuple[Plan, optuna.Trial]:
        handle, point = self.study.ask(fixed)
        trial = f"t{len(self._ledger.record.of_kind('search')) + 1:03d}"
        # A start point may also set fields that are not searched.
        others = {key: value for key, value in (fixed or {}).items() if key not in self._spec.space}
        run = self._spec.trial_run({**others, **point})
        plan = Plan(
            trial,
            "search",
            run.to_dict(),
            run.identity(),
            run.seed,
            params=point,
            marks=self.study.marks(handle),
        )
        self._ledger.created(plan)
        return plan, handle

    def _must_run(self, plan: Plan, handle: optuna.Trial) -> bool:
        self._handles[plan.trial] = handle
        original = self._ledger.record.by_identity(plan.identity, before=plan.trial)
        if original is not None:
            self._repeats += 1
            if original.ended and original.plan.trial not in self._again:
                self._reuse(plan.trial, original)
            else:
                self._followers[original.plan.trial].append(plan.trial)
            return False
        refusal = self._admission.refusal(plan.spec)
        if refusal is None:
            return True
        self._ledger.ended(
            plan.trial, "rejected", reason=refusal.reason, metrics=dict(refusal.metrics)
        )
        self.ended(self._ledger.record.trials[plan.trial])
        return False

    def _reuse(self, trial: str, original: Entry) -> None:
        facts: dict[str, Any] = {"original": original.plan.trial, "run_dir": original.run_dir}
        self._ledger.ended(
            trial,
            "reused",
            reason=f"same configuration as {original.plan.trial}, which {_PAST[original.state]}",
            epoch=original.epoch,
            metrics=original.metrics,
            **facts,
        )
        self.study.tell(self._handles.pop(trial), self._result(original))

    def _fixed(self) -> Point | None:
        """The point that has to come next, or None where the sampler may choose."""
        if self._points:
            return self._points.pop(0)
        if self._spec.sampler == "grid":
            self.exhausted = "every point of the grid has been tried"
        elif self._repeats >= _REPEATS and is_finite(self._spec):
            unseen = next(self._unseen(), None)
            if unseen is None:
                self.exhausted = "every point of the search space has been tried"
            return unseen
        return None

    def _fixed_points(self, used: int) -> list[Point]:
        """Start points and, for a grid, all others; those of earlier processes left out."""
        points = [dict(point) for point in self._spec.start]
        if self._spec.sampler == "grid":
            points += enumerate_points(self._spec)
        return points[used:]

    def _unseen(self) -> Iterator[Point]:
        seen = {entry.plan.identity for entry in self._ledger.record.trials.values()}
        for point in enumerate_points(self._spec):
            if self._spec.trial_run(point).identity() not in seen:
                yield point

    def _result(self, entry: Entry) -> Result:
        """The end of a trial as the search is told it."""
        if entry.state == "reused":
            original = self._ledger.record.by_identity(entry.plan.identity, before=entry.plan.trial)
            return Result("failed") if original is None else self._result(original)
        progress = entry.epoch / max(1, entry.plan.spec["train"]["epochs"])
        return Result(entry.state, entry.metrics, progress if entry.state == "stopped" else 1.0)
