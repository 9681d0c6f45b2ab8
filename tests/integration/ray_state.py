"""What Ray says of its actors and reservations: it is asked again where it is busy."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.util.state import list_actors, list_placement_groups
from ray.util.state.exception import RayStateApiException

_PATIENCE_S = 60.0

Answer = TypeVar("Answer")


def patiently(ask: Callable[[], Answer]) -> Answer:
    """An answer of Ray's state API, which gives none in time while it is busy."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ask()
        except RayStateApiException:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)  # other processes are waited for


def actors(name: str) -> list[int]:
    """Processes of the living actors of a class, by the end of its name."""
    filters = [("state", "=", "ALIVE")]
    found = patiently(lambda: list_actors(**_all(), filters=filters))
    return [actor.pid for actor in found if actor.class_name.endswith(name)]


def reserved() -> list[str]:
    """Placement groups that are left once Ray and its Train have had time to tidy up."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        groups = patiently(lambda: list_placement_groups(**_all()))
        left = [group.placement_group_id for group in groups if group.state != "REMOVED"]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)  # other processes are waited for


def _all() -> dict[str, Any]:
    """Everything of the cluster that this process is connected to; others may be here too."""
    address = ray.get_runtime_context().gcs_address
    return {"address": address, "limit": 1000, "detail": True}
