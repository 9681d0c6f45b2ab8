"""Pairs counted from coordinates against those that spconv works on, and against plain loops."""

from itertools import product

import numpy as np
import pytest
import torch

from kdsweep.geometry.cylindrical import PI, CylinderGrid, partition
from kdsweep.models._pair_counts import pair_counts
from kdsweep.models._sparse import Convolution, sparse_tensor
from kdsweep.models._sparse_unet import SparseUNet
from kdsweep.models.cylinder3d import Config, build
from kdsweep.types import ModelInput


def cells(grid, count, scans, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, n, (count,), generator=generator) for n in (scans, *grid)]
    return torch.stack(rows, dim=1).unique(dim=0).int()


def spconv_pairs(coords, grid, scans):
    """Pairs by key, as spconv found them while the network ran."""
    net = SparseUNet(2, 2, 3)
    net(torch.randn(len(coords), 2), coords, grid=grid, batch_size=scans)
    table = sparse_tensor(
        torch.zeros(len(coords), 1), coords, grid=grid, batch_size=scans
    ).indice_dict
    counts = {}
    for key, data in table.items():
        pairs = int(data.indice_pair_num.sum())
        # of a submanifold convolution spconv stores one half of the offsets, without the centre
        counts[key] = 2 * pairs + len(data.indices) if data.is_subm else pairs
    assert set(counts) == {m.indice_key for m in net.modules() if isinstance(m, Convolution)}
    return counts


@pytest.mark.parametrize(
    ("grid", "count", "scans"),
    [((24, 20, 8), 700, 2), ((31, 17, 9), 900, 1), ((5, 4, 3), 50, 3), ((64, 48, 16), 1, 1)],
)
def test_counts_are_the_pairs_that_spconv_works_on(grid, count, scans):
    coords = cells(grid, count, scans, seed=0)
    assert pair_counts(coords, grid) == spconv_pairs(coords, grid, scans)


def test_counts_are_those_of_a_plain_loop():
    grid = (6, 5, 4)
    coords = cells(grid, 60, 2, seed=1)
    occupied = set(map(tuple, coords.tolist()))
    offsets = list(product((-1, 0, 1), repeat=3))
    cube = sum(
        (scan, rho + o[0], phi + o[1], z + o[2]) in occupied
        for scan, rho, phi, z in occupied
        for o in offsets
    )
    # cells of the coarse grid (3, 3, 2) at twice the coordinate, seen through a 3x3x3 window
    down = sum(
        (scan, 2 * rho + o[0], 2 * phi + o[1], 2 * z + o[2]) in occupied
        for scan, rho, phi, z in product(range(2), range(3), range(3), range(2))
        for o in offsets
    )
    counts = pair_counts(coords, grid)
    assert (counts["level0/3x3x3"], counts["level0/down"]) == (cube, down)


def test_counts_ignore_the_order_of_cells():
    coords = cells((24, 20, 8), 300, 2, seed=2)
    shuffled = coords[torch.randperm(len(coords))]
    assert pair_counts(coords, (24, 20, 8)) == pair_counts(shuffled, (24, 20, 8))


def test_an_empty_scan_has_no_pairs():
    assert set(pair_counts(torch.zeros(0, 4).int(), (8, 8, 8)).values()) == {0}


@pytest.mark.data
def test_a_real_scan_costs_four_times_less_at_half_the_width(samples):
    raw = np.fromfile(
        samples / "semantickitti/sequences/08/velodyne/000000.bin", dtype=np.float32
    ).reshape(-1, 4)
    grid = (480, 360, 32)
    cylinder = CylinderGrid(grid, (0.0, -PI, -4.0), (50.0, PI, 2.0))
    cut = partition(raw[:, :3], raw[:, 3], cylinder)
    coords = torch.from_numpy(cut.voxel_coords)
    coords = torch.cat([torch.zeros(len(coords), 1), coords], dim=1).int()
    counts = pair_counts(coords, grid)
    macs = {}
    for width in (1.0, 0.5):
        with torch.device("meta"):
            net = build(Config(width=width), ModelInput(20, 9, grid)).unet
        macs[width] = sum(
            counts[m.indice_key] * m.in_channels * m.out_channels
            for m in net.modules()
            if isinstance(m, Convolution)
        )
    assert macs[1.0] / macs[0.5] == pytest.approx(4.0, abs=0.01)
    assert 150e9 < macs[1.0] < 450e9
