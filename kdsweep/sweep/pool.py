"""The desk between trials and slots: hands out jobs, passes on news and says who has to stop.

It runs as a Ray actor without CPU (`ray.remote(JobPool)`), but knows nothing of Ray: every call is
a coroutine, and those that wait do so without keeping the others from being served.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kdsweep.sweep.jobs import Job, Outcome, Update

MAX_DEATHS = 3
"""So often may a job's worker die without any epoch in between, before the job fails."""


@dataclass
class _Running:
    """A job, what is known of it, and what was decided about it."""

    job: Job
    slot: str = ""
    updates: list[Update] = field(default_factory=list)
    outcome: Outcome | None = None
    dropped: bool = False
    decided: dict[int, bool] = field(default_factory=dict)
    handed_out: int = 0
    news_at_handout: int = -1

    @property
    def epoch(self) -> int:
        return max((update.epoch for update in self.updates if update.stage == "train"), default=0)

    @property
    def news(self) -> int:
        return sum(update.stage != "started" for update in self.updates)


@dataclass
class _Slot:
    """A group of workers that takes one job after another."""

    node: str
    trial: str = ""


class JobPool:
    """Hands jobs to slots and their news to trials.

    Args:
        clock: Seconds since 1970; replaced in tests.
        rung_wait_s: So long at most a worker waits at a rung for the scheduler's word; the trial
            goes on when none comes, and stops at the next epoch if it comes late.
    """

    def __init__(self, clock: Callable[[], float] = time.time, rung_wait_s: float = 10.0) -> None:
        self._clock = clock
        self._rung_wait_s = rung_wait_s
        self._queue: deque[str] = deque()
        self._jobs: dict[str, _Running] = {}
        self._slots: dict[str, _Slot] = {}
        self._closed = False
        self._changed = asyncio.Condition()

    async def submit(self, job: Job) -> None:
        """Queues a job; a job that is there already stays as it is."""
        async with self._changed:
            if job.trial not in self._jobs:
                self._jobs[job.trial] = _Running(job)
                self._queue.append(job.trial)
                self._changed.notify_all()

    async def follow(
        self, trial: str, seen: int, timeout_s: float
    ) -> tuple[list[Update], Outcome | None, bool]:
        """Waits for news of a job.

        Args:
            trial: The job's trial.
            seen: Updates that the caller has had.
            timeout_s: Returns with nothing after this time.

        Returns:
            New updates, the outcome once there is one, and whether the pool has closed.
        """

        def news() -> bool:
            running = self._jobs[trial]
            return len(running.updates) > seen or running.outcome is not None or self._closed

        await self._wait(news, timeout_s)
        running = self._jobs[trial]
        return running.updates[seen:], running.outcome, self._closed

    async def take(self, slot: str, node: str, timeout_s: float) -> tuple[Job | None, bool]:
        """Waits for a job for a slot; a slot that was rebuilt gets its unfinished job again.

        Returns:
            A job or None, and whether the pool has closed, so that the slot can end.
        """
        place = self._slots.setdefault(slot, _Slot(node))
        place.node = node
        await self._wait(lambda: self._closed or bool(self._queue or place.trial), timeout_s)
        async with self._changed:
            while not self._closed:
                trial = place.trial or (self._queue.popleft() if self._queue else "")
                if not trial:
                    break
                if self._hand_out(trial, slot, place):
                    return self._jobs[trial].job, False
        return None, self._closed

    async def report(
        self, slot: str, trial: str, stage: str, epoch: int, epochs: int, metrics: dict[str, float]
    ) -> bool:
        """Takes the news of a job and says whether it goes on."""
        running = self._jobs[trial]
        async with self._changed:
            node = self._slots[slot].node
            running.updates.append(Update(stage, epoch, epochs, metrics, slot, node, self._clock()))
            self._changed.notify_all()
        if stage == "train" and epoch in running.job.rungs:
            await self._wait(
                lambda: running.dropped or epoch in running.decided or self._closed,
                self._rung_wait_s,
            )
        return not (running.dropped or self._closed)

    async def finish(self, slot: str, trial: str, outcome: Outcome) -> None:
        """Takes the end of a job; the first word counts."""
        async with self._changed:
            self._end(trial, outcome)
            if slot in self._slots and self._slots[slot].trial == trial:
                self._slots[slot].trial = ""
            self._changed.notify_all()

    async def decide(self, trial: str, epoch: int, go_on: bool) -> None:
        """Passes on what the scheduler decided at a rung."""
        async with self._changed:
            if trial in self._jobs:
                self._jobs[trial].decided[epoch] = go_on
                self._jobs[trial].dropped |= not go_on
                self._changed.notify_all()

    async def drop(self, trial: str) -> None:
        """Nobody waits for this job any more: its worker stops after the epoch it is in."""
        async with self._changed:
            if trial in self._jobs:
                self._jobs[trial].dropped = True
                if trial in self._queue:
                    self._queue.remove(trial)
                self._changed.notify_all()

    async def slot_lost(self, slot: str) -> None:
        """A slot is gone for good: its unfinished job goes back to the head of the queue."""
        async with self._changed:
            place = self._slots.pop(slot, None)
            if place and place.trial:
                self._queue.appendleft(place.trial)
                self._changed.notify_all()

    async def slots(self) -> dict[str, str]:
        """The slots that have come for a job, each with the trial that it runs, or empty."""
        return {name: slot.trial for name, slot in self._slots.items()}

    async def wait_for_slots(self, count: int, timeout_s: float) -> int:
        """Waits until so many slots are up; gives how many are."""
        await self._wait(lambda: len(self._slots) >= count, timeout_s)
        return len(self._slots)

    async def is_closed(self) -> bool:
        """Whether the sweep ends."""
        return self._closed

    async def close(self) -> None:
        """Ends every wait: slots end, running jobs stop after the epoch they are in."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _hand_out(self, trial: str, slot: str, place: _Slot) -> bool:
        running = self._jobs[trial]
        place.trial = trial
        alive = running.outcome is None and not running.dropped
        if running.news > running.news_at_handout:
            running.handed_out = 0
        if alive and running.handed_out >= MAX_DEATHS:
            self._end(trial, _died(running))
            alive = False
        if not alive:
            place.trial = ""
            self._changed.notify_all()
            return False
        running.slot = slot
        running.handed_out += 1
        running.news_at_handout = running.news
        running.updates.append(Update("started", slot=slot, node=place.node, time_s=self._clock()))
        self._changed.notify_all()
        return True

    def _end(self, trial: str, outcome: Outcome) -> None:
        running = self._jobs[trial]
        if running.outcome is None:
            running.outcome = replace(outcome, time_s=self._clock())

    async def _wait(self, ready: Callable[[], bool], timeout_s: float) -> None:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(ready), timeout_s)
            except asyncio.TimeoutError:
                return


def _died(running: _Running) -> Outcome:
    return Outcome(
        "failed",
        f"its worker died {running.handed_out} times in a row after epoch {running.epoch} without "
        "a message: most likely the system ended it for lack of memory (see dmesg)",
        epoch=running.epoch,
    )
