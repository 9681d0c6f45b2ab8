"""The workers of one run, as the engine sees them: torch.distributed, or one process alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This worker's place among the workers of its run; every method is collective.

    Attributes:
        rank: Number of this worker, from 0.
        world: Workers of the run.
        device: Device of this worker; small collectives travel on it (NCCL needs that).
    """

    rank: int
    world: int
    device: torch.device

    @classmethod
    def current(cls, device: torch.device) -> "Ranks":
        """The process group that somebody (Ray Train, torchrun, a test) has made, or none."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), device)
        return cls(0, 1, device)

    @property
    def first(self) -> bool:
        """Whether this worker is the one that writes files."""
        return self.rank == 0

    def mean_(self, values: Tensor) -> Tensor:
        """Averages a tensor over the workers, in place."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some worker."""
        if self.world == 1:
            return flag
        raised = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return bool(raised.item())

    def gather(self, value: Any) -> list[Any]:
        """The value of every worker, in order of rank, on every worker."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, value)
        return gathered

    def from_first(self, compute: Callable[[], T]) -> T:
        """Computes a value on the first worker only and gives it to all.

        Raises:
            BaseException: What `compute` raised on the first worker, raised on every worker: a
                failure of one must not leave the others waiting.
        """
        if self.world == 1:
            return compute()
        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = compute()
            except Exception as error:  # handed to every worker below, none is lost
                box[1] = error
        dist.broadcast_object_list(box, src=0, device=self._object_device())
        if box[1] is not None:
            raise box[1]
        return box[0]

    def broadcast_(self, tensors: list[Tensor]) -> None:
        """Overwrites tensors by those of the first worker."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def _object_device(self) -> torch.device | None:
        return self.device if dist.get_backend() == "nccl" else None
