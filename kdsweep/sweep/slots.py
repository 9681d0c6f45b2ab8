"""Keeps a sweep's slots alive, from the driver: starts them, notices their end, starts them anew.

Ray Train rebuilds a slot whose workers die; here only the end of a slot's controller, or of the
process that all slots live in, is dealt with.
"""

import time
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdsweep.errors import ResourceError
from kdsweep.sweep.orphans import Orphans
from kdsweep.sweep.resources import Layout

_RESTARTS = 5
"""So often is a slot started again after its controller died."""
_CHECK_S = 0.5


class Slots:
    """The slots of a sweep.

    Args:
        layout: How many there are and what each needs.
        pool: Handle of the pool's actor.
        storage: Folder for Ray Train's own files.
        isolated: Give every job processes of its own.
        start_timeout_s: So long may the first slot take to come up.
    """

    def __init__(
        self,
        layout: Layout,
        pool: Any,
        storage: Path,
        *,
        isolated: bool = False,
        start_timeout_s: float = 300.0,
    ) -> None:
        self._layout = layout
        self._pool = pool
        self._storage = storage
        self._isolated = isolated
        self._start_timeout_s = start_timeout_s
        self._host: Any = None
        self._running: dict[Any, tuple[str, Any]] = {}
        self._orphans = Orphans()
        self._deaths: dict[str, int] = {}
        self._last_error = "Ray is still waiting for the resources"
        self._began_s = self._checked_s = time.monotonic()
        self._up = 0

    def start(self) -> None:
        """Starts the first slot; `check` starts the others when it is up.

        Starting them together would delay the first one, which the teacher waits for.
        """
        self._begin("slot-0")

    def check(self) -> None:
        """Looks after the slots; called often, works at most twice a second.

        Raises:
            ResourceError: The first slot does not come up, or all slots are gone for good.
        """
        now = time.monotonic()
        if now - self._checked_s < _CHECK_S:
            return
        self._checked_s = now
        self._restart_lost()
        if not self._up:
            self._up = ray.get(self._pool.wait_for_slots.remote(1, 0.0))
            if self._up:
                for number in range(1, self._layout.slots):
                    self._begin(f"slot-{number}")
        if not self._running:
            raise ResourceError(f"no slot is left to train in: {self._last_error}")
        if not self._up and now - self._began_s > self._start_timeout_s:
            raise ResourceError(
                f"no worker came up within {now - self._began_s:.0f} s for trials that need "
                f"{self._layout.need}: {self._last_error}"
            )

    def close(self, timeout_s: float) -> None:
        """Lets the slots end by themselves for a while; idle ones take a second."""
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=timeout_s)

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
                self._note(name, error)
            except ray.exceptions.RayActorError as error:
                # All slots of a host die with it, but only the first one to be seen needs another.
                self._host = None if self._host is host else self._host
                self._note(name, error)
            self._orphans.suspect()
            ray.get(self._pool.slot_lost.remote(name))
            if self._deaths[name] <= _RESTARTS:
                self._begin(name)

    def _note(self, name: str, error: Exception) -> None:
        self._deaths[name] = self._deaths.get(name, 0) + 1
        self._last_error = f"{type(error).__name__}: {error}"

    def _new_host(self) -> Any:
        from kdsweep.sweep.slot_host import SlotHost  # brings torch, which the driver need not have

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(SlotHost).options(
            num_cpus=0, max_concurrency=self._layout.slots + 1, scheduling_strategy=here
        )
        return actor.remote(self._layout, self._pool, self._storage, self._isolated)
