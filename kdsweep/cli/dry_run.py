"""What `kdsweep check` shows: the dry run of a sweep, with sizes counted by the engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kdsweep.config import weights
from kdsweep.engine.parts import check_fits
from kdsweep.engine.place import Place
from kdsweep.engine.profile import num_parameters, static_profile
from kdsweep.errors import DataError, SpecError
from kdsweep.results import wording
from kdsweep.spec.check import CheckReport, check, kinds, refusals
from kdsweep.spec.sweep import SweepSpec


@dataclass(frozen=True)
class DryRun:
    """What a dry run has found.

    Attributes:
        shown: Its tables and notes.
        refused: Why a launch would be refused; none = it would not.
    """

    shown: RenderableType
    refused: tuple[str, ...]


def dry_run(sweep: SweepSpec, home: Path, *, sizes: bool = True) -> DryRun:
    """The tables of a dry run, and what a launch would refuse.

    Args:
        sweep: A valid sweep.
        home: Folder where counts are kept.
        sizes: Count parameters and MACs at both ends of every key that changes the student's size;
            reads a few scans. Of data that is not there, only the parameters are counted.
    """
    report = check(sweep)
    parts: list[RenderableType] = [_head(report), _space(report), _baselines(report)]
    refused = _missing_root(sweep)
    prepared = False
    if sizes:
        try:
            parts.append(_sizes(report, home, data_ready=not refused))
            prepared = not refused
        except DataError as error:
            if refused:
                text = "Sizes cannot be counted before the data is there."
                parts.append(Text(text, style="yellow"))
            else:
                refused.append(str(error))
    try:
        check_fits(kinds(sweep), home, data_ready=prepared)
    except (DataError, SpecError) as error:
        refused.append(str(error))
    parts += [Text(f"Note: {note}", style="yellow") for note in report.notes]
    return DryRun(Group(*parts), tuple(refused))


def _missing_root(sweep: SweepSpec) -> list[str]:
    """What is said where the data is not there; data that kdsweep makes itself has no root."""
    root = getattr(sweep.run.data, "root", None)
    if root is None or Path(root).is_dir():
        return []
    return [
        f"run.data.root: there is no folder {root}, so a launch on this machine is refused. Name "
        "the folder of your data: run.data.root=PATH. (On a cluster, it must be there on every "
        "node.)"
    ]


def _head(report: CheckReport) -> RenderableType:
    sweep = report.sweep
    count = "infinitely many" if report.combinations is None else f"{report.combinations:,}"
    objectives = ", ".join(f"{name} {way}" for name, way in sweep.objectives.items())
    bounds = ", ".join(f"{name} {bound}" for name, bound in sweep.constraints.items()) or "none"
    return Group(
        Text.assemble(("Sweep ", "dim"), (sweep.name, "bold"), " is valid"),
        Text.assemble(("Objectives ", "dim"), objectives, ("  constraints ", "dim"), bounds),
        Text.assemble(
            ("Trials ", "dim"),
            f"{sweep.trials} by {sweep.sampler}",
            ("  of ", "dim"),
            f"{count} configurations",
        ),
    )


def _space(report: CheckReport) -> RenderableType:
    table = _table("searched", "values", "count", "in this file", "published", "when")
    for row in report.rows:
        table.add_row(
            Text(row.key, style="bold"),
            Text(f"{row.kind} {row.values}"),
            "∞" if row.count is None else str(row.count),
            Text(_word(row.here)),
            Text(_word(row.published)),
            Text(row.when),
        )
    return table


def _baselines(report: CheckReport) -> RenderableType:
    table = _table("baseline", "weights of the method's terms")
    for label, run in report.baselines.items():
        scales = weights(run.method.config) if run.method else {}
        words = ", ".join(f"{term} {weight:g}" for term, weight in scales.items())
        table.add_row(Text(label, style="bold"), Text(words or "no method"))
    return table


def _sizes(report: CheckReport, home: Path, *, data_ready: bool) -> RenderableType:
    table = _table("student", "params", "smaller", "MACs", "fewer", "verdict")
    for label, run in report.extremes:
        if data_ready:
            size = static_profile(run, Place(home, home / "check", device="cpu"))
        else:
            size = num_parameters(run, home)
        broken = refusals(report.sweep, size)
        verdict = (
            Text("; ".join(broken), style="red") if broken else Text("may train", style="green")
        )
        table.add_row(
            Text(label, style="bold"),
            f"{size['params']:,.0f}",
            _times(size.get("params_ratio")),
            wording.number("macs", size["macs"]) if "macs" in size else "needs data",
            _times(size.get("macs_ratio")),
            verdict,
        )
    return table


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _word(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column in ("count", "params", "smaller", "MACs", "fewer")
        table.add_column(
            column,
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=column == "searched",
            min_width=len("log_uniform") if column == "values" else None,
        )
    return table
