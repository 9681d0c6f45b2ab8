"""The search-space language: a dotted key of the run, and the distribution of its values.

    method.point_output: {log_uniform: [0.01, 10]}
    method.supervoxel: {choice: [[60, 30, 4], [120, 60, 8]]}
    method.num_supervoxels: {int: [1, 8], when: {method.point_affinity: [0.1, 1.0]}}

Which library samples them is the business of the sweep.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from kdsweep.errors import did_you_mean
from kdsweep.spec.distributions import (
    Choice,
    Distribution,
    Int,
    LogInt,
    LogUniform,
    Quantised,
    Uniform,
    exact,
    is_number,
    same,
)
from kdsweep.spec.fault import Fault, failure

__all__ = [
    "KINDS",
    "AnyDistribution",
    "Choice",
    "Distribution",
    "Int",
    "LogInt",
    "LogUniform",
    "Quantised",
    "Space",
    "Uniform",
    "is_active",
    "read_distribution",
    "same",
    "sampling_order",
]

_EXAMPLE = "Example: {uniform: [0, 1]}"
_MOST_STEPS = 2**53
"""Steps of a quantised range that decimal arithmetic of 28 digits surely counts."""


KINDS: dict[str, type[Distribution]] = {
    kind.kind: kind for kind in (Uniform, LogUniform, Int, LogInt, Quantised, Choice)
}


def read_distribution(raw: Any) -> Any:
    """Reads the form of a sweep file, such as ``{log_uniform: [0.01, 10]}``; passes others on.

    Raises:
        ValidationError: It is no distribution; located at the culprit.
    """
    if isinstance(raw, Distribution):
        return raw
    kinds = f"Kinds: {', '.join(KINDS)}."
    if not isinstance(raw, Mapping):
        raise failure(Fault((), f"says not how to search it, got {raw!r}", f"{kinds} {_EXAMPLE}"))
    unknown = [str(key) for key in raw if key not in KINDS and key != "when"]
    if unknown and all(isinstance(value, Mapping) for value in raw.values()):
        hint = "Keys of the space are flat: write method.temperature, not nested mappings."
        raise failure(Fault((), f"is no distribution, got {raw!r}"[:120], hint))
    if unknown:
        text, valid = "is no kind of distribution", [*KINDS, "when"]
        raise failure(*(Fault((key,), text, did_you_mean(key, valid)) for key in unknown))
    given = [key for key in raw if key in KINDS]
    if len(given) != 1:
        text = f"needs one kind of distribution, got {' and '.join(given) or 'none'}"
        raise failure(Fault((), text, f"{kinds} {_EXAMPLE}"))
    kind, payload = given[0], raw[given[0]]
    problem = _problem(KINDS[kind], payload)
    if problem:
        raise failure(Fault((kind,), problem))
    when = _read_conditions(raw.get("when"))
    if kind == "choice":
        return Choice(options=tuple(payload), when=when)
    names = ("low", "high", "step")[: len(payload)]
    return KINDS[kind](**dict(zip(names, payload, strict=True)), when=when)


AnyDistribution = Annotated[SerializeAsAny[Distribution], BeforeValidator(read_distribution)]
Space = Mapping[str, Distribution]


def sampling_order(space: Space) -> list[str]:
    """The keys so that each comes after those its conditions name; keys of a cycle are left out."""
    order: list[str] = []
    waiting = list(space)
    while waiting:
        ready = [
            key
            for key in waiting
            if all(parent in order or parent not in space for parent in space[key].when)
        ]
        if not ready:
            break
        order += ready
        waiting = [key for key in waiting if key not in ready]
    return order


def is_active(
    space: Space, key: str, point: Mapping[str, Any], fixed: Callable[[str], Any]
) -> bool:
    """Whether a key is searched, given the values of those before it in `sampling_order`.

    A condition on a searched key that is not itself active does not hold.

    Args:
        space: All searched keys.
        key: The key in question.
        point: Values of the active keys so far.
        fixed: Value of a field that is not searched (LookupError where there is none).
    """
    for parent, allowed in space[key].when.items():
        if parent in space and parent not in point:
            return False
        try:
            value = point[parent] if parent in space else fixed(parent)
        except LookupError:
            return False
        if not any(same(value, option) for option in allowed):
            return False
    return True


def _problem(kind: type[Distribution], payload: Any) -> str:
    """What is wrong with a distribution's numbers or options; empty when nothing is."""
    got = f"got {payload!r}"
    if not isinstance(payload, list | tuple):
        return f"must be a list {kind.form}, {got}"
    if kind is Choice:
        return _choice_problem(payload)
    if len(payload) != kind.form.count(",") + 1 or not all(map(is_number, payload)):
        return f"must be {kind.form} in numbers, {got}"
    low, high = payload[:2]
    if issubclass(kind, Int) and not all(isinstance(part, int) for part in payload):
        return f"must be {kind.form} in whole numbers, {got}"
    if low >= high:
        return f"needs low < high, {got}. A fixed value belongs in the run section"
    if kind is LogUniform and low <= 0:
        return f"needs low > 0, because it is uniform in the logarithm, {got}"
    if kind is LogInt and low < 1:
        return f"needs low >= 1, because it is uniform in the logarithm, {got}"
    if kind is Quantised:
        step = exact(payload[2])
        if step <= 0:
            return f"needs step > 0, {got}"
        if (exact(high) - exact(low)) / step > _MOST_STEPS:
            return f"needs a larger step, {got}: these are more than {_MOST_STEPS:.0e} values"
        if (exact(high) - exact(low)) % step:
            below = exact(high) - (exact(high) - exact(low)) % step
            return f"needs high = low + n * step, {got}. Nearest high: {below:f}"
    return ""


def _choice_problem(options: Any) -> str:
    if len(options) == 0:
        return "needs at least one value"
    twice = [
        option
        for index, option in enumerate(options)
        if any(same(option, before) for before in options[:index])
    ]
    return f"lists {twice[0]!r} more than once" if twice else ""


def _read_conditions(raw: Any) -> dict[str, tuple[Any, ...]]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        text = f"must be a mapping such as {{method.name: pvd}}, got {raw!r}"
        raise failure(Fault(("when",), text))
    when = {
        key: tuple(value) if isinstance(value, list | tuple) else (value,)
        for key, value in raw.items()
    }
    empty = [key for key, values in when.items() if not values]
    if empty:
        raise failure(*(Fault(("when", key), "lists no value, so it never holds") for key in empty))
    return when
