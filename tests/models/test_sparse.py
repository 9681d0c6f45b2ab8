"""Convolutions on shared index pairs, in every mode and dtype."""

import pytest
import torch

from kdsweep.models import _sparse
from kdsweep.models._sparse import BatchNorm, DownConv, InverseConv, SubMConv, sparse_tensor

GRID = (9, 8, 7)
STRIDE = (2, 2, 1)


def cells(count=60, scans=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (scans, *GRID)
    rows = torch.stack([torch.randint(0, n, (count,), generator=generator) for n in sizes], dim=1)
    return rows.unique(dim=0).int()


def as_sparse(features, coords):
    return sparse_tensor(features, coords, grid=GRID, batch_size=2)


def dense_convolution(features, coords, conv):
    """The same convolution by torch, on the dense grid; gives the occupied cells' rows."""
    dense = features.new_zeros(2, *GRID, features.shape[1])
    at = tuple(coords.long().T)
    dense[at] = features
    kernel = conv.weight.permute(0, 4, 1, 2, 3)
    padding = [size // 2 for size in kernel.shape[2:]]
    out = torch.nn.functional.conv3d(
        dense.permute(0, 4, 1, 2, 3), kernel, conv.bias, padding=padding
    )
    return out.permute(0, 2, 3, 4, 1)[at]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 1, 3), (3, 3, 3), (3, 1, 1), (1, 1, 3)])
def test_submanifold_convolution_is_a_dense_one_at_the_occupied_cells(kernel, mode):
    torch.manual_seed(0)
    conv = getattr(SubMConv(0, 3, 4, kernel, bias=True).double(), mode)()
    coords = cells()
    features = torch.randn(len(coords), 3, dtype=torch.float64, requires_grad=True)
    out = conv(as_sparse(features, coords)).features
    expected = dense_convolution(features, coords, conv)
    torch.testing.assert_close(out, expected)
    wanted = (features, conv.weight, conv.bias)
    upstream = torch.randn_like(out)
    for gradient, reference in zip(
        torch.autograd.grad(out, wanted, upstream),
        torch.autograd.grad(expected, wanted, upstream),
        strict=True,
    ):
        torch.testing.assert_close(gradient, reference)


def run_down_and_up(coords, layers, features):
    pooled = layers[0](as_sparse(features, coords))
    return pooled, layers[1](pooled)


def test_a_second_network_on_the_same_coordinates_finds_its_pairs_ready(monkeypatch):
    torch.manual_seed(0)
    networks = [(DownConv(0, n, STRIDE).double(), InverseConv(0, n).double()) for n in (3, 5)]
    coords = cells()
    inputs = [torch.randn(len(coords), n, dtype=torch.float64) for n in (3, 5)]
    run_down_and_up(coords, networks[0], inputs[0])

    def refuse(*_, **__):
        raise AssertionError("index pairs were searched again")

    with monkeypatch.context() as patch:
        patch.setattr(_sparse.spconv.ops, "get_indice_pairs", refuse)
        shared = run_down_and_up(coords, networks[1], inputs[1])
    alone = run_down_and_up(coords.clone(), networks[1], inputs[1])
    for ours, expected in zip(shared, alone, strict=True):
        assert torch.equal(ours.indices, expected.indices)
        assert ours.spatial_shape == expected.spatial_shape
        assert torch.equal(ours.features, expected.features)


def test_ready_pairs_give_the_same_gradients():
    torch.manual_seed(0)
    layers = (DownConv(0, 3, STRIDE).double(), InverseConv(0, 3).double())
    coords = cells()
    features = torch.randn(len(coords), 3, dtype=torch.float64, requires_grad=True)
    wanted = (features, layers[0].weight, layers[1].weight)
    first, again = (
        torch.autograd.grad(run_down_and_up(coords, layers, features)[1].features.sum(), wanted)
        for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_equal_coordinates_of_another_grid_do_not_share_pairs():
    coords = cells()
    features = torch.ones(len(coords), 2)
    down = DownConv(0, 2, STRIDE)
    small = down(as_sparse(features, coords))
    large = down(sparse_tensor(features, coords, grid=(90, 80, 70), batch_size=2))
    assert small.spatial_shape != large.spatial_shape


def test_pairs_are_forgotten_with_their_coordinates():
    coords = cells()
    before = len(_sparse._pairs)
    SubMConv(0, 2, 2, (3, 3, 3))(as_sparse(torch.ones(len(coords), 2), coords))
    assert len(_sparse._pairs) == before + 1
    del coords
    assert len(_sparse._pairs) == before


def test_kernels_of_different_shape_never_share_a_key():
    kernels = [(1, 3, 3), (3, 1, 3), (3, 3, 3), (3, 1, 1), (1, 3, 1), (1, 1, 3)]
    keys = {SubMConv(level, 1, 1, k).indice_key for level in (0, 1) for k in kernels}
    assert len(keys) == 12


def test_pairs_found_in_inference_mode_do_not_reach_training():
    coords = cells()
    conv = SubMConv(0, 2, 2, (3, 3, 3)).eval()
    features = torch.randn(len(coords), 2)
    with torch.inference_mode():
        expected = conv(as_sparse(features, coords)).features
    out = conv(as_sparse(features, coords)).features
    out.sum().backward()
    assert torch.equal(out, expected) and conv.weight.grad is not None
    assert not conv.training


def test_autocast_leaves_convolutions_in_float32():
    coords = cells()
    conv = SubMConv(0, 2, 2, (3, 3, 3))
    features = torch.randn(len(coords), 2).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(as_sparse(features, coords)).features
    out.sum().backward()
    assert out.dtype == torch.float32
    assert features.grad.dtype == torch.bfloat16 and conv.weight.grad.dtype == torch.float32
    torch.testing.assert_close(out, conv(as_sparse(features.float(), coords)).features)


def test_a_single_row_is_normalised_by_running_statistics():
    bn = BatchNorm(3).train()
    bn.running_mean.fill_(1.0)
    row = torch.randn(1, 3)
    assert torch.equal(bn(row), bn.eval()(row))
    assert torch.equal(bn.running_mean, torch.ones(3))
