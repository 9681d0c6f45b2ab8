import pytest
import torch

from kdsweep.losses.precision import in_float32


@in_float32
def gram(x, *, y):
    return x @ y.T


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_arguments_become_float32(dtype):
    x = torch.randn(3, 4).to(dtype)
    assert gram(x, y=x).dtype == torch.float32


def test_float64_and_integers_stay_as_they_are():
    assert gram(torch.ones(2, 2).double(), y=torch.ones(2, 2).double()).dtype == torch.float64
    assert gram(torch.ones(2, 2).long(), y=torch.ones(2, 2).long()).dtype == torch.int64


def test_autocast_is_off_inside_and_on_again_after():
    torch.manual_seed(0)
    x = torch.randn(5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gram(x, y=x)
        assert (x @ x.T).dtype == torch.bfloat16
    assert torch.equal(inside, x @ x.T)
