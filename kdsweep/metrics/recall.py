"""Recall@K of image retrieval: is one of the K nearest other images of the same class?

Source: Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016,
sec. 6; lenscloth/RKD, metric/utils.py (Euclidean distance between the embeddings as they are).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Int32, Int64
from torch import Tensor

from kdsweep.errors import NonFiniteLossError

BLOCK_ELEMENTS = 1 << 23
"""Distances that are held at a time; with all intermediates about 100 MB."""

NO_MATCH = torch.iinfo(torch.int64).max
"""Rank of the nearest match where there is none: beyond every K."""


def recall_at(
    embeddings: Float[Tensor, "images channels"],
    labels: Int[Tensor, " images"],
    *,
    ks: Sequence[int],
    block_elements: int = BLOCK_ELEMENTS,
) -> dict[int, float]:
    """Share of images that have one of their own class among their K nearest others.

    An image without another of its class is a miss at every K.

    Args:
        embeddings: One row per image, on any device.
        labels: Class of each image.
        ks: Neighbours to look at, each >= 1.
        block_elements: As `nearest_match_ranks`.

    Returns:
        Recall, 0..1, by K; NaN without any image.

    Raises:
        NonFiniteLossError: Embeddings hold NaN or infinity.
    """
    ranks = nearest_match_ranks(embeddings, labels, block_elements=block_elements)
    return {k: float((ranks < k).double().mean()) for k in ks}


def nearest_match_ranks(
    embeddings: Float[Tensor, "images channels"],
    labels: Int[Tensor, " images"],
    *,
    block_elements: int = BLOCK_ELEMENTS,
) -> Int64[Tensor, " images"]:
    """How many other images are nearer than the nearest one of the same class.

    That decides Recall@K for every K at once, without sorting. Squared distances are taken in
    float64, of centred embeddings, so that a common offset costs no digits; those that float32
    cannot tell apart are equal, and of equal ones the image with the smaller number is nearer. One
    block of rows of the distance matrix is held at a time.

    Args:
        embeddings: One row per image, on any device.
        labels: Class of each image.
        block_elements: Distances held at a time; at least one row is.

    Returns:
        0.. per image, on the CPU; `NO_MATCH` where no other image has its class.

    Raises:
        NonFiniteLossError: Embeddings hold NaN or infinity.
    """
    finite = embeddings.isfinite().all(dim=1)
    if not bool(finite.all()):
        raise NonFiniteLossError(
            f"{int((~finite).sum())} of {len(finite)} embeddings hold NaN or infinity, so there is "
            "no nearest one: the network has diverged. Use a lower train.lr or train.clip_norm."
        )
    ranks = torch.empty(len(labels), dtype=torch.int64)
    if len(labels) == 0:
        return ranks
    num_rows = max(1, block_elements // len(labels))
    images = _ByClass(embeddings, labels, num_rows)
    for rows in torch.arange(len(labels)).split(num_rows):
        found = images.ranks(int(rows[0]), int(rows[-1]) + 1)
        ranks[images.numbers[rows]] = found.cpu()
    return ranks


class _ByClass:
    """Images in the order of their classes: all of one class are neighbours in every row.

    Attributes:
        numbers: Number of each image before it was put in order, on the CPU.
    """

    def __init__(self, embeddings: Tensor, labels: Tensor, num_rows: int) -> None:
        device = embeddings.device
        self.numbers = torch.argsort(labels.cpu(), stable=True)
        _, counts = torch.unique_consecutive(labels.cpu()[self.numbers], return_counts=True)
        self._ends = counts.cumsum(0).repeat_interleave(counts)
        self._starts = self._ends - counts.repeat_interleave(counts)
        self._class = self._starts.to(device)
        self._number = self.numbers.to(device)
        points = embeddings.double()[self._number]
        points = points - points.mean(dim=0)
        squares = points.square().sum(dim=1, keepdim=True)
        ones = torch.ones_like(squares)
        # |a|^2 - 2 a.b + |b|^2 as one product
        self._left = torch.cat([points, squares, ones], dim=1)
        self._right = torch.cat([-2.0 * points, ones, squares], dim=1).T
        # Below its rounding error a distance is none: copies of an image must be equally near.
        eps = torch.finfo(points.dtype).eps
        self._noise = 8 * eps * (points.shape[1] + 2) * squares
        # Taken once: fresh memory for every block costs as much time as the product itself.
        self._block = points.new_empty(num_rows, len(points))

    def ranks(self, first: int, last: int) -> Int64[Tensor, " rows"]:
        """Ranks of the images from `first` to before `last`, in this order."""
        block = self._block[: last - first]
        distances = torch.mm(self._left[first:last], self._right, out=block)
        distances.diagonal(first).fill_(torch.inf)  # an image is no match of itself
        columns = slice(int(self._starts[first]), int(self._ends[last - 1]))
        own = self._class[first:last, None] == self._class[columns]
        to_own = distances[:, columns].masked_fill(~own, torch.inf)
        nearest = to_own.amin(dim=1, keepdim=True)
        slack = torch.maximum(self._noise[first:last], nearest * torch.finfo(torch.float32).eps)
        low, high = nearest - slack, nearest + slack
        ranks = _count(distances < low)
        others_level = _count(distances <= high) - ranks > _count(to_own <= high)
        alone = nearest.isinf().squeeze(1)
        if bool((others_level & ~alone).any()):
            level = (distances >= low) & (distances <= high)
            numbers = self._number[columns].expand_as(own)
            match = numbers.masked_fill(to_own > high, len(self._number)).amin(dim=1, keepdim=True)
            ranks += _count(level & (self._number < match))
        return ranks.long().masked_fill(alone, NO_MATCH)


def _count(mask: Bool[Tensor, "rows columns"]) -> Int32[Tensor, " rows"]:
    """In int32, which is more than twice as fast."""
    return mask.sum(dim=1, dtype=torch.int32)
