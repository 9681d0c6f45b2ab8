"""Keeps a sweep's slots alive, from the driver: as many as fit the nodes of the moment.

Ray Train rebuilds a slot whose workers die, elsewhere if need be. Here the end of a slot's
controller, or of the process that all slots live in, is dealt with, and the nodes are followed:
where some joined, slots are added; where some left, jobs move and surplus slots wait for room.
"""

import time
from collections.abc import Callable
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdsweep.errors import ResourceError
from kdsweep.sweep.nodes import Nodes, View
from kdsweep.sweep.orphans import Orphans
from kdsweep.sweep.resources import Layout, count_slots

_RESTARTS = 5
"""So often is a slot started again after its controller died."""
_CHECK_S = 0.5
_LOOK_S = 2.0
_STARVED_S = 900.0
"""So long may no trial fit on the nodes that are left, before the sweep stops."""
_MOST = 512
"""Slots that one host can hold: each waits in a thread of it."""


class Slots:
    """The slots of a sweep.

    Args:
        layout: How many there are at first and what each needs.
        view: The nodes that this is true of.
        pool: Handle of the pool's actor.
        nodes: The cluster's nodes.
        storage: Folder or URI for Ray Train's own files.
        concurrent: Upper limit of trials at once.
        isolated: Give every job processes of its own.
        stays: Whether this process stays connected to Ray afterwards.
        note: Shows one line to the user.
        start_timeout_s: So long may the first slot take to come up.
    """

    def __init__(
        self,
        layout: Layout,
        view: View,
        pool: Any,
        nodes: Nodes,
        storage: str,
        *,
        concurrent: int | None = None,
        isolated: bool = False,
        stays: bool = False,
        note: Callable[[str], None] = lambda _: None,
        start_timeout_s: float = 300.0,
    ) -> None:
        self.layout = layout
        self._view = view
        self._pool = pool
        self._nodes = nodes
        self._storage = storage
        self._concurrent = concurrent
        self._isolated = isolated
        self._note = note
        self._start_timeout_s = start_timeout_s
        self._host: Any = None
        self._running: dict[Any, tuple[str, Any]] = {}
        self._begun = 0
        self._stays = stays
        self._orphans = Orphans(stays)
        self._deaths: dict[str, int] = {}
        self._last_error = "Ray is still waiting for the resources"
        self._began_s = self._checked_s = self._looked_s = self._fitted_s = time.monotonic()
        self._up = False
        self.count = layout.slots
        """Trials that fit at once now."""

    def start(self) -> None:
        """Starts the first slot; `check` starts the others when it is up.

        Starting them together would delay the first one, which the teacher waits for.
        """
        self._tell_pool()
        self._begin_next()

    def check(self) -> None:
        """Looks after the slots; called often, works at most twice a second.

        Raises:
            ResourceError: The first slot does not come up, all slots are gone for good, or no
                trial has fitted on the nodes that are left for a long time.
        """
        now = time.monotonic()
        if now - self._checked_s < _CHECK_S:
            return
        self._checked_s = now
        self._restart_lost()
        if now - self._looked_s >= _LOOK_S:
            self._looked_s = now
            self._follow_nodes(now)
        self._up = self._up or bool(ray.get(self._pool.slots.remote()))
        while self._up and self._begun < self.count:
            self._begin_next()
        if not self._running:
            raise ResourceError(f"no slot is left to train in: {self._last_error}")
        if not self._up and now - self._began_s > self._start_timeout_s:
            raise ResourceError(
                f"no worker came up within {now - self._began_s:.0f} s for trials that need "
                f"{self.layout.need}: {self._last_error}"
            )

    def close(self, timeout_s: float) -> None:
        """Lets the slots that have workers end by themselves for a while; idle ones take a second.

        Slots that wait for room are not waited for. Where this process stays connected to Ray,
        everything that is left of them is removed.
        """
        try:
            up = ray.get(self._pool.slots.remote())
        except ray.exceptions.RayError:  # the pool is gone, and nobody ends by itself then
            up = {}
        ending = [call for call, (name, _) in self._running.items() if name in up]
        if ending:
            ray.wait(ending, num_returns=len(ending), timeout=timeout_s)
        if self._stays and self._host is not None:
            ray.kill(self._host)
            self._orphans.release_own()

    def _follow_nodes(self, now_s: float) -> None:
        seen = self._nodes.look()
        before, self._view = self._view, seen
        if seen != before:
            self._tell_pool()
            count = count_slots(self.layout.need, [*seen.usable.values()], self._concurrent)
            for told in self._changes(before, seen):
                self._note(f"{told} Trials at once: {count}.")
            self.count = count
        if self.count:
            self._fitted_s = now_s
        elif now_s - self._fitted_s > _STARVED_S:
            raise ResourceError(
                f"a trial needs {self.layout.need}, which has not fitted on the nodes that are "
                f"left for {_STARVED_S / 60:.0f} min. Resume the sweep when nodes are back."
            )

    def _changes(self, before: View, now: View) -> list[str]:
        """What became of nodes, one sentence each."""
        name = self._nodes.name
        return [
            *(f"Node {name(n)} is lost." for n in sorted(now.lost - before.lost)),
            *(
                f"Node {name(n)} is about to leave."
                for n in sorted((now.closed - before.closed) & before.usable.keys())
            ),
            *(f"Node {name(n)} joined." for n in sorted(now.usable.keys() - before.usable.keys())),
        ]

    def _tell_pool(self) -> None:
        view = self._view
        ray.get(self._pool.follow_nodes.remote(list(view.usable), view.lost, view.closed))

    def _begin_next(self) -> None:
        self._begin(f"slot-{self._begun}")
        self._begun += 1

    def _begin(self, name: str) -> None:
        if self._host is None:
            self._host = self._new_host()
        self._running[self._host.keep.remote(name)] = (name, self._host)

    def _restart_lost(self) -> None:
        self._orphans.release()
        if not self._running:
            return
        ended, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for call in ended:
            name, host = self._running.pop(call)
            try:
                ray.get(call)
                continue  # the pool has closed
            except ray.exceptions.RayTaskError as error:  # raised within the host: it is alive
                self._count_death(name, error)
            except ray.exceptions.RayActorError as error:
                # All slots of a host die with it, but only the first one to be seen needs another.
                self._host = None if self._host is host else self._host
                self._count_death(name, error)
            self._orphans.suspect()
            ray.get(self._pool.slot_lost.remote(name))
            if self._deaths[name] <= _RESTARTS:
                self._begin(name)
            else:
                deaths = self._deaths[name]
                self._note(f"{name} died {deaths} times and is given up: {self._last_error}")

    def _count_death(self, name: str, error: Exception) -> None:
        self._deaths[name] = self._deaths.get(name, 0) + 1
        self._last_error = f"{type(error).__name__}: {error}"

    def _new_host(self) -> Any:
        from kdsweep.sweep.slot_host import SlotHost  # brings torch, which the driver need not have

        actor = ray.remote(SlotHost).options(
            num_cpus=0, max_concurrency=_MOST, scheduling_strategy=on_this_node()
        )
        return actor.remote(self.layout, self._pool, self._storage, self._isolated)


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Keeps an actor beside the driver: the loss of any other node does not touch it."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
