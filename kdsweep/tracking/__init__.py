"""Remembers sweeps: a `Tracker` protocol, its MLflow implementation and an in-memory twin."""

from pathlib import Path

from kdsweep.home import home_folder
from kdsweep.tracking.base import (
    SweepInfo,
    SweepSummary,
    Tracker,
    TrackingUnavailable,
    TrialInfo,
    TrialRecord,
)
from kdsweep.tracking.memory import MemoryTracker

__all__ = [
    "MemoryTracker",
    "SweepInfo",
    "SweepSummary",
    "Tracker",
    "TrackingUnavailable",
    "TrialInfo",
    "TrialRecord",
    "connect",
]


def connect(uri: str | None = None, home: Path | str | None = None) -> Tracker:
    """Opens the MLflow store of a sweep's home, or a server.

    Args:
        uri: ``http(s)://...``, ``sqlite:///...`` or another MLflow tracking URI; None for the
            database ``mlflow.db`` in `home`.
        home: Folder of all that kdsweep writes; None for $KDSWEEP_HOME, else ./kdsweep_runs.

    Raises:
        TrackingUnavailable: The store cannot be reached.
    """
    from kdsweep.tracking.mlflow import MlflowTracker

    return MlflowTracker(uri, home_folder(home))
