"""The MLflow server: how kdsweep starts it."""

import sys
from pathlib import Path

from kdsweep.home import home_folder


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
        *(["--allowed-hosts", allowed_hosts] if allowed_hosts else []),
        *(["--app-name", app_name] if app_name else []),
    ]


def server_environment(uri: str | None, home: Path | str | None = None) -> dict[str, str]:
    """Variables of the server: its store, and what keeps it at 2 processes rather than 10.

    Args:
        uri: Database to serve (``sqlite:///...``, ``postgresql+psycopg://...``); None: that in
            `home`. No word of the command, which everybody on the machine can read: it may hold a
            password.
        home: Folder of all that kdsweep writes.
    """
    return {
        "MLFLOW_BACKEND_STORE_URI": uri or f"sqlite:///{home_folder(home).resolve() / 'mlflow.db'}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
