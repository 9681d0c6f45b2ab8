"""Supervoxels of a cylindrical grid: their ids, how likely each is drawn, and which rows are kept.

Source: Hou et al., "Point-to-Voxel Knowledge Distillation", CVPR 2022 (difficulty-aware sampling).
No code of it was released. The weight 1/f * d/R * 1/Ns follows secondary reports of the paper; the
order of ids, the exclusion of empty supervoxels and the rule for too many minority rows are
reconstructions.

All randomness comes in as keys, uniform in [0, 1) and one for each thing that may be drawn, so the
same keys choose the same rows on any device.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Triple = tuple[int, int, int]


def num_blocks(grid: Triple, size: Triple) -> Triple:
    """Supervoxels along each axis of the grid; the last of an axis may be smaller than the rest.

    Args:
        grid: Cells along (rho, phi, z).
        size: Cells of a supervoxel along each axis, >= 1; more than the grid has means all of it.
    """
    rho, phi, z = (-(-cells // step) for cells, step in zip(grid, size, strict=True))
    return rho, phi, z


def supervoxel_ids(
    coords: Int[Tensor, "voxels 3"], *, grid: Triple, size: Triple
) -> Int[Tensor, " voxels"]:
    """Supervoxel of each cell, numbered with z fastest and rho slowest, from 0.

    Args:
        coords: Cells (rho, phi, z), inside the grid.
        grid: Cells along (rho, phi, z).
        size: Cells of a supervoxel along each axis.
    """
    _, phi_blocks, z_blocks = num_blocks(grid, size)
    rho, phi, z = coords.long().unbind(dim=1)
    return ((rho // size[0]) * phi_blocks + phi // size[1]) * z_blocks + z // size[2]


def sampling_weights(
    num_voxels: Int[Tensor, " supervoxels"],
    num_minority: Int[Tensor, " supervoxels"],
    *,
    grid: Triple,
    size: Triple,
    class_gain: float = 4.0,
    class_decay: float = 2.0,
    distance_exponent: float = 1.0,
) -> Float[Tensor, " supervoxels"]:
    """Difficulty of each supervoxel: far ones and those with rare classes are drawn more often.

    ``W = (d / R)^q / (g exp(-k N) + 1) / Ns`` with d the outer radius of the supervoxel, R that of
    the grid, N its cells of a minority class and Ns the number of supervoxels. A gain g of 0 leaves
    distance only, an exponent q of 0 leaves classes only, both leave uniform sampling.

    Args:
        num_voxels: Occupied cells of each supervoxel, in the order of `supervoxel_ids`.
        num_minority: Those of them whose label is a minority class.
        grid: Cells along (rho, phi, z).
        size: Cells of a supervoxel along each axis.
        class_gain: g >= 0; without a minority cell a supervoxel is (g + 1) times less likely.
        class_decay: k > 0; how fast the first minority cells lift that.
        distance_exponent: q >= 0.

    Returns:
        Weights in float64, not normalised; 0 for supervoxels without occupied cells.
    """
    rho_blocks, phi_blocks, z_blocks = num_blocks(grid, size)
    outer = (torch.arange(1, rho_blocks + 1, device=num_voxels.device) * size[0]).clamp(max=grid[0])
    distance = (outer.double() / grid[0]).repeat_interleave(phi_blocks * z_blocks)
    commonness = class_gain * torch.exp(-class_decay * num_minority.double()) + 1.0
    weights = distance**distance_exponent / commonness / len(num_voxels)
    return weights * (num_voxels > 0)


def draw_supervoxels(
    weights: Float[Tensor, " supervoxels"], keys: Float[Tensor, " supervoxels"], count: int
) -> list[int]:
    """Draws supervoxels one after another without replacement, each in proportion to its weight.

    ``-log(1 - key) / weight`` is an exponential waiting time with the weight as its rate, and the
    first arrivals are such a sample (Efraimidis and Spirakis, 2006).

    Args:
        weights: Weights >= 0; those of 0 are never drawn.
        keys: Uniform random numbers in [0, 1).
        count: Supervoxels wanted; all of positive weight where there are fewer.

    Returns:
        Ids in the order drawn.
    """
    waiting = -torch.log1p(-keys.double()) / weights
    order = torch.argsort(torch.where(weights > 0, waiting, torch.inf), stable=True)
    return order[: min(count, int((weights > 0).sum()))].tolist()


def select_rows(
    members: Bool[Tensor, " rows"],
    minority: Bool[Tensor, " rows"],
    keys: Float[Tensor, " rows"],
    limit: int,
) -> Int[Tensor, " kept"]:
    """Chooses at most `limit` rows of a supervoxel, giving up majority-class rows first.

    Args:
        members: Rows (points or cells) that lie in the supervoxel.
        minority: Rows whose label is a minority class.
        keys: Uniform random numbers; within each group the rows of smallest key are kept.
        limit: Rows kept at most, >= 1.

    Returns:
        Kept rows, ascending; all members where they are not too many.
    """
    rows = members.nonzero().squeeze(1)
    if len(rows) <= limit:
        return rows
    rows = rows[keys[rows].argsort(stable=True)]
    rows = rows[minority[rows].logical_not().byte().argsort(stable=True)]
    return rows[:limit].sort().values
