"""The sweep's `Searcher` for Ray Tune: hands out what the planner decides, writes down what comes.

Tune calls it from one thread, the driver's. It holds no state of its own that a restart would need.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ray.tune.search import Searcher

from kdsweep.errors import KdsweepError, SweepError
from kdsweep.sweep.interrupt import Interrupt
from kdsweep.sweep.jobs import Job, Outcome, Update
from kdsweep.sweep.ledger import Ledger, Plan
from kdsweep.sweep.planner import Done, Planner, Wait

T = TypeVar("T")


class SweepSearcher(Searcher):
    """Gives Tune its trials.

    Args:
        planner: Decides what comes next.
        ledger: Where everything is written down.
        slots: Says how many trials run at once now.
        configure: Makes a trial's configuration for `TrialDriver` from its plan.
        dropped: Told of every trial that Tune ended before it ended by itself.
        changed: Called after every change, with the plan of the trial that changed.
        health: Raises where the sweep cannot go on.
        interrupt: The wish to stop: no new trial starts then, and what ends is interrupted.
        note: Shows one line to the user.
    """

    def __init__(
        self,
        planner: Planner,
        ledger: Ledger,
        *,
        slots: Callable[[], int],
        configure: Callable[[Plan], dict[str, Any]],
        dropped: Callable[[str], None],
        changed: Callable[[Plan], None] = lambda _: None,
        health: Callable[[], None] = lambda: None,
        interrupt: Interrupt,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._planner = planner
        self._ledger = ledger
        self._slots = slots
        self._configure = configure
        self._dropped = dropped
        self._changed = changed
        self._health = health
        self._interrupt = interrupt
        self._note = note
        self._plans: dict[str, Plan] = {}
        self._run_dirs: dict[str, str] = {}
        self._taken_s: dict[str, float] = {}
        self.error: KdsweepError | None = None
        """What went wrong in the driver itself; it interrupts the sweep."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration, None to wait, or `FINISHED`."""
        step = self._guard(self._next)
        if self._interrupt.raised:
            return None if self._plans else Searcher.FINISHED
        if isinstance(step, Done):
            return Searcher.FINISHED
        if not isinstance(step, Plan):
            return None
        self._plans[trial_id] = step
        config = self._configure(step)
        self._run_dirs[step.trial] = config["job"].run_dir
        self._changed(step)
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Writes down what a running trial reports."""
        plan = self._plans.get(trial_id)
        if plan is not None:
            self._guard(lambda: self._write_news(plan, result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Writes down how a trial ended: by itself, stopped by the scheduler, or broken."""
        plan = self._plans.pop(trial_id, None)
        if plan is None:
            return
        self._guard(lambda: self._end(plan, result or {}, error))
        self._dropped(plan.trial)
        self._changed(plan)

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing: the journal holds everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Reads nothing: see `save`."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its whole setting for a restore of its own, which is never used."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "SweepSearcher":
        return self

    @property
    def running(self) -> Mapping[str, Plan]:
        """Trials that Tune holds now, by Tune's ids."""
        return self._plans

    def _next(self) -> Plan | Wait | Done:
        self._health()
        # No trial is made ready before a slot is free: Tune would start a process for it, and throw
        # that away when a trial ends and leaves it a process that is used to the work.
        if self._interrupt.raised or len(self._planner.live) >= self._slots():
            return Wait()
        return self._planner.next()

    def _guard(self, call: Callable[[], T]) -> T | None:
        """Calls; what goes wrong interrupts the sweep instead of passing through Tune."""
        try:
            return call()
        except (KdsweepError, OSError) as error:
            told = error if isinstance(error, KdsweepError) else SweepError(str(error))
            self.error = self.error or told
            self._interrupt.raise_(str(told))
            return None

    def _write_news(self, plan: Plan, result: Mapping[str, Any]) -> None:
        for update in result.get("news", ()):
            if isinstance(update, Update):
                self._write_update(plan, update)
        self._changed(plan)

    def _write_update(self, plan: Plan, update: Update) -> None:
        if update.stage == "started":
            # A trial whose driver process was replaced reads its old news again.
            if update.time_s > self._taken_s.get(plan.trial, 0.0):
                self._taken_s[plan.trial] = update.time_s
                self._ledger.started(
                    plan.trial, slot=update.slot, node=update.node, lease_start=update.time_s
                )
        elif update.stage == "waits":
            self._note(f"{plan.trial} {update.words}.")
        elif update.stage == "train":
            self._ledger.epoch(plan.trial, update.epoch, update.metrics)

    def _end(self, plan: Plan, result: Mapping[str, Any], error: bool) -> None:
        self._write_news(plan, result)
        entry = self._ledger.record.trials[plan.trial]
        outcome = next((n for n in result.get("news", ()) if isinstance(n, Outcome)), None)
        if outcome is not None and outcome.state in ("finished", "failed"):
            self._planner.end(
                plan.trial,
                outcome.state,
                reason=outcome.reason,
                epoch=outcome.epoch,
                metrics=outcome.metrics,
                lease_end=outcome.time_s,
                run_dir=self._run_dirs[plan.trial],
                **({"trace": outcome.trace} if outcome.trace else {}),
            )
        elif error:
            reason = "the process that follows it in Ray Tune died again and again"
            self._planner.end(plan.trial, "failed", reason=reason)
        elif outcome is not None:  # lost: nobody runs it any more
            self._interrupt.raise_(outcome.reason)
            self._planner.interrupt(plan.trial)
        elif self._interrupt.raised:
            self._planner.interrupt(plan.trial)
        else:
            epochs = plan.spec["train"]["epochs"]
            self._planner.end(
                plan.trial,
                "stopped",
                reason=f"stopped early after {entry.epoch} of {epochs} epochs",
                epoch=entry.epoch,
                metrics=entry.metrics,
            )


def make_config(plan: Plan, job: Job, pool: Any) -> dict[str, Any]:
    """The configuration that Tune gives to a trial's `TrialDriver`."""
    return {"trial": plan.trial, "kind": plan.kind, "job": job, "pool": pool}
