"""The MLflow server: how kdsweep starts it."""

import sys
from pathlib import Path

from kdsweep.home import home_folder
from kdsweep.tracking._store import database_uri


def server_command(
    home: Path | str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    allowed_hosts: str | None = None,
    app_name: str | None = None,
) -> list[str]:
    """The command that serves the pages of a store, artifacts included.

    Args:
        home: Folder of all that kdsweep writes; its `artifacts` are served.
        host: Address to listen on.
        port: Port to listen on.
        allowed_hosts: Names by which others may address it; None: loopback and private addresses.
        app_name: ``basic-auth`` asks for user and password.
    """
    folder = home_folder(home).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *[sys.executable, "-m", "mlflow", "server"],
        *["--artifacts-destination", str(folder / "artifacts")],
        *["--host", host, "--port", str(port), "--workers", "1"],
        *["--uvicorn-opts", "--log-level=warning"],  # not a line for every picture of a page
        *(["--allowed-hosts", allowed_hosts] if allowed_hosts else []),
        *(["--app-name", app_name] if app_name else []),
    ]


def server_environment(uri: str | None, home: Path | str | None = None) -> dict[str, str]:
    """Variables of the server: its store, and what keeps it small and quiet.

    Without its job runners it is 2 processes, not 10; its users can do nothing about warnings of
    the libraries that it is made of.

    Args:
        uri: Database to serve (``sqlite:///...``, ``postgresql+psycopg://...``); None: that in
            `home`. No word of the command, which everybody on the machine can read: it may hold a
            password.
        home: Folder of all that kdsweep writes.
    """
    return {
        "MLFLOW_BACKEND_STORE_URI": uri or database_uri(home_folder(home).resolve()),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
    }
