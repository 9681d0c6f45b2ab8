"""Triplet loss of embeddings with the minings in use, on pytorch-metric-learning.

Sources: Schroff et al., "FaceNet", CVPR 2015 (loss, semi-hard); Wu et al., "Sampling Matters in
Deep Embedding Learning", ICCV 2017 (distance-weighted); lenscloth/RKD, metric/loss.py (mean over
all triplets, also those that already keep the margin).
"""

from functools import cache
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kdsweep.losses.precision import in_float32

Mining: TypeAlias = Literal["distance_weighted", "hard", "semi_hard"]


@in_float32
def triplet_loss(
    embeddings: Float[Tensor, "images channels"],
    labels: Int[Tensor, " images"],
    *,
    margin: float,
    mining: Mining,
) -> Float[Tensor, ""]:
    """Mean of ``max(0, |a - p| - |a - n| + margin)`` over the mined triplets.

    Triplets: anchor a and positive p of one class, negative n of another. With

    * ``distance_weighted`` each anchor gets as many random positives as its class has images, each
      with a negative drawn with probability ~ 1 / (density of its distance on the unit sphere,
      at least 0.5); negatives farther than 1.4 are left out, and so are anchors that have no
      other. Embeddings are brought to unit length for the draw, not for the loss.
    * ``hard`` each pair (a, p) gets the nearest negative of a.
    * ``semi_hard`` all triplets with ``|a - p| < |a - n| <= |a - p| + margin`` are taken.

    Mining runs on the CPU in float64: its random numbers (torch's default CPU generator) are then
    the same on every device, and the weights, which span hundreds of orders of magnitude with 512
    channels, do not vanish.

    Args:
        embeddings: One row per image; Euclidean distance, embeddings as they are.
        labels: Class of each image.
        margin: > 0.
        mining: Which triplets.

    Returns:
        A scalar >= 0; 0 where no triplet is found, which still back-propagates.
    """
    mined = _miner(mining, margin)(embeddings.detach().double().cpu(), labels.cpu())
    indices = tuple(index.to(embeddings.device) for index in mined)
    return _loss(margin)(embeddings, labels, indices)


# The library takes a second to import, with scikit-learn and SciPy: only a training pays that.


@cache
def _loss(margin: float) -> Any:
    from pytorch_metric_learning import losses, reducers

    return losses.TripletMarginLoss(
        margin=margin, distance=_distance(), reducer=reducers.MeanReducer()
    )


@cache
def _miner(mining: Mining, margin: float) -> Any:
    from pytorch_metric_learning import miners

    if mining == "distance_weighted":
        return miners.DistanceWeightedMiner(
            cutoff=0.5, nonzero_loss_cutoff=1.4, distance=_distance(normalised=True)
        )
    if mining == "hard":
        return miners.BatchEasyHardMiner(
            pos_strategy=miners.BatchEasyHardMiner.ALL,
            neg_strategy=miners.BatchEasyHardMiner.HARD,
            distance=_distance(),
        )
    return miners.TripletMarginMiner(
        margin=margin, type_of_triplets="semihard", distance=_distance()
    )


def _distance(normalised: bool = False) -> Any:
    from pytorch_metric_learning.distances import LpDistance

    class Euclidean(LpDistance):
        """By differences: the Gram form of `torch.cdist` has no digits left for near points."""

        def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
            return torch.cdist(query_emb, ref_emb, compute_mode="donot_use_mm_for_euclid_dist")

    return Euclidean(normalize_embeddings=normalised)
