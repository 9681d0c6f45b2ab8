"""The sparse U-Net against reference numbers of independent code."""

import re

import numpy as np
import pytest
import torch

from kdsweep.models._sparse_unet import SparseUNet

CASES = pytest.mark.parametrize("name", ["pvd_cylnet_a.npz", "pvd_cylnet_odd.npz"])
DTYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)]
)


def own_name(name):
    """Our name of a layer of the reference."""
    for pattern, replacement in (
        (r"\.s1\.", ".branch1.0."),
        (r"\.s2\.", ".branch1.1."),
        (r"\.r1\.", ".branch2.0."),
        (r"\.r2\.", ".branch2.1."),
        (r"(down\d)\.branch", r"\1.res.branch"),
        (r"(up\d)\.p(\d)", lambda match: f"{match[1]}.post.{int(match[2]) - 1}"),
        (r"(pool|inv)\.conv", r"\1"),
        (r"ddcm\.([abc])", lambda match: f"ddcm.gates.{'abc'.index(match[1])}"),
    ):
        name = re.sub(pattern, replacement, name)
    return name


STAGES = {name: name for name in ("ctx", "up4", "up3", "up2", "up1", "ddcm")} | {
    f"down{n}.{stage}": f"down{n}.{module}"
    for n in range(1, 5)
    for stage, module in (("skip", "res"), ("pooled", "pool"))
}
"""Our modules whose output the reference has: {reference name: module name}."""


class Reference:
    """A network with the reference's weights, its input, and what every stage gives."""

    def __init__(self, path, dtype):
        with np.load(path) as file:
            self.data = dict(file)
        self.features = torch.tensor(self.data["features"], dtype=dtype, requires_grad=True)
        self.coords = torch.from_numpy(self.data["coords"])
        self.net = SparseUNet(
            self.features.shape[1], int(self.data["init_size"]), int(self.data["num_classes"])
        ).to(dtype)
        given = {
            own_name(key[2:]): torch.from_numpy(self.data[key])
            for key in self.data
            if key.startswith("w/")
        }
        lacking = self.net.load_state_dict(given, strict=False)
        assert not lacking.unexpected_keys
        assert all(key.endswith("num_batches_tracked") for key in lacking.missing_keys)
        self.outputs = {}
        for name, module in STAGES.items():
            self.net.get_submodule(module).register_forward_hook(
                lambda _, __, output, name=name: self.outputs.update({name: output})
            )

    def run(self):
        return self.net(
            self.features,
            self.coords,
            grid=tuple(self.data["grid_size"].tolist()),
            batch_size=int(self.data["batch_size"]),
        )


def assert_close(actual, expected, tolerance):
    """Relative to the largest expected value."""
    error = np.abs(actual.detach().double().numpy() - expected).max()
    assert error <= tolerance * np.abs(expected).max()


@CASES
@DTYPES
def test_every_stage_gives_the_reference_numbers(oracle, name, dtype, tolerance):
    reference = Reference(oracle(name), dtype)
    reference.net.eval()
    _, logits = reference.run()
    assert_close(logits, reference.data["eval/head"], tolerance)
    for stage, output in reference.outputs.items():
        assert output.spatial_shape == reference.data[f"shape/{stage}"].tolist()
        order = np.lexsort(output.indices.numpy().T[::-1])  # that of strided outputs is free
        assert_close(output.features[order], reference.data[f"eval/{stage}"], tolerance)
        if stage.endswith("pooled"):
            cells = output.indices.numpy()[order]
            np.testing.assert_array_equal(cells, reference.data[f"eval/{stage}.coords"])


@CASES
@DTYPES
def test_gradients_are_the_reference_gradients(oracle, name, dtype, tolerance):
    reference = Reference(oracle(name), dtype)
    reference.net.eval()
    _, logits = reference.run()
    logits.backward(torch.from_numpy(reference.data["upstream_grad_logits"]).to(dtype))
    parameters = dict(reference.net.named_parameters())
    keys = [key for key in reference.data if key.startswith("eval_grad/")]
    assert len(keys) == 6
    for key in keys:
        layer = key.removeprefix("eval_grad/")
        of = reference.features if layer == "features" else parameters[own_name(layer)]
        assert_close(of.grad, reference.data[key], tolerance if tolerance < 1e-6 else 1e-3)


@CASES
@DTYPES
def test_batch_statistics_give_the_reference_logits(oracle, name, dtype, tolerance):
    reference = Reference(oracle(name), dtype)
    reference.net.train()
    _, logits = reference.run()
    assert_close(logits, reference.data["train/head"], tolerance if tolerance < 1e-6 else 1e-3)


@pytest.mark.parametrize(
    ("init_size", "in_channels", "count"),
    [(32, 16, 55_740_564), (16, 16, 13_958_740), (8, 8, 3_500_340)],
)
def test_parameters_are_counted_as_published(init_size, in_channels, count):
    with torch.device("meta"):
        net = SparseUNet(in_channels, init_size, 20)
    assert sum(p.numel() for p in net.parameters()) == count


def test_ddcm_scales_its_input_by_at_most_three():
    torch.manual_seed(0)
    net = SparseUNet(3, 2, 4).eval()
    coords = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4], [0, 5, 5, 5]], dtype=torch.int32)
    both, _ = net(torch.randn(3, 3), coords, grid=(8, 8, 8), batch_size=1)
    gated, u = both.split(4, dim=1)
    ratio = gated / u
    assert ((ratio > 0) & (ratio < 3)).all()
