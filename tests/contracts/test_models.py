"""What every model must do. A new model is tested here without being named.

Its batches come from the first `fake_<task>.py` beside this file whose input it takes and that
shares a tap with it; a model of a task that has none yet needs that one file, with STUDENT,
MODEL_INPUT and make_batch.
"""

import pickle
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from kdsweep import discover
from kdsweep.errors import SpecError
from kdsweep.models.base import Model, ModelConfig

FAKES = [
    import_module(f"contracts.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("fake_*.py"))
]
TINY = 0.125


class Case:
    """A model's file with a task's fake batches."""

    def __init__(self, name):
        self.module = discover.load("models", name)
        fits = [fake for fake in FAKES if set(fake.STUDENT) & self.taps_for(fake.MODEL_INPUT)]
        assert fits, f"no tests/contracts/fake_<task>.py gives batches for model {name!r}"
        self.fake = fits[0]

    def taps_for(self, model_input):
        """The taps it gives, or none where it cannot take the task's input."""
        try:
            with torch.device("meta"):
                return set(self.build(model_input).taps())
        except SpecError:
            return set()

    def build(self, model_input, width=TINY):
        return self.module.build(self.module.Config(width=width), model_input)

    def model(self, width=TINY, seed=0):
        torch.manual_seed(seed)
        return self.build(self.fake.MODEL_INPUT, width)

    def rows(self, taps, batch):
        """Pairs of an info and the rows that its tap must have."""
        return {name: sum(batch.row_counts(info.axes[0])) for name, info in taps.items()}


@pytest.fixture(params=discover.names("models"))
def case(request):
    return Case(request.param)


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_file_has_a_config_and_builds_a_model(case):
    assert issubclass(case.module.Config, ModelConfig)
    model = case.model()
    assert isinstance(model, Model) and type(model).Config is case.module.Config


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_promised_taps_are_given_with_their_shapes(case, mode, amp):
    model, batch = getattr(case.model(), mode)(), case.fake.make_batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        given = model(batch)
    promised = model.taps()
    assert set(given) == set(promised)
    for name, rows in case.rows(promised, batch).items():
        tap = given[name]
        assert tap.shape[0] == rows and promised[name].channels in tap.shape[1:]
        assert tap.dim() == len(promised[name].axes)
        assert tap.dtype in ((torch.float32, torch.bfloat16) if amp else (torch.float32,))
        assert tap.isfinite().all()


def test_bfloat16_answers_are_close_to_float32(case):
    model, batch = case.model().eval(), case.fake.make_batch()
    exact = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(batch)
    for name, tap in exact.items():
        assert (rounded[name].float() - tap).norm() < 0.05 * tap.norm()


def test_eval_mode_is_deterministic_and_changes_nothing(case):
    model, batch = case.model().eval(), case.fake.make_batch()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = model(batch), model(case.fake.make_batch())
    for name in first:
        assert torch.equal(first[name], second[name])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_seed_fixes_the_start(case):
    same, other = case.model(seed=0).state_dict(), case.model(seed=1).state_dict()
    start = case.model(seed=0).state_dict()
    assert all(torch.equal(start[name], same[name]) for name in start)
    assert any(not torch.equal(start[name], other[name]) for name in start)


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradient_reaches_every_parameter(case, mode, amp):
    model, batch = getattr(case.model(), mode)(), case.fake.make_batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        given = model(batch)
    torch.manual_seed(0)
    sum((tap.float() * torch.randn(tap.shape)).sum() for tap in given.values()).backward()
    for name, parameter in trainable(model).items():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_one_sample_alone_answers_as_in_a_batch(case):
    model = case.model().eval()
    alone, both = case.fake.make_batch(samples=1), case.fake.make_batch(samples=2)
    given, expected = model(alone), model(both)
    for name, rows in case.rows(model.taps(), alone).items():
        torch.testing.assert_close(given[name], expected[name][:rows], rtol=1e-4, atol=1e-5)


def test_a_sample_without_data_leaves_the_others_alone(case):
    model = case.model().eval()
    alone, batch = case.fake.make_batch(samples=1), case.fake.make_batch(samples=2, empty=True)
    given, expected = model(batch), model(alone)
    for name, rows in case.rows(model.taps(), alone).items():
        torch.testing.assert_close(given[name][:rows], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_batch_without_data_gives_taps_without_rows(case, mode):
    model, batch = getattr(case.model(), mode)(), case.fake.make_batch(samples=1, empty=True)
    for name, rows in case.rows(model.taps(), batch).items():
        assert model(batch)[name].shape[0] == rows
    assert model.macs(batch) >= 0


@pytest.mark.parametrize("width", [0.03, 0.1, 0.37, 1.0, 1.5])
def test_any_width_builds(case, width):
    with torch.device("meta"):
        model = case.model(width)
    assert sum(p.numel() for p in trainable(model).values()) > 0


def test_parameters_and_macs_grow_with_width(case):
    batch = case.fake.make_batch()
    with torch.device("meta"):
        models = [case.model(width) for width in (0.125, 0.25, 0.5, 1.0)]
    for narrow, wide in pairwise(models):
        assert 0 < narrow.macs(batch) < wide.macs(batch)
        assert sum(p.numel() for p in narrow.parameters()) < sum(
            p.numel() for p in wide.parameters()
        )


def test_macs_of_a_batch_are_those_of_its_samples(case):
    model = case.model()
    one, two = case.fake.make_batch(samples=1), case.fake.make_batch(samples=2)
    assert 0 < model.macs(one) < model.macs(two)
    assert model.macs(one) == model.macs(case.fake.make_batch(samples=1))


def test_state_moves_to_a_fresh_model(case):
    model, batch = case.model(seed=0), case.fake.make_batch()
    model.train()(batch)
    other = case.model(seed=1)
    other.load_state_dict(model.state_dict())
    given, expected = other.eval()(batch), model.eval()(batch)
    for name in expected:
        assert torch.equal(given[name], expected[name])


def test_model_and_config_survive_pickling(case):
    model, batch = case.model().eval(), case.fake.make_batch()
    model(batch)
    again = pickle.loads(pickle.dumps(model))
    for name, tap in model(batch).items():
        assert torch.equal(again(batch)[name], tap)
    config = case.module.Config(width=TINY)
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_answers_as_the_cpu_does(case):
    model, batch = case.model(), case.fake.make_batch()
    expected = model(batch)
    sum(tap.sum() for tap in expected.values()).backward()
    gradients = {name: p.grad.clone() for name, p in trainable(model).items()}
    cuda = case.model().cuda()
    for _ in range(2):  # the second pass runs on the index pairs that the first one left
        cuda.zero_grad()
        moved = batch.to(torch.device("cuda"))
        first, again = cuda(moved), cuda(moved)
        sum(tap.sum() for tap in again.values()).backward()
        for name, tap in expected.items():
            torch.testing.assert_close(first[name].cpu(), tap, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(again[name].cpu(), tap, rtol=1e-3, atol=1e-3)
        for name, parameter in trainable(cuda).items():
            error = (parameter.grad.cpu() - gradients[name]).norm()
            assert error <= 1e-2 * gradients[name].norm() + 1e-3, name
