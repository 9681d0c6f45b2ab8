"""The weighted sum of the terms, their means, and whose gradient reaches the student."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdsweep.engine.ranks import Ranks
from kdsweep.engine.terms import Objective, TermWatch, gradient_shares
from kdsweep.errors import NonFiniteLossError, SpecError

ALONE = Ranks(0, 1, torch.device("cpu"))


class Pair(nn.Module):
    """Two taps behind one shared layer: ``y = V (W x)`` and, without V, ``h = W x``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
            self.second.weight.copy_(torch.tensor([[3.0, 4.0]]))

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        hidden = self.first(batch)
        return {"h": hidden, "y": self.second(hidden)}


class SumTask:
    """One supervised term: the sum of y."""

    def terms(self, taps: Any, batch: Tensor) -> dict[str, Tensor]:
        return {"sup": taps["y"].sum()}


class HintMethod(nn.Module):
    """One distillation term: the sum of h, or of y if `late`."""

    def __init__(self, late: bool = False) -> None:
        super().__init__()
        self.tap = "y" if late else "h"

    def forward(self, *, student: Any, teacher: Any, batch: Tensor) -> dict[str, Tensor]:
        return {"hint": student[self.tap].sum()}


def objective(late: bool = False) -> Objective:
    return Objective(
        Pair(),
        HintMethod(late),  # type: ignore[arg-type]
        SumTask(),  # type: ignore[arg-type]
        task_weights={"sup": 2.0},
        method_weights={"hint": 0.5},
    )


INPUT = torch.tensor([[1.0, 2.0]])  # h = (5, 2), y = 23


def test_the_total_is_the_weighted_sum_and_the_terms_stay_unweighted() -> None:
    total, values = objective()(INPUT, {}, 1.0, False)
    assert values.tolist() == [23.0, 7.0]
    assert total.item() == pytest.approx(2 * 23 + 0.5 * 7)


def test_the_warm_up_scales_the_method_only() -> None:
    model = objective()
    for scale in (0.1, 1.0, 0.1):
        total, _ = model(INPUT, {}, scale, False)
        assert total.item() == pytest.approx(2 * 23 + scale * 0.5 * 7)


def test_bfloat16_runs_the_student_and_leaves_the_losses_in_float32() -> None:
    model = objective()
    total, values = model(INPUT * 1.001, {}, 1.0, True)
    assert values.dtype == total.dtype == torch.float32
    assert values[0].item() == 23.0  # 23.023 is not a bfloat16


def test_one_name_for_two_terms_is_refused() -> None:
    with pytest.raises(SpecError, match="both have terms named sup"):
        Objective(
            Pair(),
            HintMethod(),  # type: ignore[arg-type]
            SumTask(),  # type: ignore[arg-type]
            task_weights={"sup": 1.0},
            method_weights={"sup": 1.0},
        )


def test_shares_compare_gradients_at_the_last_weight_that_all_terms_use() -> None:
    model = objective()
    model(INPUT, {}, 1.0, False)
    # At W: d(2 y)/dW = 2 v x^T with |v| = 5, |x| = sqrt 5; d(0.5 sum h)/dW = 0.5 (1, 1) x^T.
    at_sup, at_hint = 2 * 5 * 5**0.5, 0.5 * 2**0.5 * 5**0.5
    shares = gradient_shares(model)
    assert shares["grad_share/sup"] == pytest.approx(at_sup / (at_sup + at_hint))
    assert sum(shares.values()) == pytest.approx(1.0)


def test_shares_of_terms_on_the_same_output_are_taken_at_its_layer() -> None:
    model = objective(late=True)
    model(INPUT, {}, 1.0, False)
    seen: list[Tensor] = []
    model.student.first.weight.register_hook(seen.append)  # type: ignore[union-attr]
    assert gradient_shares(model)["grad_share/sup"] == pytest.approx(2.0 / 2.5)
    assert seen == []  # nothing below the last layer was differentiated


def test_shares_leave_the_gradients_of_the_step_alone() -> None:
    plain, measured = objective(), objective()
    for model in (plain, measured):
        total, _ = model(INPUT, {}, 1.0, False)
        if model is measured:
            gradient_shares(model)
        total.backward()
    for a, b in zip(plain.parameters(), measured.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]


def test_a_term_without_gradient_has_no_share() -> None:
    model = objective()
    model(INPUT, {}, 1.0, False)
    model.terms = (model.terms[0], torch.tensor(3.0))
    assert gradient_shares(model) == {"grad_share/sup": 1.0, "grad_share/hint": 0.0}


def test_means_are_over_batches() -> None:
    watch = TermWatch(ALONE)
    for value in (1.0, 4.0):
        watch.add(torch.tensor([value, 2.0]), torch.tensor(value + 2), ("a", "b"), (1, 1))
    assert watch.means(("a", "b")) == {"loss/a": 2.5, "loss/b": 2.0, "loss/total": 4.5}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_term_is_named_with_its_place_and_the_others(bad: float) -> None:
    watch = TermWatch(ALONE)
    values = torch.tensor([0.5, bad])
    with pytest.raises(NonFiniteLossError) as error:
        watch.add(values, values.sum(), ("ce", "kl"), (3, 17))
    assert "loss term 'kl' is not finite in epoch 3, step 17: ce = 0.5, kl = " in str(error.value)
