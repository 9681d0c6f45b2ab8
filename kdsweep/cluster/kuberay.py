"""KubeRay manifests: what kdsweep relies on in them."""

import re
from dataclasses import dataclass
from pathlib import Path as FilePath
from pathlib import PurePosixPath
from typing import Any

from kdsweep.cluster.files import Faults, Part
from kdsweep.cluster.raycluster import RAY_CLUSTER
from kdsweep.cluster.refusals import (
    check_operator,
    check_service,
    check_stores,
    port_of,
    service_of,
)
from kdsweep.cluster.schema import check_schema
from kdsweep.cluster.tracking import is_loopback, trouble
from kdsweep.home import home_uri
from kdsweep.spec.fault import Path

_NAME = r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?"
"""Names that the operator takes: they become the names of Services."""

_HEAD: Path = ("spec", "headGroupSpec")
_POD: Path = ("template", "spec")
_ENV: Path = (*_HEAD, *_POD, "containers", 0, "env")


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
        secret: Secret that holds the token.
        makes_namespace: Whether the file has its own namespace among what it makes.
    """

    path: FilePath
    name: str
    namespace: str | None
    home: str
    tracking_uri: str | None
    mlflow: tuple[str, int] | None
    secret: str
    makes_namespace: bool

    kind = "KubeRay"
    python = "python"

    def kubectl(self, *words: str) -> list[str]:
        """A command of kubectl in the cluster's namespace."""
        where = ["--namespace", self.namespace] if self.namespace else []
        return ["kubectl", *where, *words]

    def start_commands(self) -> list[list[str]]:
        """What starts it and waits for it.

        Kubernetes is asked about all documents before any is made: a field of a pod that it does
        not know would else be found when half of the file stands. Not where a namespace is made:
        what is in it would be refused for want of it.
        """
        ready = "--for=jsonpath={.status.state}=ready"
        apply = self.kubectl("apply", "-f", str(self.path))
        rehearsal = [] if self.makes_namespace else [[*apply, "--dry-run=server"]]
        return [
            *rehearsal,
            apply,
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
    check_schema(part, RAY_CLUSTER, faults, part.values)
    faults.refuse()  # what follows relies on types
    _check(part, faults)
    check_stores(parts, faults)
    env = _environment(part)
    if not faults.told:  # what follows relies on an address
        uri = str(env.get("MLFLOW_TRACKING_URI") or "")
        check_service(part, parts, _ENV, uri, faults)
    faults.refuse()
    return KubeRay(
        path=path,
        name=part.get("metadata", "name"),
        namespace=part.get("metadata", "namespace"),
        home=env["KDSWEEP_HOME"],
        tracking_uri=env.get("MLFLOW_TRACKING_URI"),
        mlflow=_mlflow(env.get("MLFLOW_TRACKING_URI"), part, parts),
        secret=part.get("spec", "authOptions", "secretName") or part.get("metadata", "name"),
        makes_namespace=any(other.get("kind") == "Namespace" for other in parts),
    )


def _check(part: Part, faults: Faults) -> None:
    name = part.get("metadata", "name")
    if not re.fullmatch(_NAME, name):
        hint = "Lower-case letters, digits and '-', beginning with a letter, at most 53."
        faults.add(part, ("metadata", "name"), f"is no name for KubeRay: {name!r}", hint)
    if part.get("spec", "authOptions", "mode") != "token":
        hint = "Without it, whoever reaches the cluster's ports can run code. Write: {mode: token}"
        faults.add(part, ("spec", "authOptions"), "must have mode: token", hint)
    if part.get("spec", "authOptions", "enableK8sTokenAuth"):
        hint = "kdsweep reads the token from a Secret. Take it out, or join by --address."
        faults.add(part, ("spec", "authOptions", "enableK8sTokenAuth"), "must not be true", hint)
    workers = range(len(part.get("spec", "workerGroupSpecs") or ()))
    groups: list[Path] = [_HEAD, *(("spec", "workerGroupSpecs", index) for index in workers)]
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
    check_operator(part, groups, faults)
    _check_home(part, groups, faults)


def _check_home(part: Part, groups: list[Path], faults: Faults) -> None:
    env = _environment(part)
    home = env.get("KDSWEEP_HOME")
    if not isinstance(home, str) or not (home.startswith("/") or home_uri(home)):
        hint = "Such as: {name: KDSWEEP_HOME, value: /shared/kdsweep}"
        given = f"not {home!r}" if home else f"it has {', '.join(map(str, env)) or 'none'}"
        faults.add(part, _ENV, f"must give KDSWEEP_HOME as an absolute path; {given}", hint)
        return
    uri = str(env.get("MLFLOW_TRACKING_URI") or "")
    if found := trouble(home, uri):
        faults.add(part, _ENV, *found)
    if is_loopback(uri):
        hint = "MLflow has a pod of its own. Name its Service: http://SERVICE:5000"
        text = "MLFLOW_TRACKING_URI is a loopback address, which in a pod is the pod itself"
        faults.add(part, _ENV, text, hint)
    if home_uri(home):
        return
    for group in groups:
        mounts = part.get(*group, *_POD, "containers", 0, "volumeMounts") or ()
        if not any(PurePosixPath(home).is_relative_to(mount["mountPath"]) for mount in mounts):
            hint = "Mount a ReadWriteMany volume there, on the head and on every group of workers."
            text = f"mounts nothing that holds KDSWEEP_HOME {home!r}"
            faults.add(part, (*group, *_POD, "containers", 0, "volumeMounts"), text, hint)


def _environment(part: Part) -> dict[str, Any]:
    """The variables of the head's first container that are given as values."""
    entries = part.get(*_HEAD, *_POD, "containers", 0, "env") or ()
    return {entry["name"]: entry.get("value") for entry in entries}


def _mlflow(uri: str | None, part: Part, parts: list[Part]) -> tuple[str, int] | None:
    """The Service of this file that a tracking URI names, and its port."""
    service = service_of(uri, part, parts) if uri else None
    return (service.get("metadata", "name"), port_of(uri)) if uri and service else None
