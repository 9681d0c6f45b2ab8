"""What every distillation method must do. A new method is tested here without being named.

Its random taps come from the first `fake_<task>.py` beside this file that gives all it needs; a
method of a task that has none yet needs that one file: STUDENT, TEACHER, make_batch, make_taps.
"""

import pickle
from importlib import import_module
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from kdsweep import discover
from kdsweep.config import weights
from kdsweep.errors import TapError
from kdsweep.methods.base import method_class

FAKES = [
    import_module(f"contracts.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("fake_*.py"))
]


class Case:
    """A method's class with a task's fake taps; makes instances and runs them."""

    def __init__(self, name):
        self.name = name
        self.cls = method_class(discover.load("methods", name))
        needs = self.cls.needs(self.cls.Config())
        fits = [f for f in FAKES if needs[0] <= set(f.STUDENT) and needs[1] <= set(f.TEACHER)]
        assert fits, f"no tests/contracts/fake_<task>.py gives the taps {needs} of method {name!r}"
        self.fake = fits[0]
        self.terms = tuple(weights(self.cls.Config()))

    def method(self, student=None, teacher=None, **options):
        torch.manual_seed(0)  # adapters start alike
        return self.cls(
            self.cls.Config(**options),
            student=self.fake.STUDENT if student is None else student,
            teacher=self.fake.TEACHER if teacher is None else teacher,
        )

    def inputs(self, method, **options):
        """A batch, and of the taps only those that the method says it needs."""
        batch = self.fake.make_batch(**options)
        taps = {}
        sides = (self.fake.STUDENT, self.fake.TEACHER)
        needs = zip(("student", "teacher"), sides, method.needs(method.config), strict=True)
        for seed, (side, infos, needed) in enumerate(needs, start=1):
            taps[side] = self.fake.make_taps(
                {n: infos[n] for n in sorted(needed)}, batch, seed=seed
            )
        return {"batch": batch, **taps}

    def run(self, method, given):
        torch.manual_seed(7)
        return method(**given)


@pytest.fixture(params=discover.names("methods"))
def case(request):
    return Case(request.param)


def assert_backward_is_finite(terms, given):
    sum(terms.values()).backward()
    for name, tap in given["student"].items():
        assert tap.grad is None or tap.grad.isfinite().all(), name


def test_terms_are_the_weight_fields_and_finite_float32_scalars(case):
    method = case.method()
    terms = case.run(method, case.inputs(method))
    assert set(terms) == method.active() == {n for n, w in weights(method.config).items() if w > 0}
    for term, value in terms.items():
        assert value.shape == (), term
        assert value.dtype == torch.float32, term
        assert value.isfinite(), term


def test_a_weight_of_zero_takes_its_term_away_and_leaves_the_others_alone(case):
    everything = case.method(**dict.fromkeys(case.terms, 1.0))
    full = case.run(everything, case.inputs(everything))
    for off in case.terms:
        method = case.method(**{term: float(term != off) for term in case.terms})
        terms = case.run(method, case.inputs(method))
        assert set(terms) == set(case.terms) - {off}
        if not list(method.parameters()):  # adapters of the rest start elsewhere
            for term, value in terms.items():
                torch.testing.assert_close(value, full[term], msg=f"{term} without {off}")


def test_all_weights_zero_need_nothing_and_give_nothing(case):
    method = case.method(student={}, teacher={}, **dict.fromkeys(case.terms, 0.0))
    assert case.run(method, case.inputs(method)) == {}


def test_the_value_of_a_weight_does_not_change_its_term(case):
    once, tenfold = (case.method(**dict.fromkeys(case.terms, w)) for w in (1.0, 10.0))
    first, second = (case.run(m, case.inputs(m)) for m in (once, tenfold))
    for term, value in first.items():
        assert torch.equal(value, second[term]), term


def test_every_term_sends_a_gradient_to_the_student_and_none_to_the_teacher(case):
    for term in case.terms:
        method = case.method(**{name: float(name == term) for name in case.terms})
        given = case.inputs(method)
        case.run(method, given)[term].backward()
        for name, tap in given["student"].items():
            assert tap.grad is not None, (term, name)
            assert tap.grad.isfinite().all(), (term, name)
            assert tap.grad.abs().sum() > 0, (term, name)
        for name, tap in given["teacher"].items():
            assert tap.grad is None or tap.grad.abs().sum() == 0, (term, name)


def test_every_adapter_trains(case):
    method = case.method(**dict.fromkeys(case.terms, 1.0))
    sum(case.run(method, case.inputs(method)).values()).backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "options",
    [{"samples": 1}, {"labelled": False}, {"empty": True}, {"samples": 1, "empty": True}],
    ids=["one sample", "no labels", "one empty sample", "nothing at all"],
)
def test_thin_batches_give_finite_terms_that_back_propagate(case, options):
    method = case.method(**dict.fromkeys(case.terms, 1.0))
    given = case.inputs(method, **options)
    terms = case.run(method, given)
    assert all(value.isfinite() for value in terms.values())
    assert_backward_is_finite(terms, given)


