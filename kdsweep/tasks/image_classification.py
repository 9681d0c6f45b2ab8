"""Classification of images: CIFAR-100, image folders, and the digits of scikit-learn.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, sec. 4.2 (crop with
padding, mirroring); with distillation, Tian et al., ICLR 2020, and the CIFAR-100 part of Park et
al., "Relational Knowledge Distillation", CVPR 2019, sec. 4.2.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from pydantic import Field, model_validator
from torch import Tensor

from kdsweep.config import Config, Weight
from kdsweep.data import cifar100, digits
from kdsweep.data.image_folder import read_image_folder, read_split_folders
from kdsweep.data.image_transforms import Layout
from kdsweep.data.images import LabelledImages, Splits
from kdsweep.errors import DataError
from kdsweep.metrics.top_k import top_k_hits
from kdsweep.tasks._images import DIGITS, PHOTOS, ImageData, ImageTask, need_root, tap
from kdsweep.tasks.base import Direction
from kdsweep.types import ImageBatch, ModelInput, Taps, Terms

Format: TypeAlias = Literal["cifar100", "image_folder", "digits"]

_CIFAR100 = Layout(
    resize=32, crop=32, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), padding=4
)
_LAYOUTS: Mapping[Format, Layout] = MappingProxyType(
    {"cifar100": _CIFAR100, "image_folder": PHOTOS, "digits": DIGITS}
)
_KS = (1, 5)


class ImageClassificationData(ImageData):
    """Which images, how large, how augmented."""

    format: Format = "cifar100"
    """Layout of the root: CIFAR-100 in its python version, a folder with one sub-folder per class
    (below ``train`` and ``val`` or ``test`` where it is split), or the digits of scikit-learn."""
    val_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Digits, and image folders that are not split: validate on this share of each class, its last
    images. The last digits are of other writers than the first."""
    train_images: Annotated[int, Field(ge=0)] = 0
    """Train on this many images, evenly spaced over the split; 0 = all."""
    val_images: Annotated[int, Field(ge=0)] = 0
    """Validate on this many images, evenly spaced over the split; 0 = all."""

    @model_validator(mode="after")
    def _consistent(self) -> "ImageClassificationData":
        need_root(self.format, self.root, embedded=("digits",))
        self.layout()
        return self

    def layout(self) -> Layout:
        """Sizes and normalisation of the images."""
        return self.sized(_LAYOUTS[self.format])


class ImageClassificationLoss(Config):
    """The supervised loss."""

    cross_entropy: Weight = 1.0
    """Weight of the cross-entropy."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of each label that is spread over all classes."""


class AccuracyEvaluator:
    """Top-1 and top-5 accuracy of a split."""

    def __init__(self) -> None:
        self._counts: Int64[Tensor, " 3"] = torch.zeros(len(_KS) + 1, dtype=torch.int64)

    def update(self, taps: Taps, batch: ImageBatch) -> None:
        """Adds a batch, by its tap ``logits``."""
        hits = top_k_hits(
            tap(taps, "logits", task="image_classification"), batch.labels, ks=_KS
        ).cpu()
        self._counts += torch.cat([hits, torch.tensor([len(batch.labels)])])

    def state(self) -> Int64[Tensor, " 3"]:
        """Images whose class is the first, among the first five, and all images."""
        return self._counts.clone()

    def merge(self, states: Sequence[Int64[Tensor, " 3"]]) -> None:
        """Replaces the counts by the sum of several workers' counts."""
        self._counts = torch.stack(list(states)).sum(dim=0)

    def compute(self) -> dict[str, float]:
        """``top1`` (official) and ``top5``, 0..1.

        Raises:
            DataError: No image was seen.
        """
        *hits, images = self._counts.tolist()
        if images == 0:
            raise DataError("there is no validation image, so there is no accuracy")
        return {f"top{k}": count / images for k, count in zip(_KS, hits, strict=True)}


class ImageClassification(ImageTask):
    """Networks that name the class of an image."""

    Data: ClassVar[type[Config]] = ImageClassificationData
    Loss: ClassVar[type[Config]] = ImageClassificationLoss
    metrics: ClassVar[Mapping[str, Direction]] = MappingProxyType({"top1": "max", "top5": "max"})

    data: ImageClassificationData
    loss: ImageClassificationLoss

    def layout(self) -> Layout:
        return self.data.layout()

    def read_splits(self) -> Splits:
        whole = self._read()
        train = _thinned(whole.train, self.data.train_images)
        return Splits(train, _thinned(whole.val, self.data.val_images), whole.num_classes)

    def model_input(self) -> ModelInput:
        """Logits of every class; an image folder is listed to count them."""
        fixed = {"cifar100": cifar100.NUM_CLASSES, "digits": digits.NUM_CLASSES}
        num_classes = fixed.get(self.data.format) or self.splits.num_classes
        return ModelInput(num_classes, image_channels=len(self.layout().mean))

    def terms(self, taps: Taps, batch: ImageBatch) -> Terms:
        """The cross-entropy in float32, unless its weight is 0."""
        if self.loss.cross_entropy == 0:
            return {}
        logits = tap(taps, "logits", task="image_classification").float()
        smoothing = self.loss.label_smoothing
        return {"cross_entropy": F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)}

    def evaluator(self) -> AccuracyEvaluator:
        return AccuracyEvaluator()

    def _read(self) -> Splits:
        data, root = self.data, self.data.root
        if root is None:
            return _last_of_each(digits.read_digits(), data.val_share, source="digits")
        if data.format == "cifar100":
            return cifar100.read_cifar100(root)
        split = read_split_folders(root)
        return split or _last_of_each(read_image_folder(root), data.val_share, source=str(root))


def _thinned(images: LabelledImages, limit: int) -> LabelledImages:
    if limit == 0 or limit >= len(images):
        return images
    return images.only([number * len(images) // limit for number in range(limit)])


def _last_of_each(images: LabelledImages, share: float, *, source: str) -> Splits:
    by_class: dict[int, list[int]] = {}
    for row, label in enumerate(images.labels):
        by_class.setdefault(label, []).append(row)
    train, val = [], []
    for rows in by_class.values():
        if len(rows) < 2:
            raise DataError(
                f"{source}: {images.names[rows[0]]} is the only image of its class; at least two "
                "are needed, one to learn from and one to validate on"
            )
        kept = len(rows) - min(max(1, round(share * len(rows))), len(rows) - 1)
        train += rows[:kept]
        val += rows[kept:]
    return Splits(images.only(sorted(train)), images.only(sorted(val)), len(by_class))
