"""The search space in Optuna's terms, and its enumeration where it is finite."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from kdsweep.spec.space import (
    Choice,
    Distribution,
    Int,
    LogInt,
    LogUniform,
    Quantised,
    Uniform,
    same,
)
from kdsweep.spec.sweep import SweepSpec

Point = dict[str, Any]
"""Values of the active keys of the space, by dotted key."""


def to_optuna(distribution: Distribution) -> BaseDistribution:
    """Optuna's form of a distribution."""
    match distribution:
        case Choice():
            # Optuna stores scalars only; text also tells 1 from true, and lists from one another.
            return CategoricalDistribution([_text(value) for value in distribution.options])
        case LogInt():
            return IntDistribution(distribution.low, distribution.high, log=True)
        case Int():
            return IntDistribution(distribution.low, distribution.high)
        case Quantised() if all(isinstance(part, int) for part in distribution.payload()):
            return IntDistribution(
                int(distribution.low), int(distribution.high), step=int(distribution.step)
            )
        case Quantised():
            return FloatDistribution(distribution.low, distribution.high, step=distribution.step)
        case LogUniform():
            return FloatDistribution(distribution.low, distribution.high, log=True)
        case Uniform():
            return FloatDistribution(distribution.low, distribution.high)
    raise AssertionError(f"no form of {distribution.kind} in Optuna")


def encode(distribution: Distribution, value: Any) -> Any:
    """A value of a key as Optuna stores it.

    Of a choice, the option that is the same: a start point may say 1.0 where the choice says 1.
    """
    if not isinstance(distribution, Choice):
        return value
    return _text(next(option for option in distribution.options if same(value, option)))


def suggest(trial: optuna.Trial, spec: SweepSpec) -> Point:
    """Samples a point: each active key, in an order in which conditions can be decided."""
    point: Point = {}
    for key in spec.order:
        if spec.is_active(key, point):
            distribution = spec.space[key]
            raw = _suggest(trial, key, to_optuna(distribution))
            point[key] = distribution.snap(_decode(distribution, raw))
    return point


def split(spec: SweepSpec, point: Mapping[str, Any]) -> tuple[Point, dict[str, BaseDistribution]]:
    """A point as Optuna stores it, with the distribution of each key."""
    keys = [key for key in spec.order if key in point]
    return (
        {key: encode(spec.space[key], point[key]) for key in keys},
        {key: to_optuna(spec.space[key]) for key in keys},
    )


def is_finite(spec: SweepSpec) -> bool:
    """Whether the space has finitely many points."""
    return all(distribution.count is not None for distribution in spec.space.values())


def enumerate_points(spec: SweepSpec) -> Iterator[Point]:
    """Every point of a finite space, the last key changing fastest."""

    def extend(point: Point, keys: tuple[str, ...]) -> Iterator[Point]:
        if not keys:
            yield point
        elif spec.is_active(keys[0], point):
            for value in spec.space[keys[0]].values():
                yield from extend({**point, keys[0]: value}, keys[1:])
        else:
            yield from extend(point, keys[1:])

    return extend({}, spec.order)


def _suggest(trial: optuna.Trial, key: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(key, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(
                key,
                distribution.low,
                distribution.high,
                step=distribution.step,
                log=distribution.log,
            )
        case FloatDistribution():
            return trial.suggest_float(
                key,
                distribution.low,
                distribution.high,
                step=distribution.step,
                log=distribution.log,
            )
    raise AssertionError(distribution)


def _decode(distribution: Distribution, raw: Any) -> Any:
    return json.loads(raw) if isinstance(distribution, Choice) else raw


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
