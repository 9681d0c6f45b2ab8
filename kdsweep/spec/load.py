"""Sweep files and overrides to a `SweepSpec`; all faults at once, each with file and line."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from kdsweep.errors import SpecError, did_you_mean
from kdsweep.spec.assemble import SECTIONS, assemble
from kdsweep.spec.fault import Fault, Path
from kdsweep.spec.run import RunSpec, put
from kdsweep.spec.sweep import SweepSection, SweepSpec
from kdsweep.spec.yaml_lines import read_yaml


def load_sweep(path: str | FilePath, overrides: Sequence[str] = ()) -> SweepSpec:
    """Reads a sweep file, applies overrides, and validates everything.

    Args:
        path: The YAML file.
        overrides: ``key=value`` with a dotted key of the file (``run.train.epochs=8``,
            ``space.method.temperature={choice: [1, 2]}``) and a value in YAML. A searched key set
            to ``null`` is no longer searched.

    Raises:
        SpecError: Something is wrong; the message lists every fault with its file and line.
    """
    return parse_sweep(_read(FilePath(path)), str(path), overrides)


def parse_sweep(text: str, name: str, overrides: Sequence[str] = ()) -> SweepSpec:
    """`load_sweep` for a text; `name` stands for the file in messages."""
    document = read_yaml(text)
    source = _Source(name, document.lines)
    told = [(f"{name}:{line}: ", fault) for fault, line in document.faults]
    values = document.values
    if document.values is None and not told:
        told.append((f"{name}: ", Fault((), "is empty", "It needs the sections run and sweep.")))
    if not isinstance(values, dict):
        if not told:
            told.append((f"{name}: ", Fault((), "must be a mapping with run, sweep and space")))
        raise SpecError(_listing(name, told))
    for override in overrides:
        told += [(_shown(override), fault) for fault in _apply(values, override, source)]
    sweep, faults = assemble(values)
    located = [(source.place(fault.path), fault) for fault in faults]
    told += sorted(located, key=lambda item: source.line(item[1].path))
    if told or sweep is None:
        raise SpecError(_listing(name, told))
    return sweep


def with_overrides_noted(text: str, overrides: Sequence[str]) -> str:
    """A sweep file that also says what it was launched with: the user's text below a comment.

    The file alone would tell another sweep than the one that ran. The comment is the command that
    launches that one again from the stored file.
    """
    if not overrides:
        return text
    command = shlex.join(["kdsweep", "launch", "sweep.yaml", *overrides])
    # A value may hold line breaks, also those of YAML that are none in a shell.
    lines = [
        "Launched with overrides, which go before what is written below:",
        *(f"  {line}" for line in command.splitlines()),
    ]
    return "".join(f"# {line}\n" for line in lines) + text.removeprefix("\ufeff")


def _shown(override: str) -> str:
    """An override as the opening of a message, without what may be a password in an address."""
    return f"override {re.sub('//[^/@]+@', '//***@', override)!r}: "


@dataclass
class _Source:
    """Where each value comes from."""

    name: str
    lines: dict[Path, int]
    overrides: dict[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> str:
        """The words that open a fault's message: an override, or file and line."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return _shown(self.overrides[path[:length]])
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}: "
        return f"{self.name}: "

    def line(self, path: Path) -> int:
        """Line of a path or of what holds it; 0 for the whole file."""
        lengths = range(len(path), 0, -1)
        return next((self.lines[path[:n]] for n in lengths if path[:n] in self.lines), 0)


def _apply(values: dict[str, Any], override: str, source: _Source) -> list[Fault]:
    """Sets one override in the values of a file; gives what is wrong with it."""
    key, equals, text = override.partition("=")
    section, *rest = key.strip().split(".")
    if not equals or not all([section, *rest]):
        return [Fault((), "is no override", "Write key=value, such as run.train.epochs=8.")]
    if section not in SECTIONS:
        return [Fault((), f"names no section of a sweep file: {section!r}", _better(key))]
    # A bound such as '>= 4' would open a block of text in YAML, which an override cannot hold.
    document = read_yaml(text) if not text.lstrip().startswith(">") else None
    if document is not None and document.faults:
        return [fault for fault, _ in document.faults]
    value = text.strip() if document is None else document.values
    path = [section, ".".join(rest)] if section == "space" and rest else [section, *rest]
    if section == "space" and rest and value is None:
        searched = values.get("space")
        if not isinstance(searched, dict) or searched.pop(path[1], _ABSENT) is _ABSENT:
            known = searched if isinstance(searched, Mapping) else {}
            return [Fault(("space", path[1]), "is not searched", did_you_mean(path[1], known))]
        return []
    put(values, path, value)
    below = tuple(path)
    source.lines = {at: line for at, line in source.lines.items() if at[: len(below)] != below}
    source.overrides[below] = override
    return []


_ABSENT = object()


def _better(key: str) -> str:
    first = key.strip().split(".")[0]
    for section, fields in (("run", RunSpec.model_fields), ("sweep", SweepSection.model_fields)):
        if first in fields:
            return f"Did you mean {section}.{key.strip()}?"
    return did_you_mean(first, SECTIONS)


def _listing(name: str, told: Sequence[tuple[str, Fault]]) -> str:
    lines = [f"{place}{fault}" for place, fault in told]
    return lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} faults in {name}", *lines])


def _read(path: FilePath) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        near = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"\n  {did_you_mean(path.name, [file.name for file in near])}" if near else ""
        raise SpecError(f"{path}: cannot be read: {error.strerror}{hint}") from None
