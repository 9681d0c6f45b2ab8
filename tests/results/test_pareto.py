"""The front, against a slow loop and simple invariances."""

import numpy as np
import pytest

from kdsweep.results.pareto import non_dominated


def slow(values, directions):
    """Every pair, one by one."""
    marks = []
    for row in values:
        beaten = False
        for other in values:
            pairs = [
                (o - r) if d == "max" else (r - o)
                for r, o, d in zip(row, other, directions, strict=True)
            ]
            beaten |= all(p >= 0 for p in pairs) and any(p > 0 for p in pairs)
        marks.append(not beaten and not any(np.isnan(row)))
    return marks


@pytest.mark.parametrize("directions", [("max",), ("max", "min"), ("min", "min", "max")])
@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_that_of_a_slow_loop(directions, seed):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 6, (40, len(directions))).astype(float)
    values[generator.random(40) < 0.1, 0] = np.nan
    assert non_dominated(values, directions).tolist() == slow(values, directions)


def test_equal_points_are_both_on_the_front():
    assert non_dominated(
        np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 3.0]]), ("max", "min")
    ).tolist() == [
        True,
        True,
        False,
    ]


def test_nobody_is_on_the_front_of_nothing():
    assert non_dominated(np.zeros((0, 2)), ("max", "min")).tolist() == []
