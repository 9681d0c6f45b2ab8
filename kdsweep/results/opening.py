"""Opens a store: one sweep of it, or all of them in one table."""

import math
from pathlib import Path

import pandas as pd

from kdsweep.results.sweep import Sweep
from kdsweep.tracking import Tracker, connect, where

_COLUMNS = ["name", "state", "started", "hours", "task", "method", "trials", "headline"]


def open_sweep(
    name: str, *, tracking_uri: str | None = None, home: str | Path | None = None
) -> Sweep:
    """Opens a sweep to ask for its results, while it runs or afterwards.

    Args:
        name: Name of the sweep.
        tracking_uri: MLflow store or server; None: $MLFLOW_TRACKING_URI, else that in `home`.
        home: Folder of all that kdsweep writes; None for $KDSWEEP_HOME, else ./kdsweep_runs.

    Raises:
        TrackingError: There is no such sweep; the message lists the nearest names.
    """
    return Sweep(name, connect(tracking_uri, home), where(home, tracking_uri))


def list_sweeps(*, tracking_uri: str | None = None, home: str | Path | None = None) -> pd.DataFrame:
    """All sweeps of a store, the latest first.

    Args:
        tracking_uri: MLflow store or server; None: $MLFLOW_TRACKING_URI, else that in `home`.
        home: Folder of all that kdsweep writes; None for $KDSWEEP_HOME, else ./kdsweep_runs.

    Returns:
        Columns ``name, state, started`` (UTC)``, hours`` (NaN while it runs)``, task, method,
        trials`` (configurations to sample)`` , headline``.
    """
    return listing(connect(tracking_uri, home))


def listing(tracker: Tracker) -> pd.DataFrame:
    """The sweeps of a tracker, as `list_sweeps` gives them."""
    rows = [
        {
            "name": summary.name,
            "state": summary.state,
            "started": pd.Timestamp(summary.started_s, unit="s", tz="UTC"),
            "hours": ((summary.ended_s or math.nan) - summary.started_s) / 3600,
            "task": summary.task,
            "method": summary.method,
            "trials": summary.trials,
            "headline": summary.headline,
        }
        for summary in tracker.sweeps()
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)
