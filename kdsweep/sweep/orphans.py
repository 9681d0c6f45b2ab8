"""Gives back what a slot reserved whose controller died before Ray Train's own cleaner knew of it.

A controller registers its placement group with the cleaner only when its workers are up. One that
is killed while they start leaves the reservation behind for ever, and no slot could start in its
place.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.exceptions
from ray.util import remove_placement_group
from ray.util.placement_group import PlacementGroup, PlacementGroupID
from ray.util.state import list_actors, list_placement_groups
from ray.util.state.exception import RayStateApiException

from kdsweep.errors import ResourceError

_GRACE_S = 20.0
"""A reservation that nobody has used so long after a death is given back."""
_END_S = 60.0
"""So long at most are the controllers of a sweep waited for that has ended."""
_CONTROLLER = "TrainController"
"""Ray Train's name of the class; each slot has one."""
_LIMIT = 10_000


class Orphans:
    """Reservations that may have lost their owner.

    Args:
        others: Whether there may be some that are not the sweep's, made by this process before.
    """

    def __init__(self, others: bool = False) -> None:
        self._others = _patiently(lambda: _reserved() | _controllers()) if others else set()
        self._suspects: set[str] = set()
        self._since_s = 0.0

    def suspect(self) -> None:
        """Notes the reservations of the moment: one of their owners has died."""
        with contextlib.suppress(RayStateApiException):  # it is busy
            self._suspects |= _reserved()
        self._since_s = time.monotonic()

    def release(self) -> None:
        """Gives back the suspects that no living process uses, once they had time to be used."""
        if not self._suspects or time.monotonic() - self._since_s < _GRACE_S:
            return
        try:
            actors = list_actors(**_asked())
            reserved = _reserved()
        except RayStateApiException:
            return  # asked again at the next look
        used = {actor.placement_group_id for actor in actors if actor.state != "DEAD"}
        _remove(self._suspects & reserved - used)
        self._suspects.clear()

    def release_own(self) -> None:
        """Gives back all that was reserved for the sweep, whose slots were told to end.

        A controller that is about to die may still reserve something, so all of them end first.
        """
        until = time.monotonic() + _END_S
        while True:
            late = time.monotonic() > until
            try:
                ended = late or not _controllers() - self._others
                left = _reserved() - self._others
            except RayStateApiException:  # it is busy
                ended, left = False, set()
            if ended:
                _remove(left)
            if late or (ended and not left):
                return
            time.sleep(0.1)


def _patiently(ask: Callable[[], set[str]]) -> set[str]:
    """An answer of Ray, which may be busy for a while.

    Raises:
        ResourceError: It does not answer.
    """
    until = time.monotonic() + _END_S
    while True:
        try:
            return ask()
        except RayStateApiException as error:
            if time.monotonic() > until:
                raise ResourceError(f"Ray does not say what is reserved on it: {error}") from None
        time.sleep(0.5)


def _remove(groups: set[str]) -> None:
    for group in groups:
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group)))


def _asked() -> dict[str, Any]:
    """This cluster, of which there may be several on one machine; and everything that it has."""
    address = ray.get_runtime_context().gcs_address
    return {"address": address, "limit": _LIMIT, "detail": True, "raise_on_missing_output": False}


def _reserved() -> set[str]:
    """Placement groups of this job that hold CPUs or GPUs; those of Tune's trials hold neither.

    Raises:
        RayStateApiException: Ray does not answer in time.
    """
    job = ray.get_runtime_context().get_job_id()
    return {
        group.placement_group_id
        for group in list_placement_groups(**_asked())
        if group.creator_job_id == job
        and group.state != "REMOVED"
        and any({"CPU", "GPU"} & set(bundle["unit_resources"]) for bundle in group.bundles or ())
    }


def _controllers() -> set[str]:
    """Ray Train's controllers of this job that live.

    Raises:
        RayStateApiException: Ray does not answer in time.
    """
    job = ray.get_runtime_context().get_job_id()
    return {
        actor.actor_id
        for actor in list_actors(**_asked())
        if actor.job_id == job and actor.class_name == _CONTROLLER and actor.state != "DEAD"
    }
