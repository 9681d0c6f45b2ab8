"""The search-space language: what each distribution holds, when a key is searched."""

import pytest
from pydantic import ValidationError

from kdsweep.spec.faults import translate
from kdsweep.spec.space import (
    Distribution,
    Int,
    LogUniform,
    Quantised,
    is_active,
    read_distribution,
    same,
    sampling_order,
)


@pytest.mark.parametrize(
    ("raw", "kind", "count", "ends"),
    [
        ({"uniform": [0, 1]}, "uniform", None, (0.0, 1.0)),
        ({"log_uniform": [0.01, 10]}, "log_uniform", None, (0.01, 10.0)),
        ({"int": [-1, 4]}, "int", 6, (-1, 4)),
        ({"log_int": [1, 8]}, "log_int", 8, (1, 8)),
        ({"quantised": [0, 3, 0.5]}, "quantised", 7, (0.0, 3.0)),
        ({"quantised": [2, 8, 2]}, "quantised", 4, (2, 8)),
        ({"choice": [0.5, 0.25, 1]}, "choice", 3, (0.25, 1)),
        ({"choice": [[1, 2], [3, 4]]}, "choice", 2, ([1, 2], [3, 4])),
        ({"choice": [None, {"a": 1}, True]}, "choice", 3, (None, True)),
    ],
)
def test_each_kind_reads_counts_and_writes_itself(raw, kind, count, ends):
    distribution = read_distribution(raw)
    assert (distribution.kind, distribution.count, distribution.ends()) == (kind, count, ends)
    assert distribution.model_dump(mode="json") == raw
    assert all(distribution.contains(end) for end in ends)
    assert len(list(distribution.values())) == (count or 0)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (3, "says not how to search it, got 3\n  Kinds: uniform, log_uniform, int"),
        ({}, "needs one kind of distribution, got none"),
        ({"unifrm": [0, 1]}, "unifrm is no kind of distribution\n  Did you mean uniform?"),
        ({"int": [0, 1], "uniform": [0, 1]}, "needs one kind of distribution, got int and uniform"),
        ({"k": {"int": [1, 2]}}, "Keys of the space are flat"),
        ({"uniform": 3}, "uniform must be a list [low, high], got 3"),
        ({"uniform": [1]}, "uniform must be [low, high] in numbers, got [1]"),
        ({"uniform": [0, "a"]}, "uniform must be [low, high] in numbers"),
        ({"uniform": [0, float("inf")]}, "uniform must be [low, high] in numbers"),
        ({"uniform": [False, True]}, "uniform must be [low, high] in numbers"),
        ({"uniform": [2, 1]}, "needs low < high, got [2, 1]. A fixed value belongs in the run"),
        ({"log_uniform": [0, 1]}, "needs low > 0, because it is uniform in the logarithm"),
        ({"int": [1.5, 4]}, "must be [low, high] in whole numbers, got [1.5, 4]"),
        ({"log_int": [0, 4]}, "needs low >= 1"),
        ({"quantised": [0, 1]}, "must be [low, high, step] in numbers, got [0, 1]"),
        ({"quantised": [0, 1, 0]}, "needs step > 0"),
        ({"quantised": [0, 1, 1e-300]}, "needs a larger step, got [0, 1, 1e-300]"),
        ({"quantised": [0, 1, 0.3]}, "needs high = low + n * step, got [0, 1, 0.3]. Nearest"),
        ({"choice": []}, "needs at least one value"),
        ({"choice": [1, 1.0]}, "lists 1.0 more than once"),
        ({"int": [1, 2], "when": 3}, "when must be a mapping such as {method.name: pvd}, got 3"),
        ({"int": [1, 2], "when": {"a": []}}, "when.a lists no value, so it never holds"),
    ],
)  # fmt: skip
def test_a_wrong_distribution_says_what_is_wrong(raw, message):
    with pytest.raises(ValidationError) as caught:
        read_distribution(raw)
    told = "\n".join(map(str, translate(caught.value, Distribution, raw)))
    assert message in told


def test_quantised_values_are_those_a_user_writes():
    tenths = Quantised(low=0.1, high=0.7, step=0.1)
    assert list(tenths.values()) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert tenths.snap(0.30000000000000004) == 0.3
    assert tenths.contains(0.3)
    assert not tenths.contains(0.35)


def test_quantised_whole_numbers_stay_whole():
    evens = Quantised(low=2, high=8, step=2)
    assert [type(value) for value in evens.values()] == [int] * 4
    assert evens.snap(5.1) == 6
    assert type(evens.snap(4.0)) is int


def test_a_range_of_whole_numbers_holds_no_fraction():
    assert not Int(low=1, high=4).contains(2.5)
    assert Int(low=1, high=4).contains(2.0)
    assert not Int(low=1, high=4).contains(True)


def test_a_continuous_range_probes_a_value_that_is_not_whole():
    assert any(not float(value).is_integer() for value in LogUniform(low=1, high=64).probes())


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ((1, 2), [1, 2.0], True),
        ([1, 2], [1, 2, 3], False),
        (1, True, False),
        (0.5, 0.5, True),
        ({"a": (1,)}, {"a": [1]}, True),
        ({"a": 1}, {"b": 1}, False),
        (None, None, True),
        ("1", 1, False),
    ],
)
def test_values_are_compared_as_configuration(left, right, equal):
    assert same(left, right) is equal


def test_a_key_comes_after_those_its_conditions_name():
    space = {
        "c": Int(low=1, high=2, when={"b": (1,)}),
        "b": Int(low=1, high=2, when={"a": (1,)}),
        "a": Int(low=1, high=2),
    }
    assert sampling_order(space) == ["a", "b", "c"]


def test_keys_in_a_circle_have_no_order():
    space = {
        "a": Int(low=1, high=2, when={"b": (1,)}),
        "b": Int(low=1, high=2, when={"a": (1,)}),
        "c": Int(low=1, high=2),
    }
    assert sampling_order(space) == ["c"]


@pytest.mark.parametrize(
    ("point", "expected"), [({"a": 1}, True), ({"a": 2}, True), ({"a": 3}, False), ({}, False)]
)
def test_a_condition_holds_for_one_of_its_values(point, expected):
    space = {"a": Int(low=1, high=3), "b": Int(low=1, high=2, when={"a": (1, 2)})}
    assert is_active(space, "b", point, {}.__getitem__) is expected


def test_all_conditions_must_hold_and_may_name_fixed_fields():
    space = {"a": Int(low=1, high=3), "b": Int(low=1, high=2, when={"a": (1,), "x": ("on",)})}
    assert is_active(space, "b", {"a": 1}, {"x": "on"}.__getitem__)
    assert not is_active(space, "b", {"a": 1}, {"x": "off"}.__getitem__)
    assert not is_active(space, "b", {"a": 1}, {}.__getitem__)
