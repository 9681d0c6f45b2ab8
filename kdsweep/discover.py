"""Finds tasks, methods and models by file name: the name is the key, there is no registry."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

from kdsweep.errors import SpecError, did_you_mean

Kind = Literal["tasks", "methods", "models"]
_ROOT = Path(__file__).parent


def names(kind: Kind) -> list[str]:
    """Keys of all tasks, methods or models, found without importing any of them."""
    return sorted(
        path.stem
        for path in (_ROOT / kind).glob("*.py")
        if path.stem != "base" and not path.stem.startswith("_")
    )


def load(kind: Kind, name: str) -> ModuleType:
    """Imports the file that a key names.

    Raises:
        SpecError: There is no such file; the message lists the valid keys, nearest first.
    """
    if name not in names(kind):
        singular = kind[:-1]
        raise SpecError(f"unknown {singular} {name!r}. {did_you_mean(name, names(kind))}")
    return import_module(f"kdsweep.{kind}.{name}")
