"""Rules of the search space: every key a field, every end a valid run, every condition possible."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from pydantic import ValidationError

from kdsweep.errors import did_you_mean, nearest
from kdsweep.spec.fault import Fault
from kdsweep.spec.faults import shown, translate
from kdsweep.spec.fields import dotted
from kdsweep.spec.run import HOW, NAME_KEYS, RunSpec
from kdsweep.spec.space import Distribution, Space, is_active, sampling_order

_MOST_BRANCHES = 64
_WHOLE = "must be a whole number"
_INTS = "Use int, log_int, quantised in whole numbers, or choice."
Point = dict[str, Any]


def space_faults(
    run: RunSpec, space: Space, *, unread: Sequence[str] = (), mended: bool = False
) -> Iterator[Fault]:
    """What is wrong with a space whose distributions are valid by themselves.

    Args:
        run: The run that the space varies.
        space: The searched keys.
        unread: Further keys of the file whose distributions could not be read.
        mended: Whether faulty fields of the run had to be left out: then the run may contradict
            the space where the file does not.
    """
    found = [*_structure_faults(run, space, unread, mended)]
    spoiled = {str(fault.path[1]) for fault in found}
    for key in space:
        if key not in spoiled:
            found += _value_faults(run, space, key, mended)
    yield from found
    if not found and not unread and not mended:
        yield from _corner_faults(run, space)


def start_faults(
    run: RunSpec, space: Space, start: Sequence[Mapping[str, Any]], *, unread: Sequence[str] = ()
) -> Iterator[Fault]:
    """What is wrong with the points that are tried first."""
    for index, point in enumerate(start):
        known = {key: value for key, value in point.items() if key in space}
        wrong = False
        for key, value in point.items():
            path = ("start", index, key)
            if key in unread:
                wrong = True
            elif key not in space:
                yield Fault(path, "is not searched", did_you_mean(key, space))
                wrong = True
            elif not space[key].contains(value):
                values = f"space.{key} is {space[key].kind} {space[key].words()}."
                yield Fault(path, f"is {shown(value)}, which cannot be sampled", values)
                wrong = True
            elif not is_active(space, key, known, run.value):
                text = "is set, but its conditions do not hold at this point"
                yield Fault(path, text, f"when: {_words(space[key].when)}")
                wrong = True
        if not wrong:
            for fault in _run_faults(run, known):
                text = f"is not a valid run: {fault}".split("\n")[0]
                yield Fault(("start", index), text, fault.hint)


def _structure_faults(
    run: RunSpec, space: Space, unread: Sequence[str], mended: bool
) -> Iterator[Fault]:
    for key in space:
        if key == "task" or key in HOW:
            why = "decides the metric" if key == "task" else "says where or how, not what"
            yield Fault(("space", key), f"cannot be searched: it {why}")
        section = key.split(".")[0]
        if section in ("teacher", "method") and getattr(run, section) is None and not mended:
            text = f"is a field of {section}, but the run has no {section}"
            yield Fault(("space", key), text, f"Give run.{section}.")
        for other in space:
            if key.startswith(other + "."):
                text = f"is part of {other}, which is searched, too"
                yield Fault(("space", key), text, "Search one of them.")
    order = sampling_order(space)
    for key, distribution in space.items():
        for parent, allowed in distribution.when.items():
            path = ("space", key, "when", parent)
            if key not in order:
                if parent not in order and parent in space:
                    yield Fault(path, f"is a circle: whether {parent} is searched depends on {key}")
            elif parent in space:
                never = [value for value in allowed if not space[parent].contains(value)]
                for value in never:
                    text = f"never is {shown(value)}"
                    values = f"space.{parent} is {space[parent].kind} {space[parent].words()}."
                    yield Fault(path, text, values)
            elif parent not in unread:
                moved = list(_moved_condition_faults(space, path, parent))
                yield from moved or _fixed_condition_faults(run, path, parent, allowed)


def _moved_condition_faults(space: Space, path: tuple[str, ...], parent: str) -> Iterator[Fault]:
    """A field that is not searched itself, but that a searched key replaces or is a part of."""
    section = parent.rpartition(".")[0]
    for key in space:
        if parent.startswith(key + ".") or key.startswith(parent + "."):
            text = f"is not fixed: {key} is searched"
        elif key in NAME_KEYS and key.startswith(section + "."):
            text = f"is not fixed: it belongs to {key}, which is searched"
        else:
            continue
        yield Fault(path, text, f"Name {key} in the condition.")


def _fixed_condition_faults(
    run: RunSpec, path: tuple[str, ...], parent: str, allowed: Sequence[Any]
) -> Iterator[Fault]:
    for value in allowed:
        for fault in _run_faults(run, {parent: value}):
            where = ".".join(map(str, fault.path))
            if where == parent or where.startswith(parent + ".") or parent.startswith(where + "."):
                yield Fault(path, fault.text, fault.hint)


def _value_faults(run: RunSpec, space: Space, key: str, mended: bool) -> list[Fault]:
    """Faults of one key: each of its telling values, in each branch where it is searched."""
    found: dict[str, Fault] = {}
    for branch in islice(branches(space, key), _MOST_BRANCHES):
        for value in space[key].probes():
            for fault in _run_faults(run, {**branch, key: value}):
                if mended and fault.path[:1] != (key.split(".")[0],):
                    continue
                told = _told_of_key(fault, run, key, space[key], value)
                found.setdefault(told.text.split(", got ")[0], told)
    return list(found.values())


def _told_of_key(
    fault: Fault, run: RunSpec, key: str, distribution: Distribution, value: Any
) -> Fault:
    where = ".".join(str(part) for part in fault.path)
    path = ("space", key)
    if fault.text.startswith(_WHOLE) and isinstance(value, float):
        text = f"takes whole numbers, got {shown(value)} from {distribution.kind}"
        return Fault(path, text, _INTS)
    if key.startswith("run."):
        hint = f"Write {key.removeprefix('run.')}: keys of the space are fields of the run."
        return Fault(path, "is not a field of a run", hint)
    if key == where:
        return Fault(path, fault.text, fault.hint)
    if key.startswith(where + "."):
        names = [name for name, _ in dotted(RunSpec, run.to_dict())]
        near = did_you_mean(key, names).startswith("Did you mean")
        return Fault(path, fault.text, f"Did you mean {nearest(key, names)[0]}?" if near else "")
    if where.startswith(key + "."):
        return Fault(path, f"has an option whose {fault}".split("\n")[0], fault.hint)
    return Fault(path, f"is not valid at {shown(value)}: {fault}".split("\n")[0], fault.hint)


def branches(space: Space, key: str) -> Iterator[Point]:
    """Settings under which a key is searched: one for each combination of its conditions."""
    choices = []
    for parent, allowed in space[key].when.items():
        above = list(branches(space, parent)) if parent in space else [{}]
        choices.append([{**branch, parent: value} for branch in above for value in allowed])
    for parts in product(*choices):
        yield {name: value for part in parts for name, value in part.items()}


def _corner_faults(run: RunSpec, space: Space) -> Iterator[Fault]:
    """Every key at its first value, and every key at its last: fields may contradict each other."""
    told = set()
    for end in (0, 1):
        point: Point = {}
        for key in sampling_order(space):
            if is_active(space, key, point, run.value):
                point[key] = space[key].ends()[end]
        for fault in _run_faults(run, point):
            if fault not in told:
                told.add(fault)
                yield Fault(
                    ("space",), f"holds a point that is no valid run ({_words(point)}): {fault}"
                )


def _run_faults(run: RunSpec, point: Mapping[str, Any]) -> list[Fault]:
    values = run.overridden(point)
    try:
        RunSpec.model_validate(values)
    except ValidationError as error:
        return translate(error, RunSpec, values)
    return []


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}: {list(value) if isinstance(value, tuple) else value}"
        for key, value in values.items()
    )
