"""What the tasks on images share: their data section, their sets of samples, their batches."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from kdsweep.config import Config
from kdsweep.data.image_set import ImageSample, ImageSet, View, collate_images
from kdsweep.data.image_transforms import Augment, Layout
from kdsweep.data.images import Splits, check_files
from kdsweep.data.transforms import generator_for
from kdsweep.errors import TapError, did_you_mean
from kdsweep.tasks.base import Task
from kdsweep.types import ImageBatch, Taps

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PHOTOS = Layout(resize=256, crop=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""Photographs of any size, normalised as networks trained on ImageNet expect it."""
DIGITS = Layout(resize=8, crop=8, mean=(0.3053,), std=(0.3759,), padding=1, flip=False)
"""The digits of scikit-learn: not mirrored, a mirrored digit is none."""

_VAL_CACHE_BYTES = 256 << 20

Pixels = Annotated[int, Field(ge=1, le=4096)]


class ImageData(Config):
    """Which images, how large, how augmented."""

    root: Path | None = None
    """Folder of the data set, in its native layout; not for the digits, which need none."""
    resize: Pixels | None = None
    """Height and width that every image is brought to; its aspect is not kept. null as customary:
    256 for photographs, 32 for CIFAR-100, 8 for the digits."""
    crop: Pixels | None = None
    """Height and width of the part that the network gets: a random one in training, the centre in
    evaluation. null as customary: 224 for photographs, 32 for CIFAR-100, 8 for the digits."""
    augment: Augment = Augment()
    """Augmentation of the training images."""

    def sized(self, layout: Layout) -> Layout:
        """The customary layout with this section's sizes.

        Raises:
            ValueError: The part would be larger than the image.
        """
        resize, crop = self.resize or layout.resize, self.crop or layout.crop
        if crop > resize:
            raise ValueError(
                f"crop {crop} is larger than resize {resize}: give crop 1..{resize}, or a larger "
                "resize"
            )
        return Layout(resize, crop, layout.mean, layout.std, layout.padding, layout.flip)


class ImageTask(Task):
    """Reads images, augments them, joins them to batches; the rest is the task's own."""

    Data: ClassVar[type[Config]] = ImageData
    data: ImageData

    def read_splits(self) -> Splits:
        """The images of both splits; touches lists and folders, decodes no image."""
        raise NotImplementedError

    def layout(self) -> Layout:
        """Sizes and normalisation of the images."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Checks that every image of both splits is there.

        Raises:
            DataError: One is missing or empty, or a list of the data set is damaged.
        """
        check_files(self.data.root, self.splits)

    def fingerprint(self) -> str:
        """Digest of the names, classes and sizes of all images."""
        return self._fingerprint

    def train_set(self, *, seed: int, epoch: int, views: int) -> Dataset[ImageSample]:
        number = epoch % views if views else epoch
        view = View(self.data.augment, seed, number)
        identity = digest((self.layout(), view.augment, seed))[:8]
        return ImageSet(self.splits.train, self.layout(), identity=identity, view=view)

    def val_set(self) -> Dataset[ImageSample]:
        """Validation samples; the first ones stay in memory between epochs."""
        return self._val_set

    def collate(self, samples: Sequence[ImageSample]) -> ImageBatch:
        return collate_images(samples)

    @cached_property
    def splits(self) -> Splits:
        """`read_splits`, read once."""
        return self.read_splits()

    @cached_property
    def _fingerprint(self) -> str:
        return digest((self.splits.train.digest(), self.splits.val.digest()))

    @cached_property
    def _val_set(self) -> ImageSet:
        layout = self.layout()
        return ImageSet(
            self.splits.val, layout, identity=digest(layout)[:8], cache_bytes=_VAL_CACHE_BYTES
        )


def need_root(data_format: str, root: Path | None, *, embedded: Sequence[str]) -> None:
    """Checks that there is a root exactly where the format needs one.

    Raises:
        ValueError: It does not fit.
    """
    if data_format in embedded and root is not None:
        raise ValueError(f"format {data_format} needs no root, got {root}: leave it out")
    if data_format not in embedded and root is None:
        raise ValueError(f"format {data_format} needs root: the folder of the data set")


def tap(taps: Taps, name: str, *, task: str) -> Tensor:
    """A tap that a task needs of its model.

    Raises:
        TapError: The model does not give it.
    """
    if name not in taps:
        raise TapError(f"task {task!r} needs tap {name!r} of the model. {did_you_mean(name, taps)}")
    return taps[name]


def seeded(*identity: object) -> torch.Generator:
    """Torch's random numbers for an identity, whatever worker asks."""
    return torch.Generator().manual_seed(int(generator_for(*identity).integers(2**63)))


def digest(value: object) -> str:
    """16 hexadecimal digits of a value's text."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
