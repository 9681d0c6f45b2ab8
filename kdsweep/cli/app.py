"""The application that the commands register with, and the arguments that they share."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from kdsweep.cli.words import Commands

F = TypeVar("F", bound=Callable[..., Any])

app = typer.Typer(
    name="kdsweep",
    cls=Commands,
    help="Find the best small student that a large 3D-perception teacher can train.",
    epilog="Start with: kdsweep launch search_spaces/quickstart.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[Path, typer.Argument(help="Sweep file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Overrides by the file's dotted path, such as run.train.epochs=8.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(help="Name of the sweep.", show_default=False)]
Home = Annotated[
    str,
    typer.Option(
        help="Folder of results, synthetic data and caches, or storage such as s3://bucket/runs.",
        envvar="KDSWEEP_HOME",
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="MLflow store or server; default: the database in the home folder.",
        envvar="MLFLOW_TRACKING_URI",
        show_default=False,
    ),
]
ClusterFile = Annotated[
    Path | None,
    typer.Option(
        "--cluster", help="Cluster file, such as cluster/onprem.yaml.", show_default=False
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Running cluster: http(s)://HOST:8265, or auto on one of its nodes.",
        show_default=False,
    ),
]
HOME = "kdsweep_runs"


def command(*examples: str, of: typer.Typer = app, name: str | None = None) -> Callable[[F], F]:
    """Registers a command whose help ends with examples."""
    lines = [f"[cyan]{example}[/cyan]" for example in examples]
    return of.command(name, epilog="\n\n".join(["[bold]Examples[/bold]", *lines]))
