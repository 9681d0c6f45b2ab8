"""What starts work: `check`, `run`, `launch`, `resume`; and `schema` for editors."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdsweep.cli.app import (
    HOME,
    Address,
    ClusterFile,
    File,
    Home,
    Name,
    Overrides,
    TrackingUri,
    command,
)
from kdsweep.cli.place import Detach, DryRun, elsewhere, flags, on_this_cluster
from kdsweep.errors import SpecError
from kdsweep.home import home_folder

if TYPE_CHECKING:
    from kdsweep.engine.report import Progress


@command(
    "kdsweep launch search_spaces/quickstart.yaml",
    "kdsweep launch search_spaces/lidar_seg/pvd.yaml run.data.root=/data/semantickitti",
    "kdsweep launch search_spaces/quickstart.yaml --cluster cluster/onprem.yaml --dry-run",
    "kdsweep launch search_spaces/quickstart.yaml --cluster cluster/onprem.yaml --detach",
)
def launch(
    context: typer.Context,
    file: File,
    overrides: Overrides = None,
    cluster: ClusterFile = None,
    address: Address = None,
    detach: Detach = False,
    dry_run: DryRun = False,
    home: Home = HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Run a sweep: teacher, baselines, search, confirmation, trade-off table."""
    where = elsewhere(cluster, address, detach=detach, dry_run=dry_run)
    if where is None:
        from kdsweep.sweep import launch as start

        on_this_cluster(address, home)
        ended = start(file, overrides or (), home=home, tracking_uri=tracking_uri, address=address)
        _exit(ended.state)
        return
    from kdsweep.cli.remote import checked_place, send
    from kdsweep.cluster.driver import make_driver
    from kdsweep.spec.load import load_sweep

    sweep = load_sweep(file, overrides or ())
    given = flags(context)
    target = checked_place(where, sweep, given)
    driver = make_driver("launch", sweep.name, file, overrides or (), **given)
    _exit_code(send(target, driver, detach=detach, dry_run=dry_run))


