"""kdsweep: distributed knowledge-distillation sweeps for 3D perception.

The public API loads lazily: importing ``kdsweep`` imports no torch, ray or mlflow.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_API = {
    "launch": "kdsweep.sweep",
    "open_sweep": "kdsweep.results",
    "list_sweeps": "kdsweep.results",
    "load_student": "kdsweep.engine",
}

__all__ = ["__version__", "launch", "list_sweeps", "load_student", "open_sweep"]


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'kdsweep' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
