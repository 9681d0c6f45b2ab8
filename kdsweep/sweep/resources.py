"""How many trials fit on the cluster at once, and the refusal of what fits nowhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kdsweep.errors import ResourceError

Node = Mapping[str, float]
"""A node's resources by Ray's names: ``CPU``, ``GPU``."""


@dataclass(frozen=True)
class Need:
    """What one trial needs.

    Attributes:
        workers: Processes that train it together.
        cpus: CPU cores of each.
        gpus: GPUs of each: whole numbers, or a part below 1.
        packed: Whether they have to share one node.
    """

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    packed: bool = True

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        each = f"{self.cpus:g} CPU{gpus}"
        return each if self.workers == 1 else f"{self.workers} workers with {each} each"

    @property
    def per_worker(self) -> dict[str, float]:
        """A worker's share, as Ray wants it."""
        share = {"CPU": self.cpus}
        if self.gpus:
            share["GPU"] = self.gpus
        return share


@dataclass(frozen=True)
class Layout:
    """Where a sweep's trials run.

    Attributes:
        need: What one trial needs.
        slots: Trials at once, on the nodes of the moment.
        threads: Threads of each worker.
    """

    need: Need
    slots: int
    threads: int


def plan_layout(need: Need, nodes: Sequence[Node], concurrent: int | None = None) -> Layout:
    """Computes how many trials run at once.

    Args:
        need: What one trial needs.
        nodes: Resources of the nodes that are up.
        concurrent: Upper limit that the user set.

    Raises:
        ResourceError: A worker, or all workers together, fit nowhere; the message says what each
            node has.
    """
    if need.gpus > 1 and need.gpus != int(need.gpus):
        raise ResourceError(
            f"resources.gpus_per_worker is {need.gpus:g}: above 1 it must be a whole number."
        )
    slots = count_slots(need, nodes, concurrent)
    if slots == 0:
        raise ResourceError(_refusal(need, nodes))
    return Layout(need, slots, threads=max(1, math.floor(need.cpus)))


def count_slots(need: Need, nodes: Sequence[Node], concurrent: int | None = None) -> int:
    """How many trials fit at once; see `plan_layout`."""
    workers = [count_workers(need, node) for node in nodes]
    if need.packed:
        slots = sum(count // need.workers for count in workers)
    else:
        slots = sum(workers) // need.workers
    return min(slots, concurrent or slots)


def count_workers(need: Need, node: Node) -> int:
    """Workers that fit on a node. A GPU that is shared must hold whole shares."""
    limits = []
    if need.cpus:
        limits.append(math.floor(node.get("CPU", 0.0) / need.cpus + 1e-9))
    if 0 < need.gpus < 1:
        limits.append(math.floor(1 / need.gpus + 1e-9) * math.floor(node.get("GPU", 0.0)))
    elif need.gpus:
        limits.append(math.floor(node.get("GPU", 0.0) / need.gpus))
    return min(limits, default=1)


def _refusal(need: Need, nodes: Sequence[Node]) -> str:
    have = "; ".join(
        f"node {number}: {node.get('CPU', 0.0):g} CPU, {node.get('GPU', 0.0):g} GPU"
        for number, node in enumerate(nodes, 1)
    )
    if need.gpus > 0 and not any(node.get("GPU", 0.0) for node in nodes):
        where = "fits nowhere"
        hint = (
            "There is no GPU here: set sweep.resources.gpus_per_worker=0 to train on CPUs, or "
            "launch on a cluster that has some."
        )
    elif need.packed and count_slots(replace(need, packed=False), nodes):
        where = "fits on no single node"
        hint = (
            "Let them sit on several nodes with sweep.resources.placement=spread, or lower "
            "sweep.resources.workers."
        )
    else:
        where = "fits nowhere"
        hint = "Lower sweep.resources (workers, cpus_per_worker, gpus_per_worker)."
    return f"a trial needs {need}, which {where}. There is {have or 'no node'}. {hint}"
