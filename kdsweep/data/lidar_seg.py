"""LiDAR scans as samples of segmentation: read, augmented, partitioned and joined to batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int32, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from kdsweep.data.scans import Scan, ScanReader
from kdsweep.data.transforms import Augment, draw, generator_for
from kdsweep.geometry.cylindrical import CylinderGrid, majority_labels, partition
from kdsweep.types import LidarSegBatch


@dataclass(frozen=True)
class LidarSegSample:
    """One partitioned scan; the fields are those of `LidarSegBatch`, without the scan's number."""

    points: Float32[np.ndarray, "points features"]
    voxel_coords: Int32[np.ndarray, "voxels 3"]
    point_to_voxel: Int32[np.ndarray, " points"]
    point_labels: UInt8[np.ndarray, " points"]
    voxel_labels: UInt8[np.ndarray, " voxels"]
    sample_id: str

    @property
    def num_bytes(self) -> int:
        """Memory that the arrays take."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


@dataclass(frozen=True)
class View:
    """How the scans of one epoch are augmented.

    Attributes:
        augment: The ranges.
        rotation_deg: Range of the rotation where `augment` leaves it to the data set.
        seed: Seed of the run.
        number: The view: the epoch, or the epoch mod views where the augmentation repeats.
    """

    augment: Augment
    rotation_deg: float
    seed: int
    number: int


class LidarSegScans(Dataset[LidarSegSample]):
    """Scans of a split, partitioned on a cylindrical grid."""

    def __init__(
        self,
        reader: ScanReader,
        scans: Sequence[Scan],
        grid: CylinderGrid,
        *,
        identity: str,
        view: View | None = None,
        cache_bytes: int = 0,
    ) -> None:
        """Keeps what is needed to read; reads nothing yet.

        Args:
            reader: Reader of the root.
            scans: The scans, in order.
            grid: The grid.
            identity: What, besides scan and view, decides on a sample's content; part of its id.
            view: The augmentation; None leaves the scans as they are.
            cache_bytes: Samples are kept in memory until they take this much.
        """
        self._reader = reader
        self._scans = tuple(scans)
        self._grid = grid
        self._view = view
        self._suffix = f"@{identity}" if view is None else f"#{view.number}@{identity}"
        self._room = cache_bytes
        self._kept: dict[int, LidarSegSample] = {}

    def __len__(self) -> int:
        return len(self._scans)

    def __getitem__(self, index: int) -> LidarSegSample:
        """Reads, augments and partitions a scan.

        Raises:
            DataError: A file is missing or damaged.
        """
        if index in self._kept:
            return self._kept[index]
        sample = self._make(self._scans[index])
        if sample.num_bytes <= self._room:
            # filled once and never evicted: epochs visit all samples in turn, where evicting the
            # least recently used one would never hit
            self._kept[index] = sample
            self._room -= sample.num_bytes
        return sample

    def _make(self, scan: Scan) -> LidarSegSample:
        points, labels = self._reader.read(scan)
        xyz = points[:, :3]
        if self._view is not None:
            view = self._view
            generator = generator_for(view.seed, scan.name, view.number)
            transform = draw(view.augment, generator, rotation_deg=view.rotation_deg)
            xyz = transform.apply(xyz)
        cells = partition(xyz, points[:, 3], self._grid)
        voxel_labels = majority_labels(
            labels,
            cells.point_to_voxel,
            num_voxels=len(cells.voxel_coords),
            num_classes=self._reader.label_set.num_classes,
        )
        return LidarSegSample(
            points=cells.features.astype(np.float32),
            voxel_coords=cells.voxel_coords,
            point_to_voxel=cells.point_to_voxel.astype(np.int32),
            point_labels=labels,
            voxel_labels=voxel_labels.astype(np.uint8),
            sample_id=scan.name + self._suffix,
        )


def collate(
    samples: Sequence[LidarSegSample],
    *,
    grid: tuple[int, int, int],
    class_shares: tuple[float, ...] = (),
) -> LidarSegBatch:
    """Joins samples to one batch; rows of all scans follow one another.

    Args:
        samples: At least one sample.
        grid: Cells along (rho, phi, z).
        class_shares: As `LidarSegBatch.class_shares`.
    """
    voxel_counts = tuple(len(sample.voxel_coords) for sample in samples)
    first_voxel = np.cumsum((0, *voxel_counts))
    coords = np.concatenate(
        [np.insert(sample.voxel_coords, 0, scan, axis=1) for scan, sample in enumerate(samples)]
    )
    point_to_voxel = np.concatenate(
        [
            sample.point_to_voxel.astype(np.int64) + first
            for sample, first in zip(samples, first_voxel, strict=False)
        ]
    )
    return LidarSegBatch(
        points=torch.from_numpy(np.concatenate([sample.points for sample in samples])),
        voxel_coords=torch.from_numpy(coords),
        point_to_voxel=torch.from_numpy(point_to_voxel),
        point_labels=_labels([sample.point_labels for sample in samples]),
        voxel_labels=_labels([sample.voxel_labels for sample in samples]),
        grid=grid,
        point_counts=tuple(len(sample.points) for sample in samples),
        voxel_counts=voxel_counts,
        sample_ids=tuple(sample.sample_id for sample in samples),
        class_shares=class_shares,
    )


def _labels(parts: Sequence[UInt8[np.ndarray, " rows"]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))
