"""Bounds on metrics and parameters, as users write them: ``{"params_ratio": ">= 4"}``."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsweep.errors import SpecError, SweepError
from kdsweep.results.measured import Candidate
from kdsweep.spec.bounds import Bound, parse_bound
from kdsweep.spec.space import same


@dataclass(frozen=True)
class Condition:
    """One bound, or one value to be equal to.

    Attributes:
        name: A metric or a parameter (dotted key).
        bound: What its value must keep: a bound on a number, or the text of the wanted value.
    """

    name: str
    bound: Bound | str

    def __str__(self) -> str:
        """The condition as a user writes it."""
        sign = "" if isinstance(self.bound, Bound) else "== "
        return f"{self.name} {sign}{self.bound}"

    def holds(self, value: Any) -> bool:
        """Whether a value keeps it; a value that is missing or NaN does not."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(self.bound, Bound):
            return number and self.bound.holds(float(value))
        if number:
            try:
                return float(self.bound) == float(value)
            except ValueError:
                return False
        return str(value) == self.bound or same(_read(self.bound), value)


def parse(where: Mapping[str, Any] | None) -> list[Condition]:
    """Reads conditions.

    Args:
        where: By metric or dotted key ``"<sign> <number>"`` with a sign ``<= >= < >``, or the value
            to be equal to, with or without ``==``.

    Raises:
        SweepError: One cannot be read; the message shows how to write it.
    """
    return [_condition(name, wanted) for name, wanted in (where or {}).items()]


def _condition(name: str, wanted: Any) -> Condition:
    text = (wanted if isinstance(wanted, str) else _written(wanted)).strip()
    if text.startswith(("<", ">")):
        try:
            return Condition(name, parse_bound(text))
        except SpecError as error:
            raise SweepError(f"the bound on {name!r} {error}") from None
    value = text.removeprefix("==").removeprefix("=").strip()
    if not value or value[0] in "<>=!":
        raise SweepError(
            f"cannot read {wanted!r} as a bound on {name!r}: write a sign (<=, >=, <, >) and a "
            f"number, {{{name!r}: '>= 4'}}, or the value it shall have."
        )
    return Condition(name, value)


def _written(value: Any) -> str:
    """A value as sweep files write it."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return str(value)


def _read(text: str) -> Any:
    """The inverse of `_written`; what is no JSON stands for itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def eligible(
    found: Sequence[Candidate], conditions: Sequence[Condition], sweep: str
) -> list[Candidate]:
    """The students that keep all conditions.

    Raises:
        SweepError: None does; the message says how far they are from it.
    """
    kept = [one for one in found if all(_holds(condition, one) for condition in conditions)]
    if kept:
        return kept
    raise SweepError(
        f"none of the {len(found)} finished students of sweep {sweep!r} has "
        f"{' and '.join(str(condition) for condition in conditions)}. " + _ranges(found, conditions)
    )


def broken(one: Candidate, conditions: Sequence[Condition]) -> list[str]:
    """The conditions that a student does not keep, in words."""
    return [str(condition) for condition in conditions if not _holds(condition, one)]


def _holds(condition: Condition, one: Candidate) -> bool:
    if condition.name in one.record.params:
        return condition.holds(one.record.params[condition.name])
    return condition.holds(one.mean(condition.name))


def _ranges(found: Sequence[Candidate], conditions: Sequence[Condition]) -> str:
    words = []
    for name in dict.fromkeys(condition.name for condition in conditions):
        values = [v for one in found if not math.isnan(v := one.mean(name))]
        params = sorted(
            {str(one.record.params[name]) for one in found if name in one.record.params}
        )
        if params:
            words.append(f"{name} is {', '.join(params[:8])}")
        elif values:
            words.append(f"{name} reaches from {min(values):.4g} to {max(values):.4g}")
        else:
            words.append(f"{name} was not measured")
    return f"There, {'; '.join(words)}."
