"""The options that say where a sweep runs, and which of them go together."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from kdsweep.errors import SpecError
from kdsweep.home import home_uri

Detach = Annotated[
    bool, typer.Option("--detach", help="On a cluster: return once the job is submitted.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="On a cluster: only list all that would be sent and run."),
]


def elsewhere(
    cluster: Path | None, address: str | None, *, detach: bool = False, dry_run: bool = False
) -> Path | str | None:
    """The cluster file or http address that a command is about; None = the driver runs here.

    Raises:
        SpecError: The options do not go together.
    """
    if cluster is not None and address is not None:
        raise SpecError(
            "--cluster and --address were both given. --cluster FILE starts or joins a cluster "
            "from its file, --address joins one that is up: give one of them."
        )
    if cluster is not None:
        return cluster
    if address is not None and "://" in address:
        if _is_http(address):
            return address
        raise SpecError(
            f"--address {address} is of no known kind. Valid: http://HOST:8265 or https://... (Ray "
            "Jobs on a cluster), auto or HOST:6379 (this machine is one of its nodes)."
        )
    for name, given in (("--detach", detach), ("--dry-run", dry_run)):
        if given:
            hint = " `kdsweep check` is the dry run of a sweep file." if name == "--dry-run" else ""
            raise SpecError(f"{name} is for sweeps on a cluster: add --cluster FILE.{hint}")
    return None


def _is_http(address: str) -> bool:
    """Whether an address names a host, and a port that there can be."""
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def on_this_cluster(address: str | None, home: str) -> None:
    """Ends here if a driver on a cluster's node would keep results where other nodes find none.

    Raises:
        SpecError: The home folder is relative.
    """
    if address is not None and not home_uri(home) and not Path(home).is_absolute():
        raise SpecError(
            f"the home folder is {home!r}, relative to this machine's working folder. On a "
            "cluster it must be the absolute path of a folder that all nodes share: set "
            "KDSWEEP_HOME where Ray is started on the head, or give --home."
        )


def flags(context: typer.Context) -> dict[str, str]:
    """`home` and `tracking_uri` where they were given as options.

    This machine's environment variables do not count: on a cluster its own are meant.
    """
    sources = {name: context.get_parameter_source(name) for name in ("home", "tracking_uri")}
    return {
        name: str(context.params[name])
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    }
