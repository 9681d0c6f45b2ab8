"""Where a sweep's results go: to what is asked for, else where they went before.

A resume that says nothing must not begin a second store. The address lies in the sweep's folder,
without credentials, which are never written down.
"""

import json
from pathlib import Path
from typing import Any

from kdsweep.engine import files
from kdsweep.errors import SweepError
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.settings import Settings
from kdsweep.tracking import asked_uri, redact

FILE = "tracking.json"


def tracking_uri(spec: SweepSpec, settings: Settings, asked: str | None) -> str | None:
    """Finds where results are tracked, and remembers it; None: the home folder's own database.

    An argument goes first, then $MLFLOW_TRACKING_URI, then what an earlier process of this sweep
    used, then the sweep file.

    Raises:
        SweepError: It was an address with credentials, which must be given again; or the home is
            remote storage, where no database and no artifacts can live.
    """
    uri = _anchored(asked_uri(asked))
    if uri is None:
        uri = _remembered(settings.folder, spec.tracking.uri if spec.tracking else None)
    if settings.storage and not (uri or "").startswith(("http://", "https://")):
        raise SweepError(
            f"home {settings.storage} is remote storage, which cannot hold MLflow's database and "
            f"files; tracking is {redact(uri) if uri else 'not set'}. Give the address of an "
            "MLflow server: --tracking-uri http://HOST:5000"
        )
    noted = {"uri": name_of(uri) or None, "credentials": name_of(uri) != (uri or "")}
    if _read(settings.folder) != noted:
        files.write_json(settings.folder / FILE, noted)
    return uri


def name_of(uri: str | None) -> str:
    """What tells trackers apart: the address without credentials; empty for the home's own."""
    return redact(uri) if uri else ""


def _remembered(folder: Path, otherwise: str | None) -> str | None:
    noted = _read(folder)
    if noted is None:
        return otherwise
    uri: str | None = noted["uri"]
    if noted["credentials"]:
        raise SweepError(
            f"sweep {folder.name!r} is tracked at {uri}, with credentials in the address, which "
            "are not stored: give the whole address again, best as $MLFLOW_TRACKING_URI"
        )
    return uri


def _read(folder: Path) -> dict[str, Any] | None:
    """What was noted; None for sweeps of versions that noted nothing."""
    try:
        noted = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return {"uri": noted["uri"], "credentials": noted["credentials"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _anchored(uri: str | None) -> str | None:
    """The same address from whatever folder a later process starts in."""
    start = "sqlite:///"
    if uri is None or not uri.startswith(start) or uri.startswith((f"{start}/", f"{start}:")):
        return uri
    return f"{start}{Path.cwd() / uri.removeprefix(start)}"