def test_bfloat16_taps_give_finite_float32_terms(case):
    method = case.method()
    given = case.inputs(method)
    leaves = given["student"]
    for side in ("student", "teacher"):
        given[side] = {name: tap.bfloat16() for name, tap in given[side].items()}
    terms = case.run(method, given)
    assert all(v.isfinite() and v.dtype == torch.float32 for v in terms.values())
    assert_backward_is_finite(terms, {"student": leaves})


def test_autocast_does_not_lower_the_precision_of_terms(case):
    method = case.method()
    plain = case.run(method, case.inputs(method))
    with torch.autocast("cpu", torch.bfloat16):
        autocast = case.run(method, case.inputs(method))
    exact = not list(method.parameters())  # adapters are layers and may run in bfloat16
    for term, value in autocast.items():
        assert value.dtype == torch.float32, term
        tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 0.1, "atol": 1e-3}
        torch.testing.assert_close(value, plain[term], **tolerance, msg=term)


def test_a_seed_repeats_every_term(case):
    method = case.method()
    first, second = (case.run(method, case.inputs(method)) for _ in range(2))
    assert all(torch.equal(value, second[term]) for term, value in first.items())


def test_method_and_configuration_survive_pickling(case):
    method = case.method()
    config = pickle.loads(pickle.dumps(method.config))
    assert config == method.config
    copy = pickle.loads(pickle.dumps(method))
    terms, copied = (case.run(m, case.inputs(m)) for m in (method, copy))
    assert all(torch.equal(value, copied[term]) for term, value in terms.items())


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_missing_tap_is_named_before_training(case, side):
    infos = {"student": case.fake.STUDENT, "teacher": case.fake.TEACHER}[side]
    needed = case.cls.needs(case.cls.Config())[side == "teacher"]
    for tap in needed:
        given = {side: {name: info for name, info in infos.items() if name != tap}}
        with pytest.raises(TapError, match=f"'{case.name}' needs tap '{tap}' of the {side}"):
            case.method(**given)


def test_configuration_needs_no_argument_survives_json_and_refuses_unknown_keys(case):
    config = case.cls.Config()
    assert any(weight > 0 for weight in weights(config).values())
    assert case.cls.Config.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError, match="no_such_field"):
        case.cls.Config(no_such_field=1)


def test_every_field_of_the_configuration_is_explained(case):
    for name, field in case.cls.Config.model_fields.items():
        assert field.description, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_terms_of_the_cpu(case):
    method = case.method()
    given = case.inputs(method)
    expected = case.run(method, given)
    device = torch.device("cuda")
    moved = {
        side: {name: tap.detach().to(device).requires_grad_() for name, tap in given[side].items()}
        for side in ("student", "teacher")
    }
    terms = case.run(method.to(device), {"batch": given["batch"].to(device), **moved})
    for term, value in terms.items():
        assert value.device.type == "cuda", term
        torch.testing.assert_close(value.cpu(), expected[term], rtol=1e-4, atol=1e-7, msg=term)
    assert_backward_is_finite(terms, moved)
