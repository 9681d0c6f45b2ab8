"""Bounds on metrics, as written in `constraints` and in questions to results: ``"<= 50"``."""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from kdsweep.errors import SpecError

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Bound:
    """A metric is to stay on one side of a limit.

    Attributes:
        sign: ``<=``, ``>=``, ``<`` or ``>``.
        limit: The limit, in the metric's unit.
    """

    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a value keeps the bound; NaN never does."""
        return _SIGNS[self.sign](value, self.limit)

    def violation(self, value: float) -> float:
        """How far a value is beyond the limit; <= 0 keeps the bound (up to equality for < and >).

        NaN violates every bound infinitely.
        """
        if math.isnan(value):
            return math.inf
        return value - self.limit if self.sign[0] == "<" else self.limit - value

    def __str__(self) -> str:
        """The bound as it is written in a sweep file."""
        return f"{self.sign} {repr(self.limit).removesuffix('.0')}"


def parse_bound(text: str) -> Bound:
    """Reads a bound such as ``"<= 50"`` or ``"> 1e6"``.

    Raises:
        SpecError: The text is no bound.
    """
    found = _BOUND.fullmatch(text)
    if found is None or not math.isfinite(float(found[2])):
        raise SpecError(f"is no bound: {text!r}. Write a sign (<=, >=, <, >) and a number: '<= 50'")
    return Bound(found[1], float(found[2]))
