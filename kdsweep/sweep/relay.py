"""Carries a run's progress from a worker to the pool, and keeps it beside the run until then.

A driver that is killed has not written down all that its workers had told. A run therefore keeps
its epochs in its own folder and tells them again when it goes on; the journal leaves out what it
has. A worker that was cut off while another one went on with its run can add one line at most, of
an epoch that the other one trains as well, before the pool tells it to stop.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from kdsweep.sweep import journal
from kdsweep.sweep.jobs import Job
from kdsweep.sweep.journal import Event, Journal, jsonable

EPOCHS = "epochs.jsonl"


class Withdrawn(Exception):
    """The run is to write nothing more: another one has taken its place, or the sweep ends."""


class Relay:
    """The `report` of a run, called by each of its workers equally often.

    Args:
        job: The run.
        pool: Handle of the pool's actor.
        first: Whether this is the worker that talks to the pool.
        share: Gives the first worker's value to all.
        keep: Called by the first worker after an epoch, before it is told.
    """

    def __init__(
        self,
        job: Job,
        pool: Any,
        *,
        first: bool,
        share: Callable[[Any], Any],
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self._job = job
        self._keep = keep
        self._pool = pool
        self._first = first
        self._share = share
        self._path = Path(job.run_dir) / EPOCHS
        self.epoch = 0
        """Last epoch that was told."""

    def replay(self) -> bool:
        """Tells the epochs of earlier processes again; False: the run has to stop."""
        go_on = True
        if self._first:
            for event in journal.events(self._path):
                go_on = go_on and self._tell("train", event)
        return bool(self._share(go_on))

    def __call__(self, progress: Any) -> bool:
        """Tells one piece of progress and gives the answer to all workers.

        Raises:
            Withdrawn: The run has to stop although its training is over: it must not be exported.
        """
        event = {
            "epoch": progress.epoch,
            "epochs": progress.epochs,
            "metrics": dict(jsonable(progress.metrics)),
        }
        go_on = True
        if progress.stage == "train":
            self.epoch = progress.epoch
        if self._first:
            if progress.stage == "train":
                with Journal(self._path) as kept:
                    kept.append("epoch", **event)
                self._keep()
            go_on = self._tell(progress.stage, event)
        go_on = bool(self._share(go_on))
        if progress.stage == "profile" and not go_on:
            raise Withdrawn
        return go_on

    def _tell(self, stage: str, event: Event) -> bool:
        return ray.get(
            self._pool.report.remote(
                self._job.trial,
                self._job.attempt,
                stage,
                event["epoch"],
                event["epochs"],
                event["metrics"],
            )
        )
