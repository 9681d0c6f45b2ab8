"""The desk between trials and slots: hands out jobs, passes on news and says who has to stop.

It runs as a Ray actor without CPU (`ray.remote(JobPool)`), but knows nothing of Ray: every call is
a coroutine, and those that wait do so without keeping the others from being served.

A job is held by one *group* of workers at a time, under the number of its attempt. A group that was
given up (it died, its node is lost, or it only seemed so) may come back: it is sent away, and what
it says about a job that it holds no longer is answered with "stop" and changes nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from kdsweep.sweep.jobs import Group, Job, Outcome, Update

MAX_DEATHS = 3
"""So often may a job's worker die without any epoch in between, before the job fails."""
MAX_LOSSES = 10
"""So often may the node of a job's worker die meanwhile: spot nodes go, and it is not its fault."""
RUNG_WAIT_S = 120.0
"""The driver is silent for so long while a busy Ray does not answer it, or replaces a process."""


@dataclass
class _Running:
    """A job, what is known of it, and what was decided about it."""

    job: Job
    attempts: int = 0
    holder: int = 0
    """The attempt that runs it now; 0: none does."""
    group: Group | None = None
    updates: list[Update] = field(default_factory=list)
    outcome: Outcome | None = None
    dropped: bool = False
    decided: dict[int, bool] = field(default_factory=dict)
    held_on: list[frozenset[str]] = field(default_factory=list)
    """Nodes of the groups that have held it since its last epoch, in order."""
    news_at_handout: int = -1

    @property
    def epoch(self) -> int:
        return max((update.epoch for update in self.updates if update.stage == "train"), default=0)

    @property
    def news(self) -> int:
        return sum(update.stage not in ("started", "waits") for update in self.updates)


@dataclass
class _Slot:
    """A slot's group of workers, and the job that it holds."""

    group: Group
    trial: str = ""


