"""Batches and model outputs: named, shaped tensors that every layer above agrees on."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

Taps: TypeAlias = Mapping[str, Tensor]
"""Named tensors that a model exposes to methods, for one batch."""

Terms: TypeAlias = dict[str, Tensor]
"""Unweighted scalar losses, keyed by the weight field that scales them."""


@dataclass(frozen=True)
class TapInfo:
    """What a model promises about one tap.

    Attributes:
        axes: Names of the axes, for example ``("points", "channels")``. A first axis other than
            ``batch`` counts rows of all samples one after the other (`Batch.row_counts`).
        channels: Size of the axis ``channels`` (or ``classes``).
        rows_of: ``(tap, field)`` where this tap is nothing but rows of another one,
            ``taps[tap][batch.field]``, so that only the other one need be stored; None otherwise.
    """

    axes: tuple[str, ...]
    channels: int
    rows_of: tuple[str, str] | None = None


class Batch(Protocol):
    """What the engine needs of a batch, whatever the task."""

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Identity of each sample, with its augmentation view: the same id, the same input."""

    def row_counts(self, axis: str) -> tuple[int, ...]:
        """Rows that each sample has along a tap's first axis (all 1 for ``batch``)."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""


BatchT = TypeVar("BatchT")


def move(batch: BatchT, device: torch.device) -> BatchT:
    """Copies a dataclass of tensors to a device; fields that are not tensors stay."""
    moved: dict[str, Any] = {}
    for field in fields(batch):  # type: ignore[arg-type]
        value = getattr(batch, field.name)
        moved[field.name] = (
            value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        )
    return replace(batch, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class ModelInput:
    """What a task tells a model about its input and output, so that the model can be built.

    Attributes:
        num_classes: Classes the head predicts, the ignored class 0 included where there is one; 0
            where embeddings are all that is wanted.
        point_features: Features per point.
        grid: Cells along each axis of the input grid, where the task has one.
        image_channels: Channels of an image (3 for RGB), where the task has images.
    """

    num_classes: int
    point_features: int = 0
    grid: tuple[int, int, int] = (1, 1, 1)
    image_channels: int = 0


@dataclass(frozen=True)
class LidarSegBatch:
    """A batch of LiDAR scans on a cylindrical grid. Rows of all scans follow one another.

    Attributes:
        points: Per point ``[rho-c0, phi-c1, z-c2, rho, phi, z, x, y, intensity]`` with c the centre
            of the point's cell; metres and radians (Cylinder3D; without intensity, the first 8).
        voxel_coords: Occupied cells ``(scan, rho, phi, z)``, int32, sorted lexicographically.
        point_to_voxel: Row of `voxel_coords` that holds each point.
        point_labels: Training ids 0..classes-1, 0 = ignore; all 0 where a scan has no labels.
        voxel_labels: Majority training id of the cell's points (ties: smallest id).
        grid: Cells along (rho, phi, z).
        point_counts: Points of each scan.
        voxel_counts: Occupied cells of each scan.
        sample_ids: Identity of each scan and its augmentation view.
        class_shares: Share of each training id among all labelled training points of the data set,
            0..1, entry 0 (ignored) being 0; empty where the data set has no such table.
    """

    points: Float[Tensor, "points features"]
    voxel_coords: Int[Tensor, "voxels 4"]
    point_to_voxel: Int[Tensor, " points"]
    point_labels: Int[Tensor, " points"]
    voxel_labels: Int[Tensor, " voxels"]
    grid: tuple[int, int, int]
    point_counts: tuple[int, ...]
    voxel_counts: tuple[int, ...]
    sample_ids: tuple[str, ...]
    class_shares: tuple[float, ...] = ()

    def row_counts(self, axis: str) -> tuple[int, ...]:
        """Rows that each scan has along a tap's first axis: ``points``, ``voxels`` or ``batch``."""
        return {
            "points": self.point_counts,
            "voxels": self.voxel_counts,
            "batch": (1,) * len(self.sample_ids),
        }[axis]

    def to(self, device: torch.device) -> "LidarSegBatch":
        """The same batch on another device."""
        return move(self, device)


@dataclass(frozen=True)
class ImageBatch:
    """A batch of images of one size.

    Attributes:
        images: Normalised images, float32.
        labels: Class of each image, numbered from 0 within its data set.
        sample_ids: Identity of each image and its augmentation view.
    """

    images: Float[Tensor, "batch channels height width"]
    labels: Int[Tensor, " batch"]
    sample_ids: tuple[str, ...]

    def row_counts(self, axis: str) -> tuple[int, ...]:
        """Rows that each image has along a tap's first axis: always ``batch``, one row."""
        assert axis == "batch", axis
        return (1,) * len(self.sample_ids)

    def to(self, device: torch.device) -> "ImageBatch":
        """The same batch on another device."""
        return move(self, device)
