"""Random augmentation of a LiDAR scan, drawn anew for each sample and view.

Source: Cylinder3D (Zhu et al., CVPR 2021), code xinge008/Cylinder3D,
dataloader/dataset_semantickitti.py: rotation, flip, scale, translation, in this order, before the
partition.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from kdsweep.config import Config, NonNegative


class Augment(Config):
    """Ranges of the augmentation; zeros and ``flip: false`` switch it off."""

    rotation_deg: Annotated[float, Field(ge=0.0, le=180.0)] | None = None
    """Rotation about z, uniform in -this..this degrees; null as published: 45 for SemanticKITTI,
    180 for nuScenes."""
    flip: bool = True
    """Mirror x, y, both or neither, each as likely."""
    scale: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    """x and y (not z) are scaled by one factor, uniform in 1-this..1+this."""
    translation_std_m: NonNegative = 0.1
    """Standard deviation of the shift along each of x, y and z, metres."""


@dataclass(frozen=True)
class Transform:
    """One draw of the augmentation.

    Attributes:
        rotation_rad: Angle about z, counter-clockwise seen from above.
        flip: Signs (+1 or -1) of x and y after the rotation.
        scale: Factor on x and y after the flip.
        shift_m: Added to x, y and z at the end.
    """

    rotation_rad: float
    flip: tuple[int, int]
    scale: float
    shift_m: tuple[float, float, float]

    def apply(self, xyz: Float32[np.ndarray, "points 3"]) -> Float32[np.ndarray, "points 3"]:
        """Moves points; the input stays as it is."""
        x, y, z = xyz.T.astype(np.float64)
        cos, sin = np.cos(self.rotation_rad), np.sin(self.rotation_rad)
        moved = np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=1)
        moved[:, :2] *= np.asarray(self.flip) * self.scale
        moved += np.asarray(self.shift_m)
        return moved.astype(np.float32)


def draw(config: Augment, generator: np.random.Generator, *, rotation_deg: float) -> Transform:
    """Draws one transform.

    Args:
        config: The ranges. Each takes its numbers even where it is zero, so that switching one off
            leaves the draws of the others as they are.
        generator: Source of the numbers.
        rotation_deg: Range of the rotation where the configuration leaves it to the data set.
    """
    angle, factor = generator.uniform(-1.0, 1.0, size=2)
    axes = int(generator.integers(4)) * config.flip
    shift = generator.normal(0.0, 1.0, size=3) * config.translation_std_m
    limit = rotation_deg if config.rotation_deg is None else config.rotation_deg
    return Transform(
        rotation_rad=float(np.deg2rad(limit) * angle),
        flip=(-1 if axes in (1, 3) else 1, -1 if axes in (2, 3) else 1),
        scale=float(1.0 + config.scale * factor),
        shift_m=(float(shift[0]), float(shift[1]), float(shift[2])),
    )


def generator_for(*identity: object) -> np.random.Generator:
    """Random numbers that depend on nothing but an identity, whatever worker asks and when.

    Args:
        identity: What the numbers belong to, for example (seed, sample name, view).
    """
    digest = hashlib.sha256(repr(identity).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
