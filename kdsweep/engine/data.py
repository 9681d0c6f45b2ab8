"""Which samples make which batch: a shuffle that seed and epoch fix, split over the workers."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from kdsweep.engine.seed import derive_seed
from kdsweep.errors import SpecError
from kdsweep.tasks.base import Task

_SILENT_S = 900.0
"""So long may a reading process take over one batch."""


def check_share(task: Task, batch_size: int, world: int) -> None:
    """Checks what each worker gets of a global batch.

    Raises:
        SpecError: The batch cannot be split evenly, or leaves a worker too few samples.
    """
    if batch_size % world:
        raise SpecError(
            f"train.batch_size {batch_size} cannot be split over {world} workers; valid: "
            f"multiples of {world}"
        )
    share = batch_size // world
    fault = task.share_fault(task.data, share=share) if world > 1 else ""
    if fault:
        raise SpecError(
            f"train.batch_size {batch_size} gives each of {world} workers {share}, but {fault} of "
            "every batch"
        )


def epoch_order(
    num_samples: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int,
    world: int,
    chosen: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Sample numbers of each of one worker's batches in one epoch.

    The shuffled samples are cut into global batches and each worker takes its share of every
    global batch, so that the samples of a step do not depend on the number of workers. The last
    batch may be smaller; it is filled up to a multiple of `world` with the epoch's first samples,
    because all workers must take part in every step with equally many samples.

    Args:
        num_samples: Samples of the split.
        batch_size: Global batch size, a multiple of `world`.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        rank: This worker.
        world: Workers.
        chosen: The global batches, where the task chooses them (`Task.global_batches`).
    """
    if chosen is None:
        generator = torch.Generator().manual_seed(derive_seed(seed, "shuffle", epoch))
        shuffled = torch.randperm(num_samples, generator=generator).tolist()
        chosen = [shuffled[i : i + batch_size] for i in range(0, num_samples, batch_size)]
    first = list(islice(chain.from_iterable(chosen), world))
    order = []
    for whole in chosen:
        filling = [first[i % len(first)] for i in range(-len(whole) % world)]
        order.append([*whole, *filling][rank::world])
    return order


def batches(
    dataset: Dataset,
    order: list[list[int]],
    collate: Callable[[Sequence[Any]], Any],
    *,
    num_workers: int = 0,
) -> Iterator[Any]:
    """Reads and collates the samples in the given order, in this process or in several."""
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        collate_fn=collate,
        num_workers=num_workers,
        # Its own generator: else the loader would draw from the one that the engine seeds.
        generator=torch.Generator().manual_seed(0),
        # The worker goes on answering whoever looks after it while it waits for a process that
        # does not: the trial would hang for ever.
        timeout=_SILENT_S if num_workers else 0.0,
    )
    return iter(loader)
