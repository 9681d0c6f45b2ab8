"""Which fields a configuration has at a dotted key, the sections chosen by name included."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from kdsweep import discover
from kdsweep.config import Config
from kdsweep.errors import SpecError
from kdsweep.spec.choices import Choice, config_class
from kdsweep.spec.run import RunSpec, task_of
from kdsweep.spec.sweep import SweepSection


@dataclass(frozen=True)
class Section:
    """One mapping of a configuration.

    Attributes:
        title: What it is, in words for a message: ``method 'pvd'``.
        fields: Its fields by name, in order.
    """

    title: str
    fields: Mapping[str, FieldInfo]


def section(root: type[Config], values: Any, path: tuple[str | int, ...]) -> Section | None:
    """The mapping at a path, or None where no configuration of ours is there.

    Args:
        root: Class of the whole configuration.
        values: What was given for it (possibly wrong); names in it choose the sections' classes.
        path: Keys from the root to the mapping.
    """
    at: type[Config] = root
    title = ""
    for part in path:
        title = f"{title}.{part}".lstrip(".")
        within = _fields(at, values)
        field = within.fields.get(str(part))
        inner = _config_in(field.annotation) if field else None
        if at is RunSpec and part in ("data", "loss"):
            inner = _of_task(values, str(part))
            title = f"the {part} of task {values['task']!r}" if inner else ""
        if inner is None:
            return None
        values = values.get(part) if isinstance(values, Mapping) else None
        at = inner
    found = _fields(at, values)
    return found if found.title else Section(title, found.fields)


def dotted(
    root: type[Config], values: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, FieldInfo]]:
    """All fields below a path, by dotted key; a section comes before its fields."""
    here = section(root, values, path)
    for name, field in here.fields.items() if here else ():
        below = (*path, name)
        yield ".".join(below), field
        yield from dotted(root, values, below)


def default_of(root: type[Config], values: Any, path: tuple[str, ...]) -> Any:
    """Default of the class that owns a field, as JSON-able values; None where there is none."""
    here = section(root, values, path[:-1])
    field = here.fields.get(path[-1]) if here else None
    if field is None or field.is_required():
        return None
    return to_jsonable_python(field.get_default(call_default_factory=True))


def _fields(at: type[Config], values: Any) -> Section:
    if issubclass(at, SweepSection):
        return Section("the sweep section", dict(at.model_fields))
    if not issubclass(at, Choice):
        return Section("" if at is not RunSpec else "a run", dict(at.model_fields))
    own = {name: field for name, field in at.model_fields.items() if name != "config"}
    name = values.get(at.key) if isinstance(values, Mapping) else None
    try:
        chosen = config_class(at.kind, str(name))
    except SpecError:
        return Section(f"a {at.kind[:-1]}", own)
    return Section(f"{at.kind[:-1]} {name!r}", {**own, **chosen.model_fields})


def _of_task(values: Any, part: str) -> type[Config] | None:
    name = values.get("task") if isinstance(values, Mapping) else None
    if name not in discover.names("tasks"):
        return None
    task = task_of(name)
    return task.Data if part == "data" else task.Loss


def _config_in(annotation: Any) -> type[Config] | None:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    for part in get_args(annotation):
        found = _config_in(part)
        if found is not None:
            return found
    return None
