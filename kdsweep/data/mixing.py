"""Batches that mix labelled and unlabelled scans."""

import numpy as np

from kdsweep.errors import SpecError


def mixed_batches(
    num_labelled: int, num_unlabelled: int, *, batch_size: int, generator: np.random.Generator
) -> list[list[int]]:
    """Batches of one epoch: one pass over the labelled samples, each batch half unlabelled.

    Labelled samples are numbered first. In a batch they stand first, too, so that workers that
    take every n-th sample get some of both kinds. Of an odd batch size the larger part is labelled.

    Args:
        num_labelled: Labelled samples, each of them used once.
        num_unlabelled: Unlabelled samples, at least one; they are visited in random order, and
            again if an epoch needs more of them than there are.
        batch_size: Samples of a batch, over all workers.
        generator: Source of the order.

    Raises:
        SpecError: A batch has no room for both kinds.
    """
    if batch_size < 2:
        raise SpecError(
            "run.train.batch_size is 1, but with data.unlabelled_sequences each batch holds "
            "labelled and unlabelled scans. Set it to 2 or more."
        )
    unlabelled_each = batch_size // 2
    labelled_each = batch_size - unlabelled_each
    labelled = generator.permutation(num_labelled)
    starts = range(0, num_labelled, labelled_each)
    rounds = -(-len(starts) * unlabelled_each // num_unlabelled)
    unlabelled = num_labelled + np.concatenate(
        [generator.permutation(num_unlabelled) for _ in range(rounds)]
    )
    return [
        [
            *labelled[start : start + labelled_each].tolist(),
            *unlabelled[step * unlabelled_each : (step + 1) * unlabelled_each].tolist(),
        ]
        for step, start in enumerate(starts)
    ]
