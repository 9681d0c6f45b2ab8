"""Mean intersection over union of point labels, in the conventions in use.

All take a confusion matrix with rows = ground truth and columns = prediction over training ids
0..classes-1, where id 0 is the unlabelled class, and score ids 1..classes-1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

Confusion = Int64[Tensor, "classes classes"]


@dataclass(frozen=True)
class Iou:
    """Intersection over union.

    Attributes:
        per_class: IoU of ids 1.., 0..1; NaN where the convention leaves a class out.
        mean: Mean over the classes that the convention counts, 0..1; NaN where it counts none.
    """

    per_class: Float64[Tensor, " scored"]
    mean: float


def confusion_matrix(
    labels: Int[Tensor, " points"], predictions: Int[Tensor, " points"], *, num_classes: int
) -> Confusion:
    """Counts points by (ground truth, prediction).

    Args:
        labels: Ground truth, 0..num_classes-1.
        predictions: Predicted ids, 0..num_classes-1.
        num_classes: Number of training ids, the unlabelled class included.

    Raises:
        ValueError: An id is outside 0..num_classes-1.
    """
    for name, ids in (("label", labels), ("prediction", predictions)):
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < num_classes:
            raise ValueError(
                f"{name}s are {int(ids.min())}..{int(ids.max())}; valid: 0..{num_classes - 1}"
            )
    pairs = labels.long() * num_classes + predictions.long()
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def benchmark_iou(confusion: Confusion) -> Iou:
    """SemanticKITTI's official IoU (semantic-kitti-api, evaluate_semantics.py).

    Points whose ground truth is 0 do not count; a labelled point predicted as 0 is a miss; a class
    that never occurs scores 0 and stays in the mean.
    """
    counted = confusion.clone()
    counted[0] = 0
    per_class = _iou(counted)[1:].nan_to_num(nan=0.0)
    return Iou(per_class, float(per_class.mean()))


def cropped_iou(confusion: Confusion) -> Iou:
    """IoU without row and column of id 0; classes that never occur are left out of the mean.

    It is nuScenes-lidarseg's official IoU (nuscenes-devkit, eval/lidarseg/utils.py), whose
    predictions must not be 0. It is also what Cylinder3D's training script prints
    (utils/metric_util.py); where id 0 is predicted, a labelled point that gets it is *not* a miss
    there, so the figure is too high.
    """
    per_class = _iou(confusion[1:, 1:])
    return Iou(per_class, float(per_class.nanmean()))


def accuracy(confusion: Confusion) -> float:
    """Right points / labelled points that are predicted as one of ids 1.. (semantic-kitti-api).

    Returns:
        0..1; 0 where no point counts.
    """
    scored = confusion[1:, 1:].double()
    return float(scored.diagonal().sum() / scored.sum().clamp_min(1.0))


def _iou(confusion: Confusion) -> Float64[Tensor, " classes"]:
    intersection = confusion.diagonal().double()
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - intersection
    return intersection / union  # 0 / 0 = NaN marks a class that never occurs
