"""The value of a metric over seeds."""

from types import SimpleNamespace

import pytest

from kdsweep.results.measured import Candidate


def seed(number, value):
    return SimpleNamespace(seed=number, metrics={"params_ratio": value}, label="")


@pytest.mark.parametrize("value", [3.9751321804044393, 15.698627071922099])
@pytest.mark.parametrize("num_seeds", [2, 3, 7])
def test_equal_sizes_have_that_size_as_their_mean_to_the_last_bit(value, num_seeds):
    found = Candidate(seed(0, value), tuple(seed(n, value) for n in range(1, num_seeds + 1)))
    assert found.mean("params_ratio") == value
    assert found.value("params_ratio").n == num_seeds
