"""The official metric of LiDAR segmentation, and the classes of the data sets that define it.

Source: semantic-kitti-api and nuscenes-devkit (official metrics).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from jaxtyping import Int64
from torch import Tensor

from kdsweep.data.labels import NUSCENES, SEMANTICKITTI, LabelSet
from kdsweep.errors import DataError, NonFiniteLossError, TapError, did_you_mean
from kdsweep.metrics.miou import accuracy, benchmark_iou, confusion_matrix, cropped_iou
from kdsweep.types import LidarSegBatch, Taps

Format: TypeAlias = Literal["semantickitti", "nuscenes"]

LABELS: Mapping[Format, LabelSet] = MappingProxyType(
    {"semantickitti": SEMANTICKITTI, "nuscenes": NUSCENES}
)


class LidarSegEvaluator:
    """Official mIoU of the points of a split, and the training script's under another name.

    Official figures never predict class 0: its logit is masked (nuScenes refuses it, SemanticKITTI
    counts it as a miss). `miou_cropped` takes the plain argmax, as Cylinder3D's training script.
    """

    def __init__(self, data_format: Format) -> None:
        self._format: Format = data_format
        self._labels = LABELS[data_format]
        size = self._labels.num_classes
        self._counts: Int64[Tensor, "2 classes classes"] = torch.zeros(
            2, size, size, dtype=torch.int64
        )

    def update(self, taps: Taps, batch: LidarSegBatch) -> None:
        """Adds the points of a batch, judged by the tap ``point_logits``.

        Raises:
            NonFiniteLossError: Logits hold NaN or infinity: argmax would take NaN for the largest.
        """
        logits = tap_of(taps, "point_logits")
        finite = logits.isfinite().all(dim=1)
        if not bool(finite.all()):
            raise NonFiniteLossError(
                f"point_logits of {int((~finite).sum())} of {len(finite)} points hold NaN or "
                f"infinity (scans {', '.join(batch.sample_ids)}): the network has diverged. Use a "
                "lower train.lr or train.clip_norm."
            )
        size = self._labels.num_classes
        for row, predictions in enumerate((logits[:, 1:].argmax(1) + 1, logits.argmax(1))):
            counts = confusion_matrix(batch.point_labels, predictions, num_classes=size)
            self._counts[row] += counts.cpu()

    def state(self) -> Int64[Tensor, "2 classes classes"]:
        """Confusion matrices (ground truth x prediction) with class 0 masked, and plain."""
        return self._counts.clone()

    def merge(self, states: Sequence[Int64[Tensor, "2 classes classes"]]) -> None:
        """Replaces the counts by the sum of several workers' counts."""
        self._counts = torch.stack([state.cpu() for state in states]).sum(dim=0)

    def compute(self) -> dict[str, float]:
        """``miou`` (official), ``miou_cropped``, ``accuracy`` and ``iou/<class>``, all 0..1.

        A class that never occurs has IoU 0 in SemanticKITTI; in nuScenes it has none and its key is
        absent.

        Raises:
            DataError: No point that was seen has a label.
        """
        official, plain = self._counts
        if int(official[1:].sum()) == 0:
            raise DataError(
                "the validation scans hold no labelled point, so there is no mIoU. Validate on "
                "more scans (data.val_scans) or on others (data.val_sequences)."
            )
        iou = benchmark_iou(official) if self._format == "semantickitti" else cropped_iou(official)
        metrics = {
            "miou": iou.mean,
            "miou_cropped": cropped_iou(plain).mean,
            "accuracy": accuracy(official),
        }
        for name, value in zip(self._labels.classes[1:], iou.per_class.tolist(), strict=True):
            if value == value:  # NaN marks a class that does not count
                metrics[f"iou/{name}"] = value
        return metrics


def tap_of(taps: Taps, name: str) -> Tensor:
    """A tap that the task needs.

    Raises:
        TapError: The model does not give it.
    """
    if name not in taps:
        raise TapError(
            f"task 'lidar_seg' needs tap {name!r} of the model. {did_you_mean(name, taps)}"
        )
    return taps[name]
