"""Remembers sweeps: a `Tracker` protocol, its MLflow implementation and an in-memory twin."""

from pathlib import Path

from kdsweep.home import home_folder
from kdsweep.tracking._store import redact
from kdsweep.tracking.base import (
    SweepInfo,
    SweepSummary,
    Tracker,
    TrackingUnavailable,
    TrialInfo,
    TrialRecord,
)
from kdsweep.tracking.memory import MemoryTracker
from kdsweep.tracking.where import Where, asked_uri, where

__all__ = [
    "MemoryTracker",
    "SweepInfo",
    "SweepSummary",
    "Tracker",
    "TrackingUnavailable",
    "TrialInfo",
    "TrialRecord",
    "Where",
    "asked_uri",
    "connect",
    "redact",
    "where",
]


def connect(uri: str | None = None, home: Path | str | None = None) -> Tracker:
    """Opens the MLflow store of a sweep's home, or a server.

    Args:
        uri: ``http(s)://...``, ``sqlite:///...`` or another MLflow tracking URI; None for
            $MLFLOW_TRACKING_URI, else the database ``mlflow.db`` in `home`.
        home: Folder of all that kdsweep writes; None for $KDSWEEP_HOME, else ./kdsweep_runs.

    Raises:
        TrackingUnavailable: The store cannot be reached.
    """
    from kdsweep.tracking.mlflow import MlflowTracker

    return MlflowTracker(asked_uri(uri), home_folder(home))
