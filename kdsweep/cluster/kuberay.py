"""KubeRay manifests: what kdsweep relies on in them."""

import re
from dataclasses import dataclass
from pathlib import Path as FilePath
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from kdsweep.cluster.files import Faults, Part
from kdsweep.cluster.schema import check_schema
from kdsweep.cluster.tracking import is_loopback, trouble
from kdsweep.home import home_uri
from kdsweep.spec.fault import Path
from kdsweep.spec.sweep import NAME_PATTERN

_SPEC = (
    *("annotations", "authOptions", "autoscalerOptions", "enableInTreeAutoscaling"),
    *("gcsFaultToleranceOptions", "headGroupSpec", "headServiceAnnotations", "managedBy"),
    *("networkPolicy", "rayVersion", "suspend", "ttlSecondsAfterFinished", "upgradeStrategy"),
    "workerGroupSpecs",
)
_HEAD = ("enableIngress", "headService", "labels", "rayStartParams", "resources")
_HEAD_KEYS = (*_HEAD, "serviceType", "template")
_WORKER_KEYS = (
    *("groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts"),
    *("rayStartParams", "replicas", "resources", "scaleStrategy", "suspend", "template"),
)
_TEXT = {"type": "string"}
_CONTAINER = {
    "type": "object",
    "properties": {
        "env": {"type": "array", "items": {"type": "object", "properties": {"value": _TEXT}}},
        "volumeMounts": {
            "type": "array",
            "items": {"type": "object", "properties": {"mountPath": _TEXT}},
        },
    },
}
_GROUP = {
    "type": "object",
    "properties": {
        "rayStartParams": {"type": "object"},
        "template": {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {"containers": {"type": "array", "items": _CONTAINER}},
                }
            },
        },
    },
}
_SHAPE = {
    "type": "object",
    "properties": {
        "metadata": {"type": "object", "properties": {"namespace": _TEXT}},
        "spec": {
            "type": "object",
            "properties": {
                "headGroupSpec": _GROUP,
                "workerGroupSpecs": {"type": "array", "items": _GROUP},
            },
        },
    },
}
"""Types of what kdsweep reads of a RayCluster, as KubeRay's published definition has them."""

_HEAD_PATH: Path = ("spec", "headGroupSpec")
_POD: Path = ("template", "spec")


@dataclass(frozen=True)
class KubeRay:
    """A cluster that the KubeRay operator runs.

    Attributes:
        path: The file.
        name: Name of the RayCluster.
        namespace: Where it is; None: where kubectl's context points.
        home: Folder of everything that kdsweep writes, in every pod.
        tracking_uri: MLflow as the head sees it; None where the file does not say.
        mlflow: Service and port of MLflow, where the file has it.
    """

    path: FilePath
    name: str
    namespace: str | None
    home: str
    tracking_uri: str | None
    mlflow: tuple[str, int] | None

    kind = "KubeRay"
    python = "python"

    def kubectl(self, *words: str) -> list[str]:
        """A command of kubectl in the cluster's namespace."""
        where = ["--namespace", self.namespace] if self.namespace else []
        return ["kubectl", *where, *words]

    def start_commands(self) -> list[list[str]]:
        """What starts it and waits for it."""
        ready = "--for=jsonpath={.status.state}=ready"
        return [
            self.kubectl("apply", "-f", str(self.path)),
            self.kubectl("wait", f"raycluster/{self.name}", ready, "--timeout=900s"),
        ]


def read_kuberay(path: FilePath, parts: list[Part]) -> KubeRay:
    """Reads and validates manifests.

    Raises:
        SpecError: Something that kdsweep relies on is wrong; the message lists every fault.
    """
    faults = Faults(str(path))
    clusters = []
    for part in parts:
        kind = part.get("kind")
        if kind == "RayCluster":
            clusters.append(part)
        elif kind in ("RayJob", "RayService"):
            hint = "Give its rayClusterSpec as a RayCluster: kdsweep submits the job itself."
            faults.add(part, ("kind",), f"{kind}: kdsweep launches sweeps on a RayCluster", hint)
        elif str(part.get("apiVersion")).startswith("ray.io/"):
            faults.unknown_value(part, ("kind",), kind, ["RayCluster"])
    if len(clusters) != 1 and not faults.told:
        count = "holds no RayCluster" if not clusters else "holds several RayClusters"
        faults.add((clusters or parts)[-1], (), count, "kdsweep needs exactly one.")
    faults.refuse()
    (part,) = clusters
    check_schema(part, _SHAPE, faults, part.values)
    faults.refuse()  # what follows relies on types
    _check(part, faults)
    faults.refuse()
    env = _environment(part)
    return KubeRay(
        path=path,
        name=part.get("metadata", "name"),
        namespace=part.get("metadata", "namespace"),
        home=env["KDSWEEP_HOME"],
        tracking_uri=env.get("MLFLOW_TRACKING_URI"),
        mlflow=_mlflow(env.get("MLFLOW_TRACKING_URI"), parts),
    )


