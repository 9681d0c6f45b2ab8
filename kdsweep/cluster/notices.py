"""What Kubernetes says of a RayCluster that does not start: warnings, and why its pods wait.

Source: KubeRay's event names are those of ray-operator/controllers/ray/utils/constant.go; the
operator tells in them alone that it refuses a RayCluster (controllers/ray/raycluster_controller.go
after utils/validation.go), and then waits for another one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsweep.cluster.mask import mask

Answer = Mapping[str, Any]
"""A list as ``kubectl get -o json`` gives it."""

_FINAL = {
    ("RayCluster", "InvalidRayClusterSpec"),
    ("RayCluster", "InvalidRayClusterMetadata"),
    ("Pod", "InvalidImageName"),
}
"""What no waiting mends: the operator or the node has read the text and refuses it."""

_IMAGE = "Check the image's name, and that nodes may pull it (imagePullSecrets)."
_VOLUME = "Check the volume's claim and its storage class: kubectl describe pvc"
_LOG = "See its log: kubectl logs POD --all-containers"
_ROOM = "No node takes it: ask for less in resources, check nodeSelector and taints, or add nodes."
_HINTS = {
    "Unschedulable": _ROOM,
    "FailedScheduling": _ROOM,
    "InvalidImageName": _IMAGE,
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "FailedMount": _VOLUME,
    "FailedAttachVolume": _VOLUME,
    "FailedBinding": _VOLUME,
    "ProvisioningFailed": _VOLUME,
    "CreateContainerConfigError": "A Secret or ConfigMap that it names is not there.",
    "CrashLoopBackOff": _LOG,
    "Error": _LOG,
    "OOMKilled": _LOG,
}
_SHOWN = 6
_LONGEST = 500


@dataclass(frozen=True)
class Notice:
    """Something that Kubernetes says of an object.

    Attributes:
        kind: Of the object, such as Pod.
        name: Of the object.
        reason: Kubernetes's word for it.
        message: More of it, in one line; may be empty.
        count: How often it was said.
        event: Id of the event; empty where it is the state of a pod.
    """

    kind: str
    name: str
    reason: str
    message: str
    count: int = 1
    event: str = ""

    @property
    def is_final(self) -> bool:
        """Whether no waiting mends it."""
        return (self.kind, self.reason) in _FINAL

    @property
    def what(self) -> tuple[str, str, str]:
        """The same for all objects of a kind that have the same trouble."""
        return self.kind, self.reason, self.message


def states(pods: Answer) -> list[Notice]:
    """Why pods are not ready; nothing of those that are."""
    return [state for pod in pods["items"] for state in _state(pod)]


def warnings(events: Answer, cluster: str, pods: Answer) -> list[Notice]:
    """The warnings about a RayCluster, its pods and the volumes that they claim, oldest first."""
    about = {("RayCluster", cluster)}
    for pod in pods["items"]:
        about.add(("Pod", pod["metadata"]["name"]))
        for volume in pod["spec"].get("volumes") or ():
            if claim := volume.get("persistentVolumeClaim"):
                about.add(("PersistentVolumeClaim", claim["claimName"]))
    found: list[tuple[str, Notice]] = []
    for event in events["items"]:
        of = event["involvedObject"]
        if event.get("type") == "Warning" and (of.get("kind"), of.get("name")) in about:
            # Kubernetes counts in one of two ways, by which of its two libraries has written it.
            series = event.get("series") or {}
            metadata = event["metadata"]
            last = series.get("lastObservedTime") or event.get("lastTimestamp")
            last = last or event.get("eventTime") or metadata.get("creationTimestamp") or ""
            count = series.get("count") or event.get("count") or 1
            text = _line(event.get("message"))
            reason = event.get("reason") or "Warning"
            id_ = metadata.get("uid") or metadata["name"]
            found.append((last, Notice(of["kind"], of["name"], reason, text, count, id_)))
    return [notice for _, notice in sorted(found, key=lambda one: one[0])]


def groups(notices: Iterable[Notice]) -> list[list[Notice]]:
    """Notices of the same trouble together; what is said again moves to the end."""
    found: dict[tuple[str, str, str], list[Notice]] = {}
    for notice in notices:
        found[notice.what] = [*found.pop(notice.what, []), notice]
    return list(found.values())


def lines(notices: Iterable[Notice]) -> Iterator[str]:
    """The last distinct notices for the user: what, how often, what to do."""
    for same in groups(notices)[-_SHOWN:]:
        yield f"  {line(same)}"
        if hint := _HINTS.get(same[0].reason):
            yield f"    {hint}"


def line(same: Sequence[Notice]) -> str:
    """One group of notices in one line."""
    first = same[0]
    others = len({notice.name for notice in same}) - 1
    more = f" (and {others} more)" if others else ""
    count = sum(notice.count for notice in same)
    often = f" ({count} times)" if count > others + 1 else ""
    words = ": ".join(word for word in (first.reason, first.message) if word)
    return f"{first.kind} {first.name}{more}: {words}{often}"


def _state(pod: Mapping[str, Any]) -> Iterator[Notice]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if (conditions.get("Ready") or {}).get("status") == "True":
        return
    told = False
    for key in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(key) or ():
            state = container.get("state") or {}
            if waiting := state.get("waiting"):
                told = True
                reason, text = waiting.get("reason") or "waiting", waiting.get("message")
                yield Notice("Pod", name, reason, _line(text))
            elif (ended := state.get("terminated")) and ended.get("exitCode"):
                told = True
                text = f"{container['name']} ended with exit code {ended['exitCode']}"
                text = f"{text}. {ended.get('message') or ''}"
                yield Notice("Pod", name, ended.get("reason") or "Error", _line(text))
    for key in ("PodScheduled", "Ready"):
        condition = conditions.get(key) or {}
        if not told and condition.get("status") == "False":
            told = True
            reason = condition.get("reason") or f"not {key}"
            yield Notice("Pod", name, reason, _line(condition.get("message")))
    if not told:
        yield Notice("Pod", name, status.get("phase") or "not ready", "")


def _line(text: object) -> str:
    """A message in one line, without the values of secrets."""
    whole = mask(" ".join(str(text or "").split()))
    return whole if len(whole) <= _LONGEST else f"{whole[:_LONGEST]} ..."
