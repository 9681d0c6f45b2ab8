"""What users ask afterwards: `ls`, `show`, `trials`, `best`, `pareto`, `report`, `ui`."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from kdsweep.cli.app import HOME, ClusterFile, Home, Name, TrackingUri, command
from kdsweep.errors import SpecError
from kdsweep.home import home_uri

Where = Annotated[
    list[str] | None,
    typer.Option(
        help="Bound on a metric or parameter, such as 'params_ratio >= 4'; may be repeated.",
        show_default=False,
    ),
]


@command("kdsweep ls", "kdsweep ls --tracking-uri http://head:5000")
def ls(home: Home = HOME, tracking_uri: TrackingUri = None) -> None:
    """List all sweeps."""
    from rich.console import Console

    from kdsweep.results import list_sweeps
    from kdsweep.results.tables import sweeps_table

    Console().print(sweeps_table(list_sweeps(tracking_uri=tracking_uri, home=home)))


@command("kdsweep show quickstart")
def show(name: Name, home: Home = HOME, tracking_uri: TrackingUri = None) -> None:
    """Show a sweep: how far it is, its best student, the gain, the trade-off."""
    from rich.console import Console

    from kdsweep.results import open_sweep
    from kdsweep.results.tables import sweep_view

    Console().print(sweep_view(open_sweep(name, tracking_uri=tracking_uri, home=home)))


@command("kdsweep trials quickstart", "kdsweep trials quickstart --csv > trials.csv")
def trials(
    name: Name,
    csv: Annotated[bool, typer.Option("--csv", help="Print all columns as CSV.")] = False,
    home: Home = HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """List every trial of a sweep, with what it was and what became of it."""
    from rich.console import Console

    from kdsweep.results import open_sweep
    from kdsweep.results.tables import trials_table

    sweep = open_sweep(name, tracking_uri=tracking_uri, home=home)
    if csv:
        print(sweep.trials(all_metrics=True).to_csv(index=False), end="")
    else:
        Console().print(trials_table(sweep))


@command(
    "kdsweep best quickstart",
    "kdsweep best quickstart miou --where 'params_ratio >= 4' --where 'latency_ms <= 50'",
)
def best(
    name: Name,
    metric: Annotated[
        str | None, typer.Argument(help="Metric; default: the first objective.")
    ] = None,
    where: Where = None,
    home: Home = HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show the best finished student, and how to load it."""
    from rich.console import Console

    from kdsweep.results import open_sweep
    from kdsweep.results.tables import trial_view

    bounds = _bounds(where)
    sweep = open_sweep(name, tracking_uri=tracking_uri, home=home)
    Console().print(trial_view(sweep, sweep.best(metric, where=bounds)))


@command("kdsweep pareto quickstart")
def pareto(name: Name, home: Home = HOME, tracking_uri: TrackingUri = None) -> None:
    """List the students that no other beats in all objectives."""
    from rich.console import Console

    from kdsweep.results import open_sweep
    from kdsweep.results.tables import pareto_table

    Console().print(pareto_table(open_sweep(name, tracking_uri=tracking_uri, home=home)))


@command("kdsweep importance quickstart", "kdsweep importance pvd-semantickitti latency_ms")
def importance(
    name: Name,
    metric: Annotated[
        str | None, typer.Argument(help="Metric; default: the first objective.")
    ] = None,
    home: Home = HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show which searched parameters decide a metric."""
    from rich.console import Console

    from kdsweep.results import open_sweep
    from kdsweep.results.tables import importance_table

    sweep = open_sweep(name, tracking_uri=tracking_uri, home=home)
    Console().print(importance_table(sweep.importance(metric)))


@command("kdsweep report quickstart", "kdsweep report quickstart --out quickstart.html")
def report(
    name: Name,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: NAME.html.", show_default=False)
    ] = None,
    home: Home = HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the interactive report of a sweep as one HTML file that works offline."""
    from kdsweep.results import open_sweep
    from kdsweep.results.report import write_report

    sweep = open_sweep(name, tracking_uri=tracking_uri, home=home)
    print(f"Wrote {write_report(sweep, out or Path(f'{name}.html'))}")


@command(
    "kdsweep ui",
    "kdsweep ui --port 5001 --home /data/kdsweep_runs",
    "kdsweep ui --cluster cluster/onprem.yaml",
    "kdsweep ui --host 0.0.0.0 --allowed-hosts 'gpu-box:*' --app-name basic-auth",
)
def ui(
    cluster: ClusterFile = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port on this machine.", show_default="5000"),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; other than loopback, others can see it.",
            show_default="127.0.0.1",
        ),
    ] = None,
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            help="Names by which others may address it, such as 'gpu-box:*'; see MLflow.",
            show_default=False,
        ),
    ] = None,
    app_name: Annotated[
        Literal["basic-auth"] | None,
        typer.Option(help="Ask for user and password; see MLflow.", show_default=False),
    ] = None,
    home: Home = HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Serve the MLflow pages of a home folder, or open those of a cluster, until Ctrl-C."""
    if cluster is not None:
        from kdsweep.cli.tunnel import open_pages

        given = {"port": port, "host": host, "allowed-hosts": allowed_hosts, "app-name": app_name}
        wrong = [f"--{name}" for name, value in given.items() if value is not None]
        if wrong:
            raise SpecError(
                f"{', '.join(wrong)}: the MLflow of a cluster is started as its file says; with "
                "--cluster, `kdsweep ui` only opens a tunnel to it."
            )
        open_pages(cluster)
        return
    if (storage := home_uri(home)) and tracking_uri is None:
        raise SpecError(
            f"home {storage} is remote storage, which holds no MLflow database to serve. Results "
            "of its sweeps are on the MLflow server that they were launched with (--tracking-uri): "
            "open its address in a browser. A database is served by: kdsweep ui --tracking-uri "
            "postgresql+psycopg://..."
        )
    from kdsweep.tracking.server import server_command, server_environment

    host, port = host or "127.0.0.1", port or 5000
    command = server_command(
        home, host=host, port=port, allowed_hosts=allowed_hosts, app_name=app_name
    )
    print(f"MLflow: http://{host}:{port}  (Ctrl-C ends it)", flush=True)
    os.execve(command[0], command, {**os.environ, **server_environment(tracking_uri, home)})


def _bounds(given: list[str] | None) -> dict[str, str]:
    """``["params_ratio >= 4"]`` to ``{"params_ratio": ">= 4"}``."""
    bounds = {}
    for text in given or []:
        name, sign, bound = next(
            (
                (name, sign, bound)
                for sign in ("<=", ">=", "==", "<", ">", "=")
                for name, found, bound in [text.partition(sign)]
                if found
            ),
            ("", "", ""),
        )
        if not name.strip() or not bound.strip():
            raise SpecError(f"--where {text!r} is no bound. Write one such as 'params_ratio >= 4'.")
        bounds[name.strip()] = f"{sign} {bound.strip()}"
    return bounds
