"""Pods and events in the form in which ``kubectl get -o json`` gives them."""

import uuid
from typing import Any

BOUND = {"PersistentVolumeClaim": "v1", "Pod": "v1", "RayCluster": "ray.io/v1"}


def a_list(*items: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "items": list(items),
        "kind": "List",
        "metadata": {"resourceVersion": ""},
    }


def event(
    kind: str, name: str, reason: str, message: str, *, count: int = 1, minute: int = 0, **changes
) -> dict[str, Any]:
    """An event as the operator and the kubelet write them; `changes` replace fields."""
    time = f"2026-11-25T10:{minute:02d}:07Z"
    whole = {
        "apiVersion": "v1",
        "count": count,
        "eventTime": None,
        "firstTimestamp": "2026-11-25T10:00:07Z",
        "involvedObject": {
            "apiVersion": BOUND[kind],
            "kind": kind,
            "name": name,
            "namespace": "default",
            "resourceVersion": "48213",
            "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        },
        "kind": "Event",
        "lastTimestamp": time,
        "message": message,
        "metadata": {
            "creationTimestamp": "2026-11-25T10:00:07Z",
            "name": f"{name}.187b3f0c9d2a41e6",
            "namespace": "default",
            "resourceVersion": "48220",
            "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name} {reason} {message}")),
        },
        "reason": reason,
        "reportingComponent": "raycluster-controller",
        "reportingInstance": "",
        "source": {"component": "raycluster-controller"},
        "type": "Warning",
    }
    return {**whole, **changes}


def scheduler_event(name: str, message: str, *, count: int = 1, minute: int = 0) -> dict[str, Any]:
    """An event of the scheduler, which counts in a series and leaves the older fields empty."""
    last = f"2026-11-25T10:{minute:02d}:07.482913Z"
    return event(
        "Pod",
        name,
        "FailedScheduling",
        message,
        action="Scheduling",
        count=None,
        eventTime="2026-11-25T10:00:07.482913Z",
        firstTimestamp=None,
        lastTimestamp=None,
        reportingComponent="default-scheduler",
        reportingInstance="default-scheduler-control-plane",
        series={"count": count, "lastObservedTime": last} if count > 1 else None,
        source={},
    )


def pod(name: str, *, waiting: tuple[str, str] | None = None, **status: Any) -> dict[str, Any]:
    """A pod of a RayCluster; its container waits, or its status is as given."""
    container: dict[str, Any] = {
        "image": "registry.example.com/kdsweep:2.60.0",
        "imageID": "",
        "lastState": {},
        "name": "ray-head",
        "ready": False,
        "restartCount": 0,
        "started": False,
    }
    if waiting:
        reason, message = waiting
        words = {"reason": reason, **({"message": message} if message else {})}
        status = {"containerStatuses": [{**container, "state": {"waiting": words}}], **status}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "labels": {"ray.io/cluster": "kdsweep", "ray.io/node-type": "head"},
            "name": name,
            "namespace": "default",
        },
        "spec": {
            "containers": [{"image": container["image"], "name": "ray-head"}],
            "volumes": [
                {"name": "shared", "persistentVolumeClaim": {"claimName": "kdsweep-shared"}},
                {"emptyDir": {"medium": "Memory"}, "name": "shared-mem"},
            ],
        },
        "status": {"phase": "Pending", **status},
    }


def ended(name: str, reason: str, code: int) -> dict[str, Any]:
    """A pod whose container has ended."""
    whole = pod(name, waiting=(reason, ""))
    (container,) = whole["status"]["containerStatuses"]
    container["state"] = {"terminated": {"containerID": "", "exitCode": code, "reason": reason}}
    return whole


def unscheduled(name: str, message: str) -> dict[str, Any]:
    """A pod that no node takes."""
    condition = {"status": "False", "type": "PodScheduled", "reason": "Unschedulable"}
    return pod(name, conditions=[{**condition, "message": message}])


def ready(name: str) -> dict[str, Any]:
    """A pod that is up."""
    return pod(name, phase="Running", conditions=[{"status": "True", "type": "Ready"}])
