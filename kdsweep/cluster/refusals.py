"""What KubeRay's operator, or Kubernetes, would refuse only once half of a file stands.

Source: ray-project/kuberay, ray-operator/controllers/ray/utils/validation.go (commit 0074504):
ValidateRayClusterSpec (rayVersion with tokens), validateRayGroupResources, validateRayGroupLabels;
the volumes that its pods get besides: controllers/ray/common/pod.go.
Differs from the source: minReplicas above maxReplicas is refused in any case; versions of the
operator refuse it, or take it for either of the two. `replicas` outside of both is not refused:
every version moves it to the nearer one (utils/util.go, GetWorkerGroupDesiredReplicas).
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from kdsweep.cluster.commands import PASSWORD, STORES
from kdsweep.cluster.files import Faults, Part
from kdsweep.cluster.mask import mask
from kdsweep.errors import did_you_mean
from kdsweep.spec.fault import Path

_OLDEST = (2, 52, 0)
_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
_GIVEN = ("shared-mem", "ray-logs")
"""Volumes that the operator adds to the pods itself."""
_STORE = re.compile(rf"(?P<option>{'|'.join(STORES)})[=\s]+[\"']?(?P<value>[^\s\"']+)")


def check_operator(part: Part, groups: list[Path], faults: Faults) -> None:
    """Notes what the operator refuses, and pods that Kubernetes would.

    Args:
        part: The RayCluster.
        groups: Where its head and its workers are.
        faults: Takes the faults.
    """
    _check_version(part, faults)
    for group in groups:
        parameters = part.get(*group, "rayStartParams") or {}
        given = [key for key in _RESOURCES if parameters.get(key)]
        if given and part.get(*group, "resources"):
            hint = "The operator takes one of them. Leave out the group's resources, or these."
            text = f"has {', '.join(given)}, and the group has resources besides"
            faults.add(part, (*group, "rayStartParams", given[0]), text, hint)
        if "labels" in parameters:
            hint = "Write labels beside rayStartParams."
            faults.add(part, (*group, "rayStartParams", "labels"), "is refused by KubeRay", hint)
        least, most = part.get(*group, "minReplicas") or 0, part.get(*group, "maxReplicas")
        if most is not None and least > most:
            text = f"is {least}, above maxReplicas: {most}"
            faults.add(part, (*group, "minReplicas"), text, "Give at most maxReplicas.")
        _check_volumes(part, (*group, "template", "spec"), faults)


def check_service(part: Part, parts: list[Part], where: Path, uri: str, faults: Faults) -> None:
    """Notes a port of the tracking URI that the Service of the same file does not have."""
    found = service_of(uri, part, parts)
    if found is None or found.get("spec", "clusterIP") == "None":  # without one, all are open
        return
    entries = found.get("spec", "ports")
    ports = [entry.get("port") for entry in entries or () if isinstance(entry, dict)]
    if ports and port_of(uri) not in ports:
        name, have = found.get("metadata", "name"), ", ".join(map(str, ports))
        text = f"MLFLOW_TRACKING_URI names port {port_of(uri)}, but Service {name} has {have}"
        faults.add(part, where, text, f"Such as: http://{name}:{ports[0]}")


def check_stores(parts: list[Part], faults: Faults) -> None:
    """Notes passwords in the command lines of pods; whoever may look at pods can read those."""
    for part in parts:
        for path, line in _commands(part.values, ()):
            for found in _STORE.finditer(line):
                if PASSWORD.search(found["value"]) and "$" not in found["value"]:
                    text = f"{found['option']} holds a password: {mask(found['value'])}"
                    hint = "Leave it out of the address, and give it as PGPASSWORD from a Secret "
                    hint += "(see PostgreSQL in the README)."
                    faults.add(part, path, text, hint)


def service_of(uri: str, part: Part, parts: list[Part]) -> Part | None:
    """The Service of a file that a tracking URI names; None where it names another server."""
    name, *rest = (urlsplit(uri).hostname or "").split(".")
    home = part.get("metadata", "namespace")
    for other in parts:
        spec, space = other.get("metadata"), other.get("metadata", "namespace") or home
        if other.get("kind") == "Service" and spec and spec.get("name") == name:
            inside = not rest or rest[1:2] == ["svc"] or len(rest) == 1
            if inside and (not rest or space is None or rest[0] == space):
                return other
    return None


def port_of(uri: str) -> int:
    """The port of a URI, also where that goes without saying."""
    address = urlsplit(uri)
    return address.port or (443 if address.scheme == "https" else 80)


def _check_version(part: Part, faults: Faults) -> None:
    where: Path = ("spec", "rayVersion")
    given = part.get(*where)
    found = re.match(r"\s*v?(\d+)\.(\d+)(?:\.(\d+))?", given)
    oldest = ".".join(map(str, _OLDEST))
    if found is None:
        faults.add(part, where, f"is no version: {given!r}", f'Such as: "{oldest}" or newer.')
    elif tuple(int(number or 0) for number in found.groups()) < _OLDEST:
        hint = f"With tokens, KubeRay takes {oldest} or newer. Give the version of the image's Ray."
        faults.add(part, where, f"is too old: {given!r}", hint)


def _check_volumes(part: Part, pod: Path, faults: Faults) -> None:
    volumes = [one.get("name") for one in part.get(*pod, "volumes") or () if isinstance(one, dict)]
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(part.get(*pod, kind) or ()):
            mounts = container.get("volumeMounts") if isinstance(container, dict) else None
            for number, mount in enumerate(mounts or ()):
                name = mount.get("name") if isinstance(mount, dict) else None
                if isinstance(name, str) and name not in (*volumes, *_GIVEN):
                    path = (*pod, kind, index, "volumeMounts", number, "name")
                    known = [one for one in volumes if isinstance(one, str)]
                    hint = did_you_mean(name, known) if known else "Add it to the pod's volumes."
                    faults.add(part, path, f"is no volume of the pod: {name!r}", hint)


def _commands(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Each container's command line in a document, and where it is."""
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _commands(inner, (*path, index))
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("command", "args") and isinstance(inner, list):
                yield (*path, key), " ".join(map(str, inner))
            else:
                yield from _commands(inner, (*path, key))
