"""The distributions of searched keys; which library samples them is the business of the sweep."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, ClassVar

from pydantic import Field, model_serializer

from kdsweep.config import Config

_EVERY_VALUE = 64
"""Up to so many values, all are probed."""
_LARGEST = 1e300


class Distribution(Config):
    """The values that one key may take, and when it is searched at all."""

    kind: ClassVar[str]
    """Name of the distribution in a sweep file."""
    form: ClassVar[str]
    """What is written after the name, for messages."""

    when: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Conditions, all of which must hold for the key to be searched: a searched key or a fixed
    field of the run, and the values of it that allow this one."""

    @property
    def count(self) -> int | None:
        """Number of different values; None = continuous."""
        return None

    def values(self) -> Iterator[Any]:
        """The different values, rising or as written; none for a continuous distribution."""
        return iter(())

    def ends(self) -> tuple[Any, Any]:
        """First and last value."""
        raise NotImplementedError

    def contains(self, value: Any) -> bool:
        """Whether a value can be sampled."""
        raise NotImplementedError

    def probes(self) -> list[Any]:
        """Values whose validity decides that of all: both ends, and what lies between them."""
        raise NotImplementedError

    def snap(self, value: Any) -> Any:
        """The distribution's value nearest to what a sampler gives (float noise of steps)."""
        return value

    def payload(self) -> list[Any]:
        """What a sweep file gives after the distribution's name."""
        raise NotImplementedError

    def words(self) -> str:
        """The values in words, for messages and tables."""
        raise NotImplementedError

    @model_serializer
    def _write(self) -> dict[str, Any]:
        when = {key: list(values) for key, values in self.when.items()}
        return {self.kind: self.payload(), **({"when": when} if when else {})}


class _Range(Distribution):
    form = "[low, high]"

    low: float
    high: float

    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def contains(self, value: Any) -> bool:
        return is_number(value) and self.low <= value <= self.high

    def probes(self) -> list[Any]:
        # The third value is no whole number: a field for whole numbers takes 4.0 but not this.
        return [self.low, self.high, self.low + (self.high - self.low) * 0.381966]

    def payload(self) -> list[Any]:
        return [self.low, self.high]

    def words(self) -> str:
        return f"{self.low:g} .. {self.high:g}"


class Uniform(_Range):
    """Real numbers of an interval, all equally likely: ``{uniform: [low, high]}``."""

    kind = "uniform"


class LogUniform(_Range):
    """Positive real numbers, uniform in their logarithm: ``{log_uniform: [low, high]}``."""

    kind = "log_uniform"


class Int(_Range):
    """Whole numbers, both ends included: ``{int: [low, high]}``."""

    kind = "int"

    low: int
    high: int

    @property
    def count(self) -> int:
        return self.high - self.low + 1

    def values(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1))

    def contains(self, value: Any) -> bool:
        return super().contains(value) and float(value).is_integer()

    def probes(self) -> list[Any]:
        if self.count <= _EVERY_VALUE:
            return list(self.values())
        return [self.low, self.high, self.low + 1, (self.low + self.high) // 2]


class LogInt(Int):
    """Whole numbers >= 1, uniform in their logarithm: ``{log_int: [low, high]}``."""

    kind = "log_int"


class Quantised(_Range):
    """Evenly spaced numbers, both ends included: ``{quantised: [low, high, step]}``.

    Whole numbers when low, high and step are whole numbers.
    """

    kind = "quantised"
    form = "[low, high, step]"

    low: int | float
    high: int | float
    step: int | float

    @property
    def count(self) -> int:
        return int((exact(self.high) - exact(self.low)) / exact(self.step)) + 1

    def values(self) -> Iterator[int | float]:
        return (self._at(index) for index in range(self.count))

    def contains(self, value: Any) -> bool:
        return super().contains(value) and same(self.snap(value), value)

    def snap(self, value: Any) -> Any:
        index = round((exact(value) - exact(self.low)) / exact(self.step))
        return self._at(min(max(index, 0), self.count - 1))

    def probes(self) -> list[Any]:
        if self.count <= _EVERY_VALUE:
            return list(self.values())
        return [self.low, self.high, *islice(self.values(), 1, 4)]

    def payload(self) -> list[Any]:
        return [self.low, self.high, self.step]

    def words(self) -> str:
        return f"{super().words()} step {self.step:g}"

    def _at(self, index: int) -> int | float:
        # Decimal arithmetic: 0.1 + 2 * 0.1 must be the 0.3 that a user writes.
        value = exact(self.low) + index * exact(self.step)
        whole = all(isinstance(part, int) for part in self.payload())
        return int(value) if whole else float(value)


class Choice(Distribution):
    """One of some values, of any kind: ``{choice: [a, b, c]}``; lists, mappings and null too."""

    kind = "choice"
    form = "[value, value, ...]"

    options: tuple[Any, ...]

    @property
    def count(self) -> int:
        return len(self.options)

    def values(self) -> Iterator[Any]:
        return iter(self.options)

    def ends(self) -> tuple[Any, Any]:
        """Smallest and largest option where all are numbers, else the first and the last."""
        if all(is_number(option) for option in self.options):
            return min(self.options), max(self.options)
        return self.options[0], self.options[-1]

    def contains(self, value: Any) -> bool:
        return any(same(value, option) for option in self.options)

    def probes(self) -> list[Any]:
        return list(self.options)

    def payload(self) -> list[Any]:
        return list(self.options)

    def words(self) -> str:
        return ", ".join(str(option) for option in self.options)


def same(left: Any, right: Any) -> bool:
    """Equality of configuration values: lists equal tuples, 1 equals 1.0, true is not 1."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def is_number(value: Any) -> bool:
    """Whether a value is a number of sensible size; true, infinities and NaN are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_LARGEST <= value <= _LARGEST


def exact(value: int | float) -> Decimal:
    """The decimal number that a user wrote."""
    return Decimal(str(value))
