"""Random batches and taps of the task lidar_seg, for contract tests of methods and models."""

from collections.abc import Mapping
from zlib import crc32

import torch

from kdsweep.types import LidarSegBatch, ModelInput, TapInfo, Taps

_GRID, _CLASSES, _POINT_COLUMNS = (24, 18, 8), 6, 9

MODEL_INPUT = ModelInput(num_classes=_CLASSES, point_features=_POINT_COLUMNS, grid=_GRID)
"""What models are built for, so that they can run on `make_batch`."""


def _infos(channels: int) -> dict[str, TapInfo]:
    return {
        "point_logits": TapInfo(("points", "classes"), _CLASSES),
        "voxel_logits": TapInfo(("voxels", "classes"), _CLASSES),
        "point_features": TapInfo(("points", "channels"), channels),
        "voxel_features": TapInfo(("voxels", "channels"), 2 * channels),
    }


STUDENT: Mapping[str, TapInfo] = _infos(5)
"""Taps that students of this task give; narrower than the teacher's."""

TEACHER: Mapping[str, TapInfo] = _infos(8)


def make_batch(
    *, samples: int = 2, labelled: bool = True, empty: bool = False, seed: int = 0
) -> LidarSegBatch:
    """A batch of random scans; `empty` makes the last one a scan without points."""
    generator = torch.Generator().manual_seed(seed)
    parts, point_counts, voxel_counts = [], [], []
    for scan in range(samples):
        num_points = 0 if empty and scan == samples - 1 else 150 + 40 * scan
        cells = torch.stack(
            [torch.randint(0, n, (num_points,), generator=generator) for n in _GRID], dim=1
        )
        coords, rows = torch.unique(cells, dim=0, return_inverse=True)
        coords = torch.cat([torch.full((len(coords), 1), scan), coords], dim=1).int()
        labels = torch.randint(0, _CLASSES, (num_points,), generator=generator)
        if not labelled:
            labels = torch.zeros_like(labels)
        votes = torch.zeros(len(coords), _CLASSES, dtype=torch.long)
        votes.index_put_((rows, labels), torch.ones_like(rows), accumulate=True)
        parts.append((coords, rows + sum(voxel_counts), labels, votes.argmax(dim=1)))
        point_counts.append(num_points)
        voxel_counts.append(len(coords))
    coords, rows, labels, voxel_labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return LidarSegBatch(
        points=torch.randn(len(rows), _POINT_COLUMNS, generator=generator),
        voxel_coords=coords,
        point_to_voxel=rows,
        point_labels=labels,
        voxel_labels=voxel_labels,
        grid=_GRID,
        point_counts=tuple(point_counts),
        voxel_counts=tuple(voxel_counts),
        sample_ids=tuple(f"scan{scan}/0" for scan in range(samples)),
        class_shares=(0.0, 0.5, 0.3, 0.19, 0.006, 0.004),
    )


def make_taps(infos: Mapping[str, TapInfo], batch: LidarSegBatch, *, seed: int) -> Taps:
    """Random float32 taps, leaves that ask for a gradient; each depends on its name and `seed`."""
    taps = {}
    for name, info in infos.items():
        generator = torch.Generator().manual_seed(seed + crc32(name.encode()))
        rows = sum(batch.row_counts(info.axes[0]))
        taps[name] = torch.randn(rows, info.channels, generator=generator).requires_grad_()
    return taps