@command(
    "kdsweep resume quickstart",
    "kdsweep resume quickstart --more 20",
    "kdsweep resume quickstart --retry failed",
    "kdsweep resume quickstart --budget hours=4",
    "kdsweep resume quickstart --cluster cluster/onprem.yaml",
)
def resume(
    context: typer.Context,
    name: Name,
    more: Annotated[int, typer.Option(min=0, help="Sampled trials to add.")] = 0,
    retry: Annotated[
        Literal["failed"] | None, typer.Option(help="Run failed trials again.", show_default=False)
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="A new limit, such as hours=4; may be repeated.", show_default=False),
    ] = None,
    cluster: ClusterFile = None,
    address: Address = None,
    detach: Detach = False,
    dry_run: DryRun = False,
    home: Home = HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Go on with a sweep that was interrupted, or add trials to a finished one."""
    where = elsewhere(cluster, address, detach=detach, dry_run=dry_run)
    if where is None:
        from kdsweep.sweep import resume as go_on

        on_this_cluster(address, home)
        ended = go_on(
            name,
            more=more,
            retry=retry,
            budget=_limits(budget),
            home=home,
            tracking_uri=tracking_uri,
            address=address,
        )
        _exit(ended.state)
        return
    from kdsweep.cli.remote import checked_name, checked_place, send
    from kdsweep.cluster.driver import make_driver

    given = flags(context)
    target = checked_place(where, None, given)
    _limits(budget)  # a slip is told before anything is sent
    options = [*(["--more", str(more)] if more else []), *(["--retry", retry] if retry else [])]
    options += [word for limit in budget or () for word in ("--budget", limit)]
    driver = make_driver("resume", checked_name(name), None, options, **given)
    _exit_code(send(target, driver, detach=detach, dry_run=dry_run))


def _limits(given: list[str] | None) -> dict[str, float]:
    """``["hours=4"]`` to ``{"hours": 4.0}``."""
    limits = {}
    for text in given or []:
        name, _, value = text.partition("=")
        try:
            limit = float(value)
            limits[name.strip()] = int(limit) if limit.is_integer() else limit
        except ValueError:
            from kdsweep.errors import SpecError

            raise SpecError(f"--budget {text!r} is no limit. Write one such as hours=4.") from None
    return limits


def _exit(state: str) -> None:
    """Tells scripts how a sweep ended: 0 = finished, 1 = failed, 130 = interrupted."""
    if state != "finished":
        raise typer.Exit(130 if state == "interrupted" else 1)


def _exit_code(code: int) -> None:
    if code:
        raise typer.Exit(code)


@command(
    "kdsweep run search_spaces/quickstart.yaml --out /tmp/run",
    "kdsweep run search_spaces/quickstart.yaml run.method.voxel_output=2 --out /tmp/run2",
)
def run(
    file: File,
    out: Annotated[Path, typer.Option(help="Folder of this run; an unfinished one goes on.")],
    overrides: Overrides = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = torch's choice.")] = 0,
    home: Home = HOME,
) -> None:
    """Train the one run that a sweep file describes, in this process, without search."""
    from rich.console import Console

    from kdsweep.engine.place import Place
    from kdsweep.engine.run import execute
    from kdsweep.spec.load import load_sweep

    spec = load_sweep(file, overrides or ()).run
    console, started = Console(), time.monotonic()
    place = Place(
        home_folder(home),
        out.resolve(),
        device=device,
        threads=threads,
        waits=lambda words: console.print(f"This run {words}.", highlight=False),
    )

    def report(progress: "Progress") -> bool:
        console.print(_line(progress, time.monotonic() - started), highlight=False)
        return True

    result = execute(spec, place, report)
    for name, value in sorted(result.metrics.items()):
        console.print(f"  {name:24} {value:.6g}", highlight=False)
    console.print(f"Student: {result.run_dir / 'student.safetensors'}", soft_wrap=True)


def _line(progress: "Progress", elapsed_s: float) -> str:
    """One epoch in words, with an estimate of the time left."""
    if progress.stage == "profile":
        return "measuring the student: parameters, MACs, latency, memory"
    total = progress.metrics.get("loss/total", float("nan"))
    known = [
        f"{name} {value:.4f}"
        for name, value in progress.metrics.items()
        if name in ("miou", "recall_at_1", "top1")
    ]
    left_s = progress.metrics.get("seconds/total", 0.0) * (progress.epochs - progress.epoch)
    return "  ".join(
        [
            f"{progress.stage} {progress.epoch}/{progress.epochs}",
            f"loss {total:.4f}",
            *known,
            f"elapsed {elapsed_s:.0f} s, about {left_s:.0f} s left",
        ]
    )


@command(
    "kdsweep check search_spaces/quickstart.yaml",
    "kdsweep check search_spaces/lidar_seg/pvd.yaml run.data.root=/data/semantickitti",
)
def check(
    file: File,
    overrides: Overrides = None,
    home: Home = HOME,
    macs: Annotated[
        bool, typer.Option(help="Also count parameters and MACs; reads a few scans.")
    ] = True,
) -> None:
    """Dry run of a sweep file: the space, the baselines, what would be refused. No Ray, no GPU."""
    from rich.console import Console

    from kdsweep.cli.dry_run import dry_run
    from kdsweep.spec.load import load_sweep

    found = dry_run(load_sweep(file, overrides or ()), home_folder(home), sizes=macs)
    Console().print(found.shown)
    if found.refused:
        raise SpecError("\n".join(found.refused))


@command("kdsweep schema > kdsweep.schema.json", "kdsweep schema --out .vscode/kdsweep.json")
def schema(
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: print.", show_default=False)
    ] = None,
) -> None:
    """Write the JSON Schema of sweep files, for editors that complete and check YAML."""
    from kdsweep.spec.schema import schema as build

    text = json.dumps(build(), indent=2) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)
