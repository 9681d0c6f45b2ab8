"""What every tracker refuses before it writes anything: names, files, tags and states."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from kdsweep.errors import TrackingError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_METRIC = re.compile(r"[A-Za-z0-9_.: -]+(/[A-Za-z0-9_.: -]+)*")


def check_name(kind: str, name: str) -> str:
    """Refuses names of sweeps and trials that could not be a file's name everywhere.

    Raises:
        TrackingError: The name is empty, too long, or has other signs than letters, digits, ._-
    """
    if not _NAME.fullmatch(name):
        raise TrackingError(
            f"{name!r} cannot be the name of a {kind}: use letters, digits and ._- only, beginning "
            "with a letter or digit, 200 at most."
        )
    return name


def check_metric(name: str) -> str:
    """Refuses metric names that MLflow would refuse.

    Raises:
        TrackingError: Other signs than letters, digits, ``_.:- `` and single inner slashes.
    """
    parts = name.split("/")
    if not _METRIC.fullmatch(name) or len(name) > 250 or {".", ".."} & set(parts):
        raise TrackingError(
            f"{name!r} cannot be the name of a metric: use letters, digits, '_', '.', ':', '-', "
            "space, and '/' between parts."
        )
    return name


def check_artifact(name: str) -> str:
    """Refuses artifact names that would leave the folder they belong to.

    Raises:
        TrackingError: The name is absolute, climbs with ``..``, or holds odd signs.
    """
    clean = name and "\\" not in name and ":" not in name and "\0" not in name and "%" not in name
    climbs = bool({"", ".", ".."} & set(name.split("/")))
    if not clean or climbs or PurePosixPath(name).is_absolute():
        raise TrackingError(
            f"{name!r} cannot be the name of a file of a trial: it must be a relative path that "
            "stays within the trial's folder."
        )
    return name


def check_state(state: str, valid: tuple[str, ...]) -> str:
    """Refuses unknown states and, for an end, the state ``running``.

    Raises:
        TrackingError: The state is not a way to end.
    """
    ends = [name for name in valid if name != "running"]
    if state not in ends:
        raise TrackingError(f"{state!r} is not a way to end. Valid: {', '.join(ends)}.")
    return state


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuses tags that would be mistaken for our own or for MLflow's.

    Raises:
        TrackingError: The tag's name is taken or cannot be stored.
    """
    for name in tags:
        check_metric(name)
        if name.startswith(("kdsweep.", "mlflow.")):
            raise TrackingError(f"tag {name!r}: names beginning with kdsweep. or mlflow. are taken")


def check_files(files: Mapping[str, Path]) -> dict[str, Path]:
    """Refuses files that cannot be stored, before anything is written.

    Raises:
        TrackingError: A name would leave the folder, or a file is not there.
    """
    found = {check_artifact(name): Path(path) for name, path in files.items()}
    for name, path in found.items():
        if not path.exists():
            raise TrackingError(f"{path}, to be stored as {name!r}, does not exist.")
    return found


def check_metrics(metrics: Mapping[str, float] | None) -> dict[str, float]:
    """Metrics as plain floats.

    Raises:
        TrackingError: A name would be refused by MLflow.
    """
    return {check_metric(name): float(value) for name, value in (metrics or {}).items()}