def _check(part: Part, faults: Faults) -> None:
    if part.get("apiVersion") != "ray.io/v1":
        faults.unknown_value(part, ("apiVersion",), part.get("apiVersion"), ["ray.io/v1"])
    name = part.get("metadata", "name")
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
        faults.add(part, ("metadata", "name"), f"is no name: {name!r}")
    _check_keys(part, ("spec",), _SPEC, faults)
    _check_keys(part, _HEAD_PATH, _HEAD_KEYS, faults)
    if part.get("spec", "authOptions", "mode") != "token":
        hint = "Without it, whoever reaches the cluster's ports can run code. Write: {mode: token}"
        faults.add(part, ("spec", "authOptions"), "must have mode: token", hint)
    groups: list[Path] = [_HEAD_PATH]
    for index, _ in enumerate(part.get("spec", "workerGroupSpecs") or ()):
        groups.append(("spec", "workerGroupSpecs", index))
        _check_keys(part, groups[-1], _WORKER_KEYS, faults)
    if len(groups) == 1:
        faults.add(part, ("spec", "workerGroupSpecs"), "has no group: no trial could run")
    for group in groups:
        for key, value in (part.get(*group, "rayStartParams") or {}).items():
            if not isinstance(value, str):
                hint = f'KubeRay takes text only. Write: {key}: "{value}"'
                faults.add(part, (*group, "rayStartParams", key), f"is no text: {value!r}", hint)
        autoscaled = part.get("spec", "enableInTreeAutoscaling")
        if autoscaled and part.get(*group, *_POD, "restartPolicy") != "Never":
            hint = "Ray's autoscaler takes a restarted pod for the old node."
            faults.add(part, (*group, *_POD, "restartPolicy"), "must be Never", hint)
    _check_home(part, groups, faults)


def _check_home(part: Part, groups: list[Path], faults: Faults) -> None:
    env = _environment(part)
    home = env.get("KDSWEEP_HOME")
    where: Path = (*_HEAD_PATH, *_POD, "containers", 0, "env")
    if not isinstance(home, str) or not (home.startswith("/") or home_uri(home)):
        hint = "Such as: {name: KDSWEEP_HOME, value: /shared/kdsweep}"
        given = f"not {home!r}" if home else f"it has {', '.join(map(str, env)) or 'none'}"
        faults.add(part, where, f"must give KDSWEEP_HOME as an absolute path; {given}", hint)
        return
    uri = str(env.get("MLFLOW_TRACKING_URI") or "")
    if found := trouble(home, uri):
        faults.add(part, where, *found)
    if is_loopback(uri):
        hint = "MLflow has a pod of its own. Name its Service: http://SERVICE:5000"
        text = "MLFLOW_TRACKING_URI is a loopback address, which in a pod is the pod itself"
        faults.add(part, where, text, hint)
    if home_uri(home):
        return
    for group in groups:
        mounts = part.get(*group, *_POD, "containers", 0, "volumeMounts") or ()
        paths = [mount.get("mountPath") for mount in mounts if isinstance(mount, dict)]
        if not any(
            isinstance(path, str) and PurePosixPath(home).is_relative_to(path) for path in paths
        ):
            hint = "Mount a ReadWriteMany volume there, on the head and on every group of workers."
            text = f"mounts nothing that holds KDSWEEP_HOME {home!r}"
            faults.add(part, (*group, *_POD, "containers", 0, "volumeMounts"), text, hint)


def _check_keys(part: Part, path: Path, valid: tuple[str, ...], faults: Faults) -> None:
    values = part.get(*path)
    if not isinstance(values, dict):
        faults.add(part, path, "is missing, or no mapping")
        return
    for key in values:
        if key not in valid:
            faults.unknown(part, (*path, key), valid)


def _environment(part: Part) -> dict[str, Any]:
    """The variables of the head's first container that are given as values."""
    entries = part.get(*_HEAD_PATH, *_POD, "containers", 0, "env") or ()
    return {
        str(entry.get("name")): entry.get("value") for entry in entries if isinstance(entry, dict)
    }


def _mlflow(uri: str | None, parts: list[Part]) -> tuple[str, int] | None:
    """The Service of this file that a tracking URI names."""
    if not uri:
        return None
    address = urlsplit(uri)
    service = (address.hostname or "").partition(".")[0]
    names = [part.get("metadata", "name") for part in parts if part.get("kind") == "Service"]
    return (service, address.port or 80) if service in names else None
