"""Class-balanced batches: a few images of each of some classes.

Source: lenscloth/RKD, metric/batchsampler.py (NPairs), with random numbers that seed and epoch fix.
"""

from collections.abc import Mapping, Sequence
from itertools import count

import torch

from kdsweep.errors import SpecError


def balanced_batches(
    labels: Sequence[int],
    *,
    batch_size: int,
    images_per_class: int,
    num_batches: int,
    generator: torch.Generator,
) -> list[list[int]]:
    """Batches of a few random images of each of some random classes.

    Every batch is drawn anew from all images and holds none twice. Classes are visited in random
    order and give their images until the batch is full, so that the last one may give fewer, as
    does a class that has no more. With too few classes to fill the batch they are visited again.

    Args:
        labels: Class of each sample.
        batch_size: Samples of a batch, over all workers.
        images_per_class: Images that a class gives per visit.
        num_batches: Batches to draw.
        generator: Source of the choices.

    Returns:
        Sample numbers by batch.

    Raises:
        SpecError: There are fewer images than a batch needs.
    """
    if batch_size > len(labels):
        raise SpecError(
            f"train.batch_size {batch_size} is larger than the {len(labels)} training images; "
            f"valid: up to {len(labels)}"
        )
    by_class: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        by_class.setdefault(label, []).append(row)
    return [
        _one_batch(by_class, batch_size, images_per_class, generator) for _ in range(num_batches)
    ]


def _one_batch(
    by_class: Mapping[int, Sequence[int]],
    batch_size: int,
    images_per_class: int,
    generator: torch.Generator,
) -> list[int]:
    classes = _shuffled(sorted(by_class), generator)
    shuffled: dict[int, list[int]] = {}
    batch: list[int] = []
    for start in count(0, images_per_class):
        for label in classes:
            if label not in shuffled:
                shuffled[label] = _shuffled(by_class[label], generator)
            batch += shuffled[label][start : start + images_per_class]
            if len(batch) >= batch_size:
                return batch[:batch_size]
    raise AssertionError("unreachable: the caller has checked that there are enough images")


def _shuffled(values: Sequence[int], generator: torch.Generator) -> list[int]:
    return [values[i] for i in torch.randperm(len(values), generator=generator).tolist()]
