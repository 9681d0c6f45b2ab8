"""Top-K accuracy of a classifier."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from kdsweep.errors import NonFiniteLossError


def top_k_hits(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], *, ks: Sequence[int]
) -> Int64[Tensor, " ks"]:
    """How many samples have their class among the K largest logits, for each K.

    Of equal logits the class with the smaller number counts as the larger one.

    Args:
        logits: One row per sample.
        labels: Class of each sample, from 0.
        ks: Each >= 1.

    Raises:
        NonFiniteLossError: Logits hold NaN or infinity.
    """
    if not bool(logits.isfinite().all()):
        raise NonFiniteLossError(
            "logits hold NaN or infinity: the network has diverged. Use a lower train.lr or "
            "train.clip_norm."
        )
    own = logits.gather(1, labels[:, None])
    numbers = torch.arange(logits.shape[1], device=logits.device)
    before = (logits == own) & (numbers < labels[:, None])
    ranks = ((logits > own) | before).sum(dim=1)
    return torch.stack([(ranks < k).sum() for k in ks])
