"""Cluster files: YAML with the line of every key, and the faults found in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from kdsweep.errors import SpecError, did_you_mean
from kdsweep.spec.fault import Fault, Path
from kdsweep.spec.yaml_lines import read_yaml

_SEPARATOR = "---"


@dataclass(frozen=True)
class Part:
    """One YAML document of a file.

    Attributes:
        values: What it holds.
        lines: Line of each key or entry in the file, by its path.
        first: Line of its first key.
    """

    values: dict[str, Any]
    lines: dict[Path, int]
    first: int

    def get(self, *path: str | int) -> Any:
        """The value at a path; None where there is none."""
        value: Any = self.values
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value


@dataclass
class Faults:
    """Gathers what is wrong with a file, so that all of it is said at once."""

    name: str
    told: list[tuple[int, str]] = field(default_factory=list)

    def add(self, part: Part, path: Path, text: str, hint: str = "") -> None:
        """Notes a fault at a path, or at the closest line above that exists."""
        lengths = range(len(path), 0, -1)
        line = next((part.lines[path[:n]] for n in lengths if path[:n] in part.lines), part.first)
        self.told.append((line, str(Fault(path, text, hint))))

    def unknown(self, part: Part, path: Path, valid: Sequence[str]) -> None:
        """Notes that a key is not known."""
        self.add(part, path, "is not known here", did_you_mean(str(path[-1]), valid))

    def unknown_value(self, part: Part, path: Path, given: object, valid: Sequence[str]) -> None:
        """Notes that a value is none of those that are known."""
        self.add(part, path, f"is {given!r}", did_you_mean(str(given), valid))

    def refuse(self) -> None:
        """Ends here if anything is wrong.

        Raises:
            SpecError: All faults, each with file and line, in the order of the file.
        """
        if not self.told:
            return
        lines = [f"{self.name}:{line}: {text}" for line, text in sorted(self.told)]
        if len(lines) > 1:
            lines.insert(0, f"{len(lines)} faults in {self.name}")
        raise SpecError("\n".join(lines))


def read_parts(path: FilePath) -> list[Part]:
    """The documents of a YAML file.

    Raises:
        SpecError: It cannot be read, is no YAML, or a document is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        near = sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        hint = f"\n  {did_you_mean(path.name, [file.name for file in near])}" if near else ""
        raise SpecError(f"{path}: cannot be read: {error.strerror}{hint}") from None
    faults, parts = Faults(str(path)), []
    for chunk in _chunks(text):
        document = read_yaml(chunk)
        faults.told += [(line, str(fault)) for fault, line in document.faults]
        first = min(document.lines.values(), default=1)
        if isinstance(document.values, dict):
            parts.append(Part(document.values, document.lines, first))
        elif document.values is not None:
            faults.told.append((first, "must be a mapping (key: value)"))
    faults.refuse()
    if not parts:
        raise SpecError(f"{path}: is empty. The folder cluster/ holds files to start from.")
    return parts


def _chunks(text: str) -> list[str]:
    """The text of each document, moved down to the lines that it has in the file."""
    chunks: list[list[str]] = [[]]
    for number, line in enumerate(text.splitlines()):
        if line.rstrip() == _SEPARATOR or line.startswith((f"{_SEPARATOR} #", f"{_SEPARATOR}\t#")):
            chunks.append([""] * (number + 1))
        else:
            chunks[-1].append(line)
    return ["\n".join(chunk) + "\n" for chunk in chunks]
