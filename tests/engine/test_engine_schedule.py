"""Learning rates and distillation strength by hand."""

import pytest

from kdsweep.engine.schedule import distillation_scale, learning_rate
from kdsweep.spec.train import TrainConfig


def rates(num_steps: int = 8, **fields: object) -> list[float]:
    train = TrainConfig(lr=1.0, **fields)  # type: ignore[arg-type]
    return [learning_rate(train, step, num_steps) for step in range(num_steps)]


def test_constant_with_warm_up_rises_linearly() -> None:
    assert rates(5, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_falls_from_the_full_rate_towards_zero() -> None:
    assert rates(4, schedule="cosine") == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)
    warmed = rates(6, schedule="cosine", warmup_steps=2)
    assert warmed == pytest.approx([0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_multistep_falls_tenfold_at_each_milestone() -> None:
    expected = [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    assert rates(8, schedule="multistep", milestones=(0.5, 0.75)) == pytest.approx(expected)


def test_distillation_rises_to_full_strength_over_its_epochs() -> None:
    assert [distillation_scale(p, 2) for p in (0.5, 1.0, 2.0, 3.0)] == [0.25, 0.5, 1.0, 1.0]
    assert distillation_scale(0.1, 0) == 1.0
