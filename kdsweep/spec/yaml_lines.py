"""Reads YAML safely into plain values, and remembers the line of every key.

The scalars are those of YAML 1.2 (only true and false are booleans, 1e-3 is a number, dates are
text). Refused, with a fault: duplicate keys, keys that are no text, merge keys, tags, recursion.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from kdsweep.spec.fault import Fault, Path

_MOST_NODES = 100_000
_MOST_CHARACTERS = 1_000_000
"""Beyond it, parsing alone would take a minute; a file of that size is something else."""
_TAG = "tag:yaml.org,2002:"


@dataclass
class Document:
    """What a YAML text holds.

    Attributes:
        values: Plain values: dict, list, str, int, float, bool, None.
        lines: Line of each key or list entry, by its path; counted from 1.
        faults: What is wrong, with the line of each.
    """

    values: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[tuple[Fault, int]] = field(default_factory=list)


def read_yaml(text: str) -> Document:
    """Reads a text; whatever it is, the outcome is a document, perhaps with faults."""
    if len(text) > _MOST_CHARACTERS:
        told = f"holds {len(text):,} characters, more than {_MOST_CHARACTERS:,}"
        return Document(faults=[(Fault((), told, "Is this the right file?"), 1)])
    try:
        node = yaml.compose(text, Loader=_Loader)
        return _Reader().read(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        excerpt = mark.get_snippet(indent=2) if mark else None
        words = ", ".join(part for part in (error.context, error.problem) if part)
        fault = Fault((), f"is not valid YAML: {words}", (excerpt or "").strip())
        return Document(faults=[(fault, mark.line + 1 if mark else 1)])
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        fault = Fault((), f"is not valid YAML: character #x{error.character:04x} is not allowed")
        return Document(faults=[(fault, line)])
    except _TooLarge as error:
        fault = Fault((), f"holds more than {_MOST_NODES} values")
        return Document(faults=[(fault, error.line)])
    except RecursionError:
        return Document(faults=[(Fault((), "is nested too deeply"), 1)])


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2's core schema does."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012


_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", _INT.pattern, list("-+0123456789")),
    ("float", _FLOAT.pattern, list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _first)


class _TooLarge(Exception):
    """A document has too many values."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Reader:
    def __init__(self) -> None:
        self.document = Document()
        self.open: list[int] = []
        self.nodes = 0

    def read(self, node: yaml.Node | None) -> Document:
        if node is not None:
            self.document.values = self._value(node, ())
        return self.document

    def _fault(self, node: yaml.Node, path: Path, text: str, hint: str = "") -> None:
        self.document.faults.append((Fault(path, text, hint), node.start_mark.line + 1))

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            # Aliases of aliases can stand for more values than memory holds.
            raise _TooLarge(node.start_mark.line + 1)
        if id(node) in self.open:
            self._fault(node, path, "contains itself")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self.open.append(id(node))
        try:
            if node.tag not in (_TAG + "map", _TAG + "seq"):
                self._fault(node, path, f"has the tag {node.tag}, which is not allowed")
                return None
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, path)
            return self._mapping(node, path)
        finally:
            self.open.pop()

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            below = (*path, index)
            self.document.lines[below] = item.start_mark.line + 1
            values.append(self._value(item, below))
        return values

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                self._fault(key_node, path, "has a merge key '<<'", "Write the settings out.")
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                given = getattr(key_node, "value", "")
                words = repr(given) if isinstance(given, str) else "a list or mapping"
                self._fault(key_node, path, f"has a key that is no text: {words}")
                continue
            key = key_node.value
            if key in first:
                hint = "Keep one of them."
                self._fault(key_node, (*path, key), f"is given already in line {first[key]}", hint)
                continue
            first[key] = line
            below = (*path, key)
            self.document.lines[below] = line
            values[key] = self._value(value_node, below)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        try:
            if kind == "int":
                return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            if kind == "float":
                return float(re.sub(r"\.(?=[inIN])", "", text))
        except ValueError:
            self._fault(node, path, f"is no number: {text[:40]!r}")
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind in ("str", "merge"):
            return text
        if kind != "null":
            self._fault(node, path, f"has the tag {node.tag}, which is not allowed")
        return None
