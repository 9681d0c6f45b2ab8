"""Reads a cluster file; its kind follows from what it holds, never from its name."""

import shlex
from pathlib import Path

from kdsweep.cluster.files import read_parts
from kdsweep.cluster.kuberay import KubeRay, read_kuberay
from kdsweep.cluster.launcher import Launcher, read_launcher
from kdsweep.errors import SpecError

Cluster = Launcher | KubeRay


def load_cluster(path: str | Path) -> Cluster:
    """Reads and validates a cluster file; touches no cluster.

    Raises:
        SpecError: It is no cluster file, or something in it is wrong.
    """
    file = Path(path)
    parts = read_parts(file)
    if any("apiVersion" in part.values or "kind" in part.values for part in parts):
        return read_kuberay(file, parts)
    (part, *others) = parts
    if {"cluster_name", "provider"} & part.values.keys() and not others:
        return read_launcher(file, part)
    if {"run", "sweep"} & part.values.keys():
        raise SpecError(
            f"{file}: is a sweep file, not a cluster file. Write: "
            f"kdsweep launch {shlex.quote(str(file))} --cluster cluster/local.yaml"
        )
    raise SpecError(
        f"{file}: is no cluster file: it has the keys {', '.join(part.values) or 'none'}. A Ray "
        "launcher file has cluster_name and provider; KubeRay's has apiVersion and kind. The "
        "folder cluster/ holds examples of both."
    )
