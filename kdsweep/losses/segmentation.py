"""Supervised losses of semantic segmentation: cross-entropy and Lovasz-softmax.

Sources: Berman et al., "The Lovasz-Softmax loss", CVPR 2018, arXiv:1705.08790, alg. 1 and eq. 11;
the use of both on occupied cells only: xinge008/Cylinder3D, which evaluates them on the dense grid.
There every empty cell carries the ignored label, so leaving empty cells out changes nothing.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from kdsweep.losses.precision import in_float32


@in_float32
def weighted_cross_entropy(
    logits: Float[Tensor, "rows classes"],
    labels: Int[Tensor, " rows"],
    class_weights: Float[Tensor, " classes"] | None = None,
    *,
    ignore: int | None = 0,
) -> Float[Tensor, ""]:
    """Cross-entropy, averaged over the labelled rows with the weight of each row's class.

    Args:
        logits: Unnormalised scores.
        labels: Class of each row, 0..classes-1.
        class_weights: Weight >= 0 of each class; None weighs all alike. The sum is divided by the
            weights of the rows, as `torch.nn.CrossEntropyLoss` does.
        ignore: Label of rows that do not count; None counts all rows.

    Returns:
        The mean; a zero that back-propagates where no row counts.
    """
    ignored = -100 if ignore is None else ignore
    labels = labels.long()
    losses = cross_entropy(logits, labels, ignore_index=ignored, reduction="none")
    weights = (labels != ignored).to(losses.dtype)
    if class_weights is not None:
        weights = weights * class_weights.to(losses)[labels]
    # the smallest normal number only keeps 0 / 0 away: any real weight is far above it
    return (losses * weights).sum() / weights.sum().clamp_min(torch.finfo(losses.dtype).tiny)


@in_float32
def lovasz_softmax(
    logits: Float[Tensor, "rows classes"],
    labels: Int[Tensor, " rows"],
    *,
    ignore: int | None = 0,
    classes: Literal["present", "all"] = "present",
) -> Float[Tensor, ""]:
    """Lovasz extension of the mean Jaccard loss 1 - IoU, over all rows of the batch together.

    Args:
        logits: Unnormalised scores; the softmax is taken here.
        labels: Class of each row, 0..classes-1.
        ignore: Label of rows that do not count; None counts all rows.
        classes: Average over the classes that occur among the labels, or over all of them (then an
            absent class costs its highest probability).

    Returns:
        A mean over classes, 0..1; a zero that back-propagates where no row counts.
    """
    labels = labels.long()
    if ignore is not None:
        kept = labels != ignore
        logits, labels = logits[kept], labels[kept]
    if len(labels) == 0:
        return logits.sum()  # of no rows: 0
    truth = one_hot(labels, logits.shape[1])
    errors = (truth - logits.softmax(dim=1)).abs()
    per_class = (errors * _jaccard_gradient(errors.detach(), truth).to(errors)).sum(dim=0)
    if classes == "all":
        return per_class.mean()
    present = truth.any(dim=0)
    return (per_class * present).sum() / present.sum()


def _jaccard_gradient(
    errors: Float[Tensor, "rows classes"], truth: Int[Tensor, "rows classes"]
) -> Float[Tensor, "rows classes"]:
    """Gradient of the Lovasz extension of the Jaccard loss, per class, in the rows' own order.

    Counts are integers and their ratio float64: differences of neighbouring Jaccard values are of
    the order 1 / rows and would lose most of their digits in float32.
    """
    order = errors.argsort(dim=0, descending=True, stable=True)
    hits = truth.gather(0, order)
    total = hits.sum(dim=0, keepdim=True)
    intersection = total - hits.cumsum(dim=0)
    union = total + (1 - hits).cumsum(dim=0)
    jaccard = 1.0 - intersection.double() / union
    steps = jaccard.diff(dim=0, prepend=jaccard.new_zeros(1, jaccard.shape[1]))
    return torch.zeros_like(steps).scatter(0, order, steps)
