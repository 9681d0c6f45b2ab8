"""What cannot be taken to a cluster: paths and addresses that only this machine understands."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from kdsweep.cluster.load import Cluster
from kdsweep.cluster.tracking import is_loopback, trouble
from kdsweep.errors import SpecError
from kdsweep.home import home_uri
from kdsweep.spec.inputs import inputs_of
from kdsweep.spec.sweep import SweepSpec


def refuse_local(sweep: SweepSpec | None, home: str | None, tracking_uri: str | None) -> None:
    """Ends here if a sweep, or a flag, names a place of this machine.

    Args:
        sweep: The sweep; None where one is resumed.
        home: What `--home` says.
        tracking_uri: What `--tracking-uri` says.

    Raises:
        SpecError: It does; the message lists every such place.
    """
    faults = [*_home(home), *_uri("--tracking-uri", tracking_uri)]
    if sweep is not None:
        faults += _uri("sweep.tracking.uri", sweep.tracking.uri if sweep.tracking else None)
        faults += [
            f"{key} is a path of this machine: {path!r}. Write the absolute path that every node "
            "of the cluster finds it at."
            for key, path in inputs_of(sweep.run).items()
            if not _is_absolute(path)
        ]
    if faults:
        raise SpecError("\n".join(faults))


def refuse_untracked(
    cluster: Cluster, sweep: SweepSpec | None, home: str | None, tracking_uri: str | None
) -> None:
    """Ends here if results of a sweep on a cluster could be tracked nowhere.

    Args:
        cluster: The cluster, for what its file says.
        sweep: The sweep; None where one is resumed.
        home: What `--home` says.
        tracking_uri: What `--tracking-uri` says.

    Raises:
        SpecError: The home is remote storage, and no MLflow server is named.
    """
    written = sweep.tracking.uri if sweep and sweep.tracking else None
    uri = tracking_uri or cluster.tracking_uri or written or ""
    if found := trouble(home or cluster.home or "/", uri):
        raise SpecError(f"{cluster.path}: {found.text}. {found.hint}, or give --tracking-uri.")


def _home(home: str | None) -> Iterator[str]:
    if home is None:
        return
    if urlsplit(home).password is not None:
        yield (
            "--home holds a password, which everybody who sees the cluster's jobs could read. "
            "Every node must have credentials of its own for that storage."
        )
    elif not _is_absolute(home):
        yield (
            f"--home is a path of this machine: {home!r}. Write the absolute path of a folder that "
            "all nodes of the cluster share, or leave it out: the cluster file says KDSWEEP_HOME."
        )


def _uri(key: str, uri: str | None) -> Iterator[str]:
    if uri is None:
        return
    try:
        parts, port = urlsplit(uri), urlsplit(uri).port or 80
    except ValueError as error:
        yield f"{key} is no address: {error}. Write one such as http://mlflow.example.com:5000"
        return
    if "@" in parts.netloc:  # a user alone may be a token
        yield (
            f"{key} holds credentials, which everybody who sees the cluster's jobs could read. Set "
            "MLFLOW_TRACKING_URI on the head instead (see the cluster file)."
        )
    if is_loopback(uri):
        yield (
            f"{key} is an address of this machine: {parts.hostname}:{port}. The sweep "
            "runs on the cluster's head: name a server that the head reaches, or leave it out and "
            "let the cluster file say MLFLOW_TRACKING_URI."
        )
    elif parts.scheme in ("", "file", "sqlite"):
        yield (
            f"{key} is a file of this machine: {uri!r}. Name a server that the cluster's head "
            "reaches, or leave it out and let the cluster file say MLFLOW_TRACKING_URI."
        )


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or bool(home_uri(path))
