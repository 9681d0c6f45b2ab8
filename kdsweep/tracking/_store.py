"""One MLflow store: quiet, quick to fail, and addressed by explicit ids only."""

import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from kdsweep.errors import TrackingError
from kdsweep.tracking.base import TrackingUnavailable

_ENVIRONMENT = {
    # With the defaults (7 retries, 120 s) one call to a server that is down blocks for minutes. Nor
    # may MLflow repeat one by itself: a run whose first answer came late would be created twice.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_CONNECT_SECONDS = 3.0
_TRY_LATER = {
    *("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"),
    *("REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"),
    # A proxy in front of a server that restarts, a login that has expired: people mend these.
    *("ENDPOINT_NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"),
}
"""Answers that say nothing of the request itself; it is sent again, and none is lost."""


def configure() -> None:
    """Sets what MLflow reads from the environment, where the user has not set it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking._tracking_service.client"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It raises what it also logs here, with two tracebacks, each time a full disk is asked again.
    logging.getLogger("mlflow.store.db.utils").addFilter(_without_errors)


def _without_errors(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def redact(uri: str) -> str:
    """The address without its password and query, for messages, and without the user.

    The user of a database who has no password there is kept: one cannot come in without the name.
    """
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    if user and ":" not in user and not parts.scheme.startswith("http"):
        host = parts.netloc
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def database_uri(home: Path) -> str:
    """The URI of the database in a home, as the installed SQLAlchemy reads it.

    SQLAlchemy 2.1 reads ``x%20y`` as ``x y``, 2.0 (all there is for Python 3.10) as it stands.

    Raises:
        TrackingError: The home has a name that no URI can say: with a ``?``, for SQLAlchemy 2.0.
    """
    from sqlalchemy import __version__
    from sqlalchemy.engine import URL, make_url

    path = str(home / "mlflow.db")
    uri = URL.create("sqlite", database=path).render_as_string()
    if make_url(uri).database != path:
        raise TrackingError(
            f"cannot address a database in {str(home)!r}: SQLAlchemy {__version__} takes what "
            "follows a '?' for options. Choose another --home, or use Python 3.11 or newer"
        )
    return uri


class Store:
    """The address of a store, and what is known about reaching it.

    Attributes:
        uri: MLflow tracking URI.
        home: The home of the sweeps; holds the artifacts of a local store.
        name: The address as messages show it.
    """

    def __init__(self, uri: str | None, home: Path) -> None:
        """Creates the folders of a local store; opens nothing yet."""
        configure()
        self.home = home
        self.uri = uri or database_uri(home)
        self.name = str(self.database or redact(self.uri))
        self._sure = False
        if self.database is not None:
            folder = self.database.parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                file = next(path for path in (folder, *folder.parents) if path.exists())
                raise TrackingError(
                    f"{file} is a file, where a folder is needed for {self.database.name}. Give a "
                    "folder with --home, or remove that file."
                ) from error
            except OSError as error:
                raise TrackingError(f"cannot create the tracking store: {error}") from error

    @property
    def remote(self) -> bool:
        """Whether a server is asked."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def postgres(self) -> tuple[str, int] | None:
        """Host and port of a PostgreSQL store; None for others, sockets and lists of hosts."""
        parts = urlsplit(self.uri)
        try:
            host, port = parts.hostname, parts.port or 5432
        except ValueError:
            return None
        return (host, port) if host and parts.scheme.startswith("postgresql") else None

    @property
    def database(self) -> Path | None:
        """File of an SQLite store, else None."""
        from sqlalchemy.engine import make_url

        if urlsplit(self.uri).scheme != "sqlite":
            return None
        return Path(make_url(self.uri).database or "")

    def artifacts_of(self, sweep: str) -> str | None:
        """Where a new sweep's files go: beside the database, or where the server says (None)."""
        return None if self.remote else (self.home / "artifacts" / sweep).absolute().as_uri()

    @contextmanager
    def asked(self, what: str) -> Iterator[None]:
        """Turns what goes wrong while the store is asked into our own errors.

        Args:
            what: What was being done, for the message: "open sweep 'pvd'".

        Raises:
            TrackingUnavailable: The store does not answer or cannot write now.
            TrackingError: The store refuses.
        """
        from mlflow.exceptions import MlflowException

        self._probe(what)
        try:
            self._log_in()
            yield
        except MlflowException as error:
            self._sure = False
            later = error.error_code in _TRY_LATER
            kind = TrackingUnavailable if later else TrackingError
            raise kind(f"could not {what} ({self.name}): {_first_line(error)}") from error
        except ImportError as error:
            if not self.uri.startswith("postgresql"):
                raise
            raise TrackingError(
                f"could not {what} ({self.name}): {error}. The address names the driver; that of "
                "postgresql+psycopg:// comes with: pip install 'psycopg[binary]'"
            ) from error
        except self._outages() as error:
            self._sure = False
            message = f"could not {what} ({self.name}): {_first_line(error)}"
            raise TrackingUnavailable(message) from error
        self._sure = True

    def _outages(self) -> tuple[type[Exception], ...]:
        """What a store that is away raises besides MLflow's own (requests' are OSErrors)."""
        if self.remote:
            return (OSError,)
        from sqlalchemy.exc import OperationalError

        return OSError, OperationalError

    def _probe(self, what: str) -> None:
        """Finds out within seconds whether the server answers, before MLflow waits longer."""
        import requests

        if self._sure:
            return
        try:
            if self.remote:
                requests.head(self.uri, timeout=(_CONNECT_SECONDS, 10), allow_redirects=False)
            elif self.postgres:
                socket.create_connection(self.postgres, _CONNECT_SECONDS).close()
        except requests.exceptions.SSLError:
            return  # MLflow has its own settings for certificates and says what is wrong
        except (requests.RequestException, OSError) as error:
            raise TrackingUnavailable(
                f"could not {what}: the tracking server {self.name} does not answer "
                f"({type(error).__name__}). Is it running, and can this machine reach it?"
            ) from error

    def _log_in(self) -> None:
        """Lets a database refuse the login at once: MLflow would ask for almost two minutes."""
        if self._sure or not self.uri.startswith("postgresql"):
            return
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        create_engine(self.uri, poolclass=NullPool).connect().close()

    def analyze(self) -> None:
        """Lets SQLite plan its queries anew: sorting runs by a metric is far faster afterwards."""
        if self.database is None or not self.database.exists():
            return
        connection = sqlite3.connect(self.database, timeout=2)
        try:
            connection.execute("ANALYZE")
        except sqlite3.OperationalError:
            pass  # somebody writes just now; it only costs speed
        finally:
            connection.close()


@contextmanager
def found_already() -> Iterator[None]:
    """Takes "there is one of that name" for an answer to a creation: the first answer was lost."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _first_line(error: BaseException) -> str:
    """What went wrong; SQLAlchemy may put before it that it came to light a step later."""
    lines = [
        line
        for line in str(error).strip().splitlines()
        if not line.startswith("(raised as a result of")
    ]
    return redact_words((lines or [type(error).__name__])[0])[:500]


def redact_words(text: str) -> str:
    """Removes credentials from addresses within a text."""
    return " ".join(
        redact(word) if "://" in word and "@" in word else word for word in text.split(" ")
    )
