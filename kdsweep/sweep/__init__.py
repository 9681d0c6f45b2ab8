"""Runs sweeps: search, slots on Ray, and the record from which everything resumes."""

from importlib import import_module
from typing import Any

_API = {"launch": "kdsweep.sweep.tuner", "resume": "kdsweep.sweep.tuner"}

__all__ = ["launch", "resume"]


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'kdsweep.sweep' has no attribute {name!r}")
