"""Decides which trial comes next and records how it ended. Knows neither Ray nor processes.

Order: the teacher, which all distilled runs need, and beside it the undistilled baseline with its
confirmations, which need none; what an earlier process left unfinished; the other baselines; start
points and sampled points; and, when these have ended, the confirmations.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kdsweep.spec.run import RunSpec
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.admission import Admission
from kdsweep.sweep.budget import Budget
from kdsweep.sweep.confirm import UNDISTILLED, confirmations
from kdsweep.sweep.ledger import Ledger, Plan, Record, missing
from kdsweep.sweep.proposals import SETTLED, Proposals
from kdsweep.sweep.study import Study

TEACHER = "teacher"


@dataclass(frozen=True)
class Wait:
    """Nothing can start before something that runs has ended."""


@dataclass(frozen=True)
class Done:
    """Nothing is left to start, and nothing runs."""


class Planner:
    """The order of a sweep's trials.

    Args:
        spec: The sweep.
        ledger: What happened so far; the planner writes creations and ends to it.
        budget: Limits of time and money.
        trials: Sampled trials in all, those of earlier processes included.
        admission: Judges a run before it takes any resource.
        teacher: The run that trains the teacher, or None where there is nothing to train.
        retry_failed: Whether trials that failed are to run again.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        spec: SweepSpec,
        ledger: Ledger,
        *,
        budget: Budget,
        trials: int,
        admission: Admission,
        teacher: RunSpec | None,
        retry_failed: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._spec = spec
        self._ledger = ledger
        self._budget = budget
        self._target = trials
        self._admission = admission
        self._teacher = teacher
        self._clock = clock
        self._live: set[str] = set()
        self._again = [entry.plan for entry in self._record.runs_again(failed=retry_failed)]
        again = {plan.trial for plan in self._again}
        self._proposals = Proposals(spec, ledger, admission, again)
        self.closing = ""
        """Why no new trial starts although some were asked for; empty while that is not so."""
        self.over_budget = False
        """Whether that is because a limit is reached."""

    @property
    def study(self) -> Study:
        return self._proposals.study

    @property
    def live(self) -> frozenset[str]:
        """Trials that were handed out and have not ended."""
        return frozenset(self._live)

    def next(self) -> Plan | Wait | Done:
        """The next trial to run; repeated and rejected ones are settled on the way."""
        plan = self._next()
        if plan is None:
            return Wait() if self._live else Done()
        self._live.add(plan.trial)
        return plan

    def end(
        self,
        trial: str,
        state: str,
        *,
        reason: str = "",
        epoch: int = 0,
        metrics: Mapping[str, float] | None = None,
        **facts: Any,
    ) -> None:
        """Takes the end of a trial: records it and tells the search.

        A trial that is said to have finished, but has no metrics or lacks an objective, failed.
        """
        entry = self._record.trials[trial]
        metrics = dict(metrics or {})
        lacking = missing(metrics, self._spec.objectives) if entry.plan.kind != "teacher" else []
        if state == "finished" and not metrics:
            state, reason = "failed", "it ended without metrics: it never ran"
        elif state == "finished" and lacking:
            state, reason = "failed", f"{', '.join(lacking)} is missing or not a finite number"
        elif state == "stopped":
            metrics = {**self.static(trial), **metrics}
        self._live.discard(trial)
        self._ledger.ended(trial, state, reason=reason, epoch=epoch, metrics=metrics, **facts)
        self._proposals.ended(entry)

    def interrupt(self, trial: str) -> None:
        """Takes note that the sweep ended before a trial did: a resume goes on with it."""
        self._live.discard(trial)
        for name in (trial, *self._proposals.waiting_for(trial)):
            if self._record.trials[name].state in ("created", "running"):
                self._ledger.ended(name, "interrupted", reason="the sweep was interrupted")

    def static(self, trial: str) -> Mapping[str, float]:
        """What is known of a trial before training; empty where nothing is."""
        return self._admission.static(self._record.trials[trial].plan.spec)

    @property
    def teacher_failed(self) -> bool:
        return self._teacher is not None and self._teacher_state() == "failed"

    @property
    def waits_for_teacher(self) -> bool:
        """Whether no distilled run can start yet."""
        return self._teacher is not None and self._teacher_state() != "finished"

    @property
    def _record(self) -> Record:
        return self._ledger.record

    def _next(self) -> Plan | None:
        if self.teacher_failed:
            reason = self._record.trials[TEACHER].reason
            self.closing = f"the teacher could not be trained: {reason}"
            return None
        # Before all else: what a spent budget left unfinished, or failed, does not run either.
        if self._closed(self._budget.spent(self._record, self._clock())):
            return None
        if self._teacher is not None and self.waits_for_teacher:
            if TEACHER not in self._live:
                return self._train_teacher(self._teacher)
            return self._beside_teacher()
        while self._again:
            plan = self._again.pop(0)
            if plan.kind != "search" or self._proposals.again(plan):
                return plan
        # After them: they are counted already.
        if self._closed(self._trials_spent()):
            return None
        return self._baseline() or self._sampled() or self._confirmation()

    def _closed(self, spent: str) -> bool:
        """Takes note of a limit that is reached; empty where none is."""
        self.closing, self.over_budget = spent, bool(spent)
        return self.over_budget

    def _teacher_state(self) -> str:
        """``failed`` and ``finished`` as recorded; anything else: it has to run or runs."""
        entry = self._record.trials.get(TEACHER)
        if entry is None or any(plan.trial == TEACHER for plan in self._again):
            return "waiting"
        return entry.state

    def _train_teacher(self, run: RunSpec) -> Plan:
        self._again = [plan for plan in self._again if plan.trial != TEACHER]
        return self._create(TEACHER, "teacher", run)

    def _beside_teacher(self) -> Plan | None:
        """A run that needs no teacher, so that no slot idles while the teacher is trained."""
        run = self._spec.baseline_runs().get(UNDISTILLED)
        if run is None or run.train.init == "sliced_teacher":
            return None
        if self._trials_spent():
            return None
        if UNDISTILLED not in self._record.trials:
            return self._create(UNDISTILLED, "baseline", run, label=UNDISTILLED)
        return self._confirmation(only=UNDISTILLED)

    def _baseline(self) -> Plan | None:
        for label, run in self._spec.baseline_runs().items():
            if label not in self._record.trials:
                return self._create(label, "baseline", run, label=label)
        return None

    def _sampled(self) -> Plan | None:
        if self._proposals.counted >= self._target:
            return None
        plan = self._proposals.next()
        self.closing = self._proposals.exhausted
        return plan

    def _confirmation(self, only: str | None = None) -> Plan | None:
        if any(self._record.trials[trial].plan.kind == "search" for trial in self._live):
            return None  # the best are known when all have ended
        for found in confirmations(self._spec, self._record):
            known = found.trial in self._record.trials
            if only is not None and found.label != only:
                continue
            if not known and self._record.by_identity(found.run.identity()) is None:
                return self._create(
                    found.trial, found.kind, found.run, label=found.label, parent=found.parent
                )
        return None

    def _trials_spent(self) -> str:
        limit = self._spec.budget.trials
        ran = sum(
            entry.state not in SETTLED and entry.plan.kind != "teacher"
            for entry in self._record.trials.values()
        )
        if limit is not None and ran >= limit:
            return f"the budget of {limit} trials is spent"
        return ""

    def _create(self, trial: str, kind: str, run: RunSpec, **facts: Any) -> Plan:
        if trial not in self._record.trials:
            identity = run.identity()
            self._ledger.created(Plan(trial, kind, run.to_dict(), identity, run.seed, **facts))
        return self._record.trials[trial].plan
