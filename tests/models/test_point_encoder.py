"""The point encoder against reference numbers, and its parts against plain torch."""

import re

import numpy as np
import pytest
import torch

from kdsweep.models._point_encoder import PointEncoder, PointRefinement, max_per_voxel

CASES = pytest.mark.parametrize("name", ["pvd_ptmlp_a.npz", "pvd_ptmlp_nocomp.npz"])


def own_name(name):
    for pattern, replacement in (
        (r"^bn_in", "bn"),
        (r"^fc([123])", lambda match: f"mlp.{int(match[1]) - 1}.linear"),
        (r"^bn([123])", lambda match: f"mlp.{int(match[1]) - 1}.bn"),
        (r"^fc4", "project"),
        (r"^comp", "compress"),
    ):
        name = re.sub(pattern, replacement, name)
    return name


class Reference:
    def __init__(self, path, dtype):
        with np.load(path) as file:
            self.data = dict(file)
        self.points = torch.tensor(self.data["points"], dtype=dtype, requires_grad=True)
        scan = np.repeat(np.arange(len(self.data["sizes"])), self.data["sizes"])
        cells = np.concatenate([scan[:, None], self.data["grid_ind"]], axis=1)
        coords, rows = np.unique(cells, axis=0, return_inverse=True)
        np.testing.assert_array_equal(coords, self.data["eval_coords"])
        self.rows, self.num_voxels = torch.from_numpy(rows.ravel()), len(coords)
        state = {
            own_name(key[2:]): torch.from_numpy(self.data[key])
            for key in self.data
            if key.startswith("w/")
        }
        hidden = [state[f"mlp.{n}.linear.weight"].shape[0] for n in range(3)]
        self.net = PointEncoder(
            self.points.shape[1],
            hidden,
            state["project.weight"].shape[0],
            int(self.data["fea_compre"]),
        ).to(dtype)
        self.net.load_state_dict(state)

    def run(self):
        return self.net(self.points, self.rows, self.num_voxels)[0]


@CASES
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_cell_features_and_gradients_are_the_reference_numbers(oracle, name, dtype, rtol):
    reference = Reference(oracle(name), dtype)
    reference.net.eval()
    features = reference.run()
    features.backward(torch.from_numpy(reference.data["eval_upstream_grad"]).to(dtype))
    for actual, key in (
        (features, "eval_feat"),
        (reference.points.grad, "eval_grad_points"),
        (reference.net.project.weight.grad, "eval_grad_fc4_weight"),
    ):
        expected = reference.data[key]
        error = np.abs(actual.detach().double().numpy() - expected).max()
        assert error <= rtol * np.abs(expected).max()


@CASES
def test_batch_statistics_are_the_reference_ones(oracle, name):
    reference = Reference(oracle(name), torch.float64)
    reference.net.train()
    np.testing.assert_allclose(
        reference.run().detach().numpy(), reference.data["train_feat"], rtol=1e-9, atol=1e-9
    )
    state = reference.net.state_dict()
    keys = [key for key in reference.data if key.startswith("train_after/")]
    assert len(keys) == 8
    for key in keys:
        actual = state[own_name(key.removeprefix("train_after/"))].numpy()
        np.testing.assert_allclose(actual, reference.data[key], rtol=1e-9)


@pytest.mark.parametrize(("point_channels", "count"), [(256, 112_802), (128, 77_858)])
def test_parameters_are_counted_as_published(point_channels, count):
    net = PointEncoder(9, (64, 128, 256), point_channels, 16)
    assert sum(p.numel() for p in net.parameters()) == count


def test_maximum_and_its_gradient_are_those_of_torch():
    torch.manual_seed(0)
    x = torch.randint(0, 4, (60, 5)).double().requires_grad_()  # few values: many ties
    rows = torch.arange(60) % 7
    upstream = torch.randn(7, 5, dtype=torch.float64)
    highest = max_per_voxel(x, rows, 7)
    (gradient,) = torch.autograd.grad(highest, x, upstream)
    expected = x.new_zeros(7, 5).scatter_reduce(
        0, rows[:, None].expand_as(x), x, "amax", include_self=False
    )
    (expected_gradient,) = torch.autograd.grad(expected, x, upstream)
    torch.testing.assert_close(highest, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_maximum_ignores_the_order_of_points():
    torch.manual_seed(0)
    x, rows, order = torch.randn(50, 3), torch.arange(50) % 6, torch.randperm(50)
    assert torch.equal(max_per_voxel(x, rows, 6), max_per_voxel(x[order], rows[order], 6))


def test_refinement_mirrors_the_encoder():
    torch.manual_seed(0)
    encoder, refinement = PointEncoder(9, (6, 7, 8), 10, 4), PointRefinement(12, (6, 7, 8), 5)
    _, hidden = encoder(torch.randn(30, 9), torch.arange(30) % 4, 4)
    features, logits = refinement(torch.randn(30, 12), hidden)
    assert [layer.linear.in_features for layer in refinement.layers] == [12 + 8, 8 + 7, 7 + 6]
    assert features.shape == (30, 6) and logits.shape == (30, 5)
    assert torch.equal(logits, refinement.head(features))


def test_points_of_one_cell_get_different_refined_logits():
    torch.manual_seed(0)
    encoder, refinement = PointEncoder(9, (6, 7, 8), 10, 4), PointRefinement(12, (6, 7, 8), 5)
    _, hidden = encoder(torch.randn(2, 9), torch.zeros(2, dtype=torch.long), 1)
    _, logits = refinement(torch.randn(1, 12).expand(2, 12), hidden)
    assert not torch.allclose(logits[0], logits[1])
