"""Bounds on metrics."""

import math

import pytest

from kdsweep.errors import SpecError
from kdsweep.spec.bounds import parse_bound


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("<= 50", [50, -1], [50.1]),
        (">=4", [4, 5], [3.9]),
        (" < 1e9 ", [1e8], [1e9]),
        ("> -.5", [0], [-0.5, -1]),
    ],
)
def test_a_bound_holds_on_its_side(text, inside, outside):
    bound = parse_bound(text)
    assert all(bound.holds(value) for value in inside)
    assert not any(bound.holds(value) for value in outside)
    assert all(bound.violation(value) <= 0 for value in inside)
    assert all(bound.violation(value) >= 0 for value in outside)


@pytest.mark.parametrize("text", ["", "50", "<=", "== 3", "<= x", "<= 1 ms", "<= inf", "<= 1e999"])
def test_what_is_no_bound_is_refused_with_an_example(text):
    with pytest.raises(SpecError, match=r"Write a sign .* and a number: '<= 50'"):
        parse_bound(text)


def test_nan_breaks_every_bound():
    assert not parse_bound("<= 50").holds(math.nan)
    assert parse_bound(">= 50").violation(math.nan) == math.inf


def test_a_bound_reads_what_it_writes():
    assert parse_bound(str(parse_bound(">=  1e9"))) == parse_bound(">= 1e9")
    assert parse_bound(str(parse_bound("<= 12345678.5"))) == parse_bound("<= 12345678.5")
