"""Labelled images as samples of networks: augmented, normalised and joined to batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch.utils.data import Dataset

from kdsweep.data.image_transforms import Augment, Layout, draw, draw_centre
from kdsweep.data.images import LabelledImages
from kdsweep.data.transforms import generator_for
from kdsweep.types import ImageBatch


@dataclass(frozen=True)
class ImageSample:
    """One image as the network gets it; the fields are those of `ImageBatch`."""

    image: Float32[np.ndarray, "channels height width"]
    label: int
    sample_id: str


@dataclass(frozen=True)
class View:
    """How the images of one epoch are augmented.

    Attributes:
        augment: What may be done to them.
        seed: Seed of the run.
        number: The view: the epoch, or the epoch mod views where the augmentation repeats.
    """

    augment: Augment
    seed: int
    number: int


class ImageSet(Dataset[ImageSample]):
    """Images of a split, resized, cropped and normalised."""

    def __init__(
        self,
        images: LabelledImages,
        layout: Layout,
        *,
        identity: str,
        view: View | None = None,
        cache_bytes: int = 0,
    ) -> None:
        """Keeps what is needed to read; reads nothing yet.

        Args:
            images: The images, in order.
            layout: Sizes and normalisation.
            identity: What, besides image and view, decides on a sample's content; part of its id.
            view: The augmentation; None takes the centre of every image.
            cache_bytes: Samples are kept in memory until they take this much.
        """
        self._images = images
        self._layout = layout
        self._view = view
        self._suffix = f"@{identity}" if view is None else f"#{view.number}@{identity}"
        self._room = cache_bytes
        self._kept: dict[int, ImageSample] = {}

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> ImageSample:
        """Reads, augments and normalises an image.

        Raises:
            DataError: Its file is missing or damaged.
        """
        if index in self._kept:
            return self._kept[index]
        name = self._images.names[index]
        if self._view is None:
            cut = draw_centre(self._layout)
        else:
            generator = generator_for(self._view.seed, name, self._view.number)
            cut = draw(self._view.augment, self._layout, generator)
        sample = ImageSample(
            image=cut.apply(self._images.read(index), self._layout),
            label=self._images.labels[index],
            sample_id=name + self._suffix,
        )
        if sample.image.nbytes <= self._room:
            self._kept[index] = sample  # never evicted: epochs visit all samples in turn
            self._room -= sample.image.nbytes
        return sample


def collate_images(samples: Sequence[ImageSample]) -> ImageBatch:
    """Joins at least one sample to a batch."""
    return ImageBatch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])),
        labels=torch.tensor([sample.label for sample in samples]),
        sample_ids=tuple(sample.sample_id for sample in samples),
    )