class JobPool:
    """Hands jobs to slots and their news to trials.

    Args:
        clock: Seconds since 1970; replaced in tests.
        rung_wait_s: So long at most a worker waits at a rung for the scheduler's word; the trial
            goes on when none comes, and stops at the next epoch if it comes late: what it has
            computed meanwhile is in no record.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, rung_wait_s: float = RUNG_WAIT_S
    ) -> None:
        self._clock = clock
        self._rung_wait_s = rung_wait_s
        self._queue: deque[str] = deque()
        self._jobs: dict[str, _Running] = {}
        self._slots: dict[str, _Slot] = {}
        self._given_up: set[str] = set()
        self._usable: frozenset[str] | None = None
        self._gone: frozenset[str] = frozenset()
        self._lost: set[str] = set()
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

    async def take(self, group: Group, timeout_s: float) -> tuple[Job | None, bool]:
        """Waits for a job for a group of workers.

        A new group of a slot takes the place of the one before it, whose unfinished job it gets.

        Returns:
            A job or None, and whether the group has to end: the pool has closed, the group was
            given up, or it sits on a node where nothing may run.
        """
        async with self._changed:
            place = self._seat(group)
        if place is None:
            return None, True

        def over() -> bool:
            return self._closed or group.id in self._given_up

        await self._wait(lambda: over() or (self._may_work(group) and bool(self._queue)), timeout_s)
        async with self._changed:
            while self._queue and not over() and self._may_work(group):
                if self._hand_out(self._queue.popleft(), place):
                    return self._jobs[place.trial].job, False
        return None, over()

    async def report(
        self,
        trial: str,
        attempt: int,
        stage: str,
        epoch: int,
        epochs: int,
        metrics: dict[str, float],
    ) -> bool:
        """Takes the news of a job and says whether it goes on."""
        running = self._jobs[trial]
        async with self._changed:
            if running.group is None or running.holder != attempt:
                return False
            slot, host = running.group.slot, running.group.host
            running.updates.append(Update(stage, epoch, epochs, metrics, slot, host, self._clock()))
            self._changed.notify_all()

        def lost() -> bool:
            return running.dropped or running.holder != attempt or self._closed

        if stage == "train" and epoch in running.job.rungs:
            await self._wait(lambda: lost() or epoch in running.decided, self._rung_wait_s)
        return not lost()

    async def waits(self, trial: str, attempt: int, words: str) -> None:
        """Takes word of what a job waits for before it begins."""
        async with self._changed:
            running = self._jobs[trial]
            if running.holder == attempt:
                now_s = self._clock()
                running.updates.append(Update("waits", time_s=now_s, words=words))
                self._changed.notify_all()

    async def finish(self, trial: str, attempt: int, outcome: Outcome) -> None:
        """Takes the end of a job from those who hold it; the first word counts."""
        async with self._changed:
            running = self._jobs[trial]
            if running.holder != attempt:
                return
            self._end(trial, outcome)
            self._release(running)
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
        """A slot's workers are gone: its unfinished job goes to the head of the queue at once.

        Nobody waits for the slot to be rebuilt, because its resources may be another slot's by now.
        """
        async with self._changed:
            if slot in self._slots:
                self._give_up(slot)

    async def follow_nodes(
        self, usable: Collection[str], lost: Collection[str], closed: Collection[str]
    ) -> None:
        """Says where jobs may run; groups elsewhere lose theirs, or get none yet.

        Args:
            usable: Ids of the nodes where they may.
            lost: Of nodes that died.
            closed: Of nodes where nothing may run: they are about to leave, or were refused.
        """
        async with self._changed:
            self._usable = frozenset(usable)
            self._gone = frozenset(lost) | frozenset(closed)
            self._lost |= set(lost)
            for slot, place in [*self._slots.items()]:
                if self._gone & place.group.nodes:
                    if place.trial and not place.group.nodes & frozenset(lost):
                        self._jobs[place.trial].held_on.pop()  # that it has to leave is no death
                    self._give_up(slot)
            self._changed.notify_all()

    async def closed_nodes(self) -> frozenset[str]:
        """The nodes where nothing may run, alive or not."""
        return self._gone

    async def slots(self) -> dict[str, str]:
        """The slots that have workers, each with the trial that it runs, or empty."""
        return {name: slot.trial for name, slot in self._slots.items()}

    async def is_closed(self) -> bool:
        """Whether the sweep ends."""
        return self._closed

    async def close(self) -> None:
        """Ends every wait: slots end, running jobs stop after the epoch they are in."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _seat(self, group: Group) -> _Slot | None:
        """The place of a group; None: it has to end."""
        if group.id in self._given_up or self._closed:
            return None
        place = self._slots.get(group.slot)
        if place is None or place.group.id != group.id:
            if place is not None:
                self._give_up(group.slot)
            place = self._slots[group.slot] = _Slot(group)
            if group.nodes & self._gone:
                self._give_up(group.slot)
                return None
            self._changed.notify_all()
        return place

    def _may_work(self, group: Group) -> bool:
        return self._usable is None or group.nodes <= self._usable

    def _give_up(self, slot: str) -> None:
        place = self._slots.pop(slot)
        self._given_up.add(place.group.id)
        if place.trial:
            self._queue.appendleft(place.trial)
            self._release(self._jobs[place.trial])
        self._changed.notify_all()

    def _release(self, running: _Running) -> None:
        """Nobody holds the job any more."""
        if running.group is not None:
            place = self._slots.get(running.group.slot)
            if place is not None and place.group.id == running.group.id:
                place.trial = ""
        running.holder, running.group = 0, None

    def _hand_out(self, trial: str, place: _Slot) -> bool:
        running = self._jobs[trial]
        alive = running.outcome is None and not running.dropped
        if running.news > running.news_at_handout:
            running.held_on.clear()
        losses = sum(bool(nodes & self._lost) for nodes in running.held_on)
        deaths = len(running.held_on) - losses
        if alive and (deaths >= MAX_DEATHS or losses >= MAX_LOSSES):
            self._end(trial, _died(running.epoch, deaths, losses))
            alive = False
        if not alive:
            self._changed.notify_all()
            return False
        running.attempts += 1
        running.holder, running.group = running.attempts, place.group
        running.job = replace(running.job, attempt=running.attempts)
        running.held_on.append(place.group.nodes)
        running.news_at_handout = running.news
        place.trial = trial
        slot, host = place.group.slot, place.group.host
        running.updates.append(Update("started", slot=slot, node=host, time_s=self._clock()))
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


def _died(epoch: int, deaths: int, losses: int) -> Outcome:
    if deaths >= MAX_DEATHS:
        reason = (
            f"its worker died {deaths} times in a row after epoch {epoch} without a message: most "
            "likely the system ended it for lack of memory (see dmesg)"
        )
    else:
        reason = (
            f"{losses} nodes died under it in a row after epoch {epoch}, before it had done the "
            "next: an epoch takes longer than they last, or it makes them run out of memory"
        )
    return Outcome("failed", reason, epoch=epoch)
