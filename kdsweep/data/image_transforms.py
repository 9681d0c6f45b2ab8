"""Resizing, random crop, mirroring and normalisation of images, drawn anew per sample and view.

Source: lenscloth/RKD, run_distill.py: every image is brought to 256 x 256 (its aspect is not kept),
a random 224 x 224 part of it is taken and mirrored half the time; evaluation takes the centre. With
zeros around the image before the crop it is the usual augmentation of CIFAR (He et al., CVPR 2016).
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from pydantic import Field

from kdsweep.config import Config


class Augment(Config):
    """What is done to training images."""

    padding: Annotated[int, Field(ge=0, le=512)] | None = None
    """Pixels of zeros around the resized image before the random crop. null as customary: 4 for
    CIFAR-100, 1 for the digits, else 0."""
    flip: bool | None = None
    """Mirror half of the images left to right. null as customary: not the digits, else yes."""


@dataclass(frozen=True)
class Layout:
    """What the network gets of an image.

    Attributes:
        resize: Height and width that every image is brought to, pixels.
        crop: Height and width of the part of it that is taken, pixels.
        mean: Of each channel, in 0..1.
        std: Of each channel, in 0..1.
        padding: As `Augment.padding`, where that is null.
        flip: As `Augment.flip`, where that is null.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int = 0
    flip: bool = True


@dataclass(frozen=True)
class Cut:
    """One draw of the augmentation.

    Attributes:
        top: First row of the part, in the resized image; negative where it starts in the padding.
        left: First column of the part.
        mirrored: Whether left and right change places.
    """

    top: int
    left: int
    mirrored: bool

    def apply(
        self, pixels: UInt8[np.ndarray, "height width channels"], layout: Layout
    ) -> Float32[np.ndarray, "channels crop crop"]:
        """Resizes (bilinear, antialiased), cuts, mirrors and normalises an image.

        Where the part reaches beyond the image it is black.
        """
        side, size = layout.crop, layout.resize
        if pixels.shape[:2] != (size, size):
            pixels = _resized(pixels, size)
        part = np.zeros((side, side, pixels.shape[2]), dtype=np.uint8)
        top, left = max(self.top, 0), max(self.left, 0)
        inner = pixels[top : self.top + side, left : self.left + side]
        rows, columns = inner.shape[:2]
        part[top - self.top :, left - self.left :][:rows, :columns] = inner
        if self.mirrored:
            part = part[:, ::-1]
        mean, std = np.asarray([layout.mean, layout.std], dtype=np.float32)
        normalised = (part.astype(np.float32) / np.float32(255.0) - mean) / std
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def draw(augment: Augment, layout: Layout, generator: np.random.Generator) -> Cut:
    """Draws one crop.

    Args:
        augment: What may be done.
        layout: Sizes, and what holds where `augment` leaves it open.
        generator: Source of the numbers; it always gives equally many, so that switching one part
            off leaves the draws of the others as they are.
    """
    padding = layout.padding if augment.padding is None else augment.padding
    flip = layout.flip if augment.flip is None else augment.flip
    choices = layout.resize + 2 * padding - layout.crop + 1
    top, left, mirror = generator.random(3).tolist()
    return Cut(int(top * choices) - padding, int(left * choices) - padding, flip and mirror < 0.5)


def draw_centre(layout: Layout) -> Cut:
    """The centre of an image, as evaluation takes it."""
    start = (layout.resize - layout.crop) // 2
    return Cut(start, start, False)


def _resized(
    pixels: UInt8[np.ndarray, "height width channels"], size: int
) -> UInt8[np.ndarray, "size size channels"]:
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
    resized = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return resized[:, :, None] if grey else resized
