"""Where the head of a cluster reports to, and why it could not; asked before it is started."""

from typing import NamedTuple
from urllib.parse import urlsplit

from kdsweep.cluster.mask import mask
from kdsweep.home import home_uri

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
_HTTP = ("http://", "https://")


class Trouble(NamedTuple):
    """Why results could not be tracked, and what to do."""

    text: str
    hint: str


def is_loopback(uri: str) -> bool:
    """Whether a URI names a server of whatever machine reads it."""
    try:
        return uri.startswith(_HTTP) and urlsplit(uri).hostname in _LOOPBACK
    except ValueError:
        return False


def trouble(home: str, uri: str) -> Trouble | None:
    """What is wrong with a home and a tracking URI, whichever kind of cluster has them.

    Args:
        home: Folder or URI of everything that kdsweep writes.
        uri: MLflow as the head sees it; empty where nothing is said.
    """
    try:
        _ = urlsplit(uri).port
    except ValueError as error:
        return Trouble(f"MLFLOW_TRACKING_URI is no address: {error}", "Such as: http://HOST:5000")
    if home_uri(home) and not uri.startswith(_HTTP):
        return Trouble(
            f"home {home} is remote storage, which cannot hold MLflow's database; "
            f"MLFLOW_TRACKING_URI is {mask(uri) or 'not set'}",
            "Set MLFLOW_TRACKING_URI to an MLflow server: http://HOST:5000",
        )
    return None
