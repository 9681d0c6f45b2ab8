"""Turns pydantic's errors into faults in our own words: key, what was given, what is valid."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kdsweep.config import Config
from kdsweep.errors import did_you_mean, nearest
from kdsweep.spec.fault import Fault, Path
from kdsweep.spec.fields import section

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping (key: value)",
    "mapping": "a mapping (key: value)",
    "model": "a mapping (key: value)",
    "finite": "a finite number",
}
_NAME = re.compile("[a-z_][a-z0-9_]*")
_QUOTED = re.compile("'([^']*)'")
_ALTERNATIVES = {"int", "float", "str", "bool", "none", "list", "tuple", "dict"}
_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


def explain(error: ValidationError, root: type[Config], values: Any) -> str:
    """The faults of one error as a message, one after the other."""
    return listing([str(fault) for fault in translate(error, root, values)])


def listing(faults: Sequence[str]) -> str:
    """Joins faults to one message, with their number in front where there are several."""
    if len(faults) == 1:
        return faults[0]
    return "\n".join([f"{len(faults)} faults", *faults])


def translate(
    error: ValidationError, root: type[Config], values: Any, *, prefix: Path = ()
) -> list[Fault]:
    """The faults in an error that validating `values` as `root` raised.

    Args:
        error: The error.
        root: Class that was validated.
        values: What was given for it.
        prefix: Keys that lead to it; they are put before each fault's path.
    """
    found: dict[Path, list[Fault]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] != "unchecked":
            fault = _fault(detail, root, values, prefix)
            found.setdefault(fault.path, []).append(fault)
    merged = [_merged(faults) for faults in found.values()] or [Fault((), "is not valid")]
    return [Fault((*prefix, *fault.path), fault.text, fault.hint) for fault in merged]


def shown(value: Any) -> str:
    """A given value as it may stand in a message."""
    words = "nothing" if value is None else repr(value)
    return words if len(words) <= 80 else words[:77] + "..."


def _merged(faults: Sequence[Fault]) -> Fault:
    """The alternatives of a union fail one by one at the same place."""
    hints = list(dict.fromkeys(fault.hint for fault in faults if fault.hint))
    texts = list(dict.fromkeys(fault.text for fault in faults))
    ends = {text.partition(", got ")[2] for text in texts}
    if len(texts) > 1 and len(ends) == 1 and all(text.startswith("must be ") for text in texts):
        kinds = [text.partition(", got ")[0].removeprefix("must be ") for text in texts]
        texts = [f"must be {' or '.join(kinds)}, got {ends.pop()}"]
    return Fault(faults[0].path, ", or ".join(texts), " ".join(hints))


def _fault(detail: ErrorDetails, root: type[Config], values: Any, prefix: Path) -> Fault:
    kind, given, about = detail["type"], detail["input"], detail.get("ctx", {})
    path = _given_path(detail["loc"], values)
    if kind == "kdsweep":
        return Fault(path, about["text"], about["hint"])
    if kind == "extra_forbidden":
        return _unknown(path, root, values, prefix)
    if kind == "missing":
        return _missing(path, root, values)
    if kind == "literal_error":
        return _not_one_of(path, about["expected"], given)
    if kind in _BOUNDS:
        sign, name = _BOUNDS[kind]
        return Fault(
            path, f"must be {sign} {str(about[name]).removesuffix('.0')}, got {shown(given)}"
        )
    if kind in ("too_short", "too_long"):
        few = "at least" if kind == "too_short" else "at most"
        number = about["min_length" if kind == "too_short" else "max_length"]
        entries = "entry" if number == 1 else "entries"
        return Fault(path, f"needs {few} {number} {entries}, got {shown(given)}")
    if kind == "string_pattern_mismatch":
        about_field = _description(path, root, values)
        return Fault(path, f"does not fit, got {shown(given)}", about_field)
    if kind == "value_error":
        return Fault(path, f": {detail['msg'].removeprefix('Value error, ')}")
    wanted = next((words for key, words in _KINDS.items() if kind.startswith(key + "_")), None)
    if wanted and (kind == "string_type" or not kind.startswith("string_")):
        return Fault(path, f"must be {wanted}, got {shown(given)}")
    message = detail["msg"]
    return Fault(path, f": {message[0].lower()}{message[1:]}, got {shown(given)}")


def _given_path(loc: Iterable[str | int], values: Any) -> Path:
    """Pydantic's location without the names of a union's alternatives, which are no keys."""
    path: list[str | int] = []
    for part in loc:
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(part, int):
            few = not isinstance(values, list | tuple) or part >= len(values)
            values = None if few else values[part]
        elif not _NAME.fullmatch(part) or part in _ALTERNATIVES:
            continue
        else:
            values = None
        path.append(part)
    return tuple(path)


def _unknown(path: Path, root: type[Config], values: Any, prefix: Path) -> Fault:
    owner = section(root, values, path[:-1])
    if owner is None:
        return Fault(path, "is not a field")
    given, names = str(path[-1]), nearest(str(path[-1]), owner.fields)
    fields = f"Fields: {', '.join(names)}."
    if did_you_mean(given, names).startswith("Did you mean"):
        near = ".".join(str(part) for part in (*prefix, *path[:-1], names[0]))
        fields = f"Did you mean {near}?  {fields}"
    return Fault(path, f"is not a field of {owner.title}", fields)


def _missing(path: Path, root: type[Config], values: Any) -> Fault:
    if path and isinstance(path[-1], int):
        return Fault(path[:-1], f"needs an entry more, at position {path[-1] + 1}")
    return Fault(path, "is missing", _description(path, root, values))


def _description(path: Path, root: type[Config], values: Any) -> str:
    owner = section(root, values, path[:-1])
    field = owner.fields.get(str(path[-1])) if owner and path else None
    return " ".join((field.description or "").split()) if field else ""


def _not_one_of(path: Path, expected: str, given: Any) -> Fault:
    names = _QUOTED.findall(expected) or [expected]
    names = nearest(given, names) if isinstance(given, str) else names
    return Fault(path, f"must be one of {', '.join(names)}, got {shown(given)}")
