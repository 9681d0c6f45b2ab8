"""How many (input cell, kernel offset, output cell) pairs each sparse convolution works on.

The multiply-accumulate operations of a sparse convolution are its pairs times its input and output
channels. The pairs depend on the occupied cells only, so they are counted once per scan, without
spconv and without running the network, and serve every width.
"""

from itertools import product
from math import prod

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kdsweep.models._sparse import Kernel, down_key, pair_key
from kdsweep.models._sparse_unet import AXES, CUBE, STRIDES, A, B

Shape = tuple[int, int, int]

_counts: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Counts by coordinate tensor (its identity): {grid: {key: pairs}}."""


def pair_counts(coords: Int[Tensor, "voxels 4"], grid: Shape) -> dict[str, int]:
    """Counts the pairs of every convolution geometry in Cylinder3D's sparse network.

    Remembered for as long as the tensor lives, which must not be changed in place.

    Args:
        coords: Unique ``(scan, rho, phi, z)`` of the occupied cells of a batch, in any order.
        grid: Cells along (rho, phi, z).

    Returns:
        Pairs by index key: ``level<n>/<kernel>`` for submanifold convolutions (the centre
        included) and ``level<n>/down`` for the strided convolution and its inverse.
    """
    known = _counts.setdefault(coords, {})
    if grid not in known:
        known[grid] = _count(coords.long(), grid)
    return known[grid]


def _count(coords: Int[Tensor, "voxels 4"], grid: Shape) -> dict[str, int]:
    counts: dict[str, int] = {}
    for level, stride in enumerate((*STRIDES, None)):
        kernels = (CUBE,) if stride is None else (A, B, CUBE)
        counts |= _submanifold(coords, grid, level, kernels + (AXES if level == 0 else ()))
        if stride is not None:
            coords, grid, counts[down_key(level)] = _strided(coords, grid, stride)
    return counts


def _submanifold(
    coords: Int[Tensor, "voxels 4"], grid: Shape, level: int, kernels: tuple[Kernel, ...]
) -> dict[str, int]:
    """Pairs of submanifold convolutions: neighbours by offset, then summed over each kernel."""
    # one empty cell around the grid, so that a neighbour outside never looks like another cell
    padded = (grid[0] + 2, grid[1] + 2, grid[2] + 2)
    keys = _flat(coords + coords.new_tensor([0, 1, 1, 1]), padded).sort().values
    centre = len(keys)
    found = {(0, 0, 0): centre}
    for rho, phi, z in product((-1, 0, 1), repeat=3):
        if (rho, phi, z) > (0, 0, 0) and centre:
            wanted = keys + (rho * padded[1] + phi) * padded[2] + z
            at = torch.searchsorted(keys, wanted).clamp_(max=centre - 1)
            # the opposite offset has the same pairs, the other way round
            found[rho, phi, z] = found[-rho, -phi, -z] = int((keys[at] == wanted).sum())
    return {
        pair_key(level, kernel): sum(
            pairs
            for offset, pairs in found.items()
            if all(abs(o) <= size // 2 for o, size in zip(offset, kernel, strict=True))
        )
        for kernel in kernels
    }


def _strided(
    coords: Int[Tensor, "voxels 4"], grid: Shape, stride: Kernel
) -> tuple[Int[Tensor, "coarse 4"], Shape, int]:
    """Output cells, output grid and pairs of a 3x3x3 convolution with padding 1."""
    rho, phi, z = ((size - 1) // step + 1 for size, step in zip(grid, stride, strict=True))
    coarse = (rho, phi, z)
    cells, pairs = [], 0
    limit = coords.new_tensor(coarse)
    steps = coords.new_tensor(stride)
    for tap in product((0, 1, 2), repeat=3):
        # input = output * stride + tap - padding
        shifted = coords[:, 1:] + 1 - coords.new_tensor(tap)
        output = shifted.div(steps, rounding_mode="floor")
        valid = ((shifted == output * steps) & (output >= 0) & (output < limit)).all(dim=1)
        pairs += int(valid.sum())
        cells.append(_flat(torch.cat((coords[:, :1], output), dim=1)[valid], coarse))
    return _unflat(torch.cat(cells).unique(), coarse), coarse, pairs


def _flat(coords: Int[Tensor, "voxels 4"], shape: Shape) -> Int[Tensor, " voxels"]:
    """One number per cell, ordered like the coordinates."""
    scan, rho, phi, z = coords.unbind(1)
    return ((scan * shape[0] + rho) * shape[1] + phi) * shape[2] + z


def _unflat(keys: Int[Tensor, " voxels"], shape: Shape) -> Int[Tensor, "voxels 4"]:
    """Inverse of `_flat`."""
    sizes = (prod(shape), shape[1] * shape[2], shape[2], 1)
    columns = []
    for size in sizes:
        columns.append(keys // size)
        keys = keys % size
    return torch.stack(columns, dim=1)
