"""What the command line shows of results, as rich renderables. All text is data, never markup."""

from collections.abc import Collection, Iterable

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kdsweep.results import wording
from kdsweep.results.grid import Grid
from kdsweep.results.sweep import Sweep
from kdsweep.results.trial import Trial

_STYLES = {
    "finished": "green",
    "running": "cyan",
    "stopped": "yellow",
    "failed": "bold red",
    "rejected": "yellow",
    "reused": "dim",
    "interrupted": "magenta",
}


def sweeps_table(frame: pd.DataFrame) -> RenderableType:
    """`kdsweep ls`: one line per sweep.

    Args:
        frame: What `kdsweep.results.list_sweeps` gives.
    """
    if frame.empty:
        return Text("No sweeps yet. Start one: kdsweep launch search_spaces/quickstart.yaml")
    table = Grid(
        ["sweep", "state", "best", "method", "started (UTC)", "took"],
        numeric={"took"},
        optional={"method", "started (UTC)", "took"},
    )
    for row in frame.to_dict("records"):
        method = "/".join(word for word in (row["task"], row["method"]) if word)
        table.add_row(
            Text(row["name"], style="bold"),
            _state(row["state"]),
            Text(row["headline"] or wording.NOTHING),
            Text(method),
            Text(row["started"].strftime("%Y-%m-%d %H:%M")),
            Text(wording.duration(row["hours"] * 3600)),
        )
    return table


def sweep_view(sweep: Sweep) -> RenderableType:
    """`kdsweep show NAME`: how far it is, the best, the gain, the front, where to look next."""
    counts = wording.state_counts(sweep)
    states = Text(", ").join(
        Text.assemble(str(count), " ", _state(state)) for state, count in counts.items()
    )
    objectives = ", ".join(f"{name} {way}" for name, way in sweep.objectives.items())
    lines: list[RenderableType] = [
        Text.assemble(("Sweep ", "dim"), (sweep.name, "bold"), f"  {sweep.info.task}"),
        Text.assemble(("Trials ", "dim"), states or Text("none yet")),
        Text.assemble(("Objectives ", "dim"), objectives),
    ]
    best = wording.best_or_none(sweep)
    if best is None:
        lines.append(Text(wording.why_no_best(sweep)))
        if sweep.candidates:
            lines += [Text(), pareto_table(sweep, sweep.pareto(constrained=False))]
        return Group(*lines)
    return Group(*lines, Text(), trial_view(sweep, best), Text(), pareto_table(sweep))


def trial_view(sweep: Sweep, trial: Trial) -> RenderableType:
    """`kdsweep best NAME`: a student's value, size, gain, parameters, and how to load it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    label = f" ({trial.label})" if trial.label else ""
    grid.add_row("Student", Text(f"{trial.id}{label}", style="bold"))
    for metric in sweep.objectives:
        grid.add_row(
            Text(wording.title(metric)), Text(wording.over_seeds(metric, trial.value(metric)))
        )
    if smaller := wording.compression(trial):
        grid.add_row("Compression", Text(smaller))
    if trial.candidate is not None:
        gain = wording.gain_of(sweep, trial)
        none = "no undistilled baseline of equal size"
        grid.add_row("Over undistilled", Text(none if gain is None else wording.gain_words(gain)))
    for name, value in trial.params.items():
        grid.add_row(Text(name), Text(wording.parameter(value)))
    load = f'{sweep.where.call(sweep.name)}["{trial.id}"].load_student()'
    grid.add_row("Load it", Text(load, style="cyan"))
    return grid


def pareto_table(sweep: Sweep, where: pd.DataFrame | None = None) -> RenderableType:
    """`kdsweep pareto NAME`: the students that no other beats, with teacher and baselines below.

    Args:
        sweep: The sweep.
        where: The front as `Sweep.pareto` gives it; computed if None. If it is not constrained,
            each student is shown with the constraints that it breaks.
    """
    front = sweep.pareto() if where is None else where
    marked = ["breaks"] if "breaks" in front.columns else []
    metrics = _shown_metrics(sweep, front.columns)
    params = wording.short_names(name for name in front.columns if "." in name)
    heads = [wording.HEADS.get(metric, metric) for metric in metrics]
    table = Grid(
        ["student", *marked, *heads, "seeds", *params.values()],
        numeric={*heads, "seeds"},
        optional={*heads[1:], "seeds", *params.values()},
    )
    rows = {row["id"]: row for row in front.to_dict("records")}
    others = [trial for trial in [sweep.teacher, *sweep.baselines] if trial is not None]
    rest = [trial for trial in others if trial.id not in rows]
    for name, row in rows.items():
        table.add_row(
            *_measured(sweep, sweep[name], metrics, marked),
            *[Text(wording.parameter(row[key])) for key in params],
        )
    table.end_section()
    for trial in rest:
        table.add_row(*_measured(sweep, trial, metrics, marked), style="dim")
    return table


def trials_table(sweep: Sweep, frame: pd.DataFrame | None = None) -> RenderableType:
    """`kdsweep trials NAME`: every trial, with what it was and what became of it.

    Args:
        sweep: The sweep.
        frame: Rows as `Sweep.trials` gives them, perhaps filtered; all of them if None.
    """
    rows = sweep.trials() if frame is None else frame
    metrics = _shown_metrics(sweep, rows.columns)
    params = wording.short_names(name for name in rows.columns if "." in name)
    heads = [wording.HEADS.get(metric, metric) for metric in metrics]
    table = Grid(
        ["trial", "state", "epoch", *heads, *params.values(), "why"],
        numeric={*heads, "epoch"},
        optional={*heads[1:], *params.values(), "why"},
    )
    for row in rows.to_dict("records"):
        table.add_row(
            _name(row["id"], row["label"]),
            _state(row["state"]),
            Text(str(row["epoch"])),
            *[Text(wording.number(metric, row[metric])) for metric in metrics],
            *[Text(wording.parameter(row[name])) for name in params],
            Text(str(row["reason"]).partition("\n")[0][:60]),
        )
    return table


def importance_table(frame: pd.DataFrame) -> RenderableType:
    """What `Sweep.importance` gives, with bars."""
    table = Grid(["parameter", "share", ""], numeric={"share"}, optional={""})
    for row in frame.to_dict("records"):
        share = row["importance"]
        table.add_row(Text(row["parameter"]), Text(f"{share:.0%}"), Text("█" * round(30 * share)))
    attrs = frame.attrs
    table.caption = f"{attrs['method']} of {attrs['metric']} over {attrs['trials']} trials"
    return table


def _shown_metrics(sweep: Sweep, columns: Iterable[str]) -> list[str]:
    there = set(columns)
    wanted = [
        *sweep.objectives,
        *[ratio for ratio in ("params_ratio", "macs_ratio") if ratio[:-6] not in sweep.objectives],
        "latency_ms",
    ]
    return [name for name in dict.fromkeys(wanted) if name in there]


def _measured(
    sweep: Sweep, trial: Trial, metrics: Iterable[str], marked: Collection[str]
) -> list[Text]:
    values = {metric: trial.value(metric) for metric in metrics}
    seeds = max((value.n for value in values.values() if value is not None), default=0)
    cells = [Text(wording.with_spread(metric, value)) for metric, value in values.items()]
    marks = [Text(sweep.breaks(trial.candidate) if trial.candidate else "") for _ in marked]
    return [_name(trial.id, trial.label), *marks, *cells, Text(str(seeds))]


def _name(trial: str, label: str) -> Text:
    extra = f" ({label})" if label and label != trial else ""
    return Text.assemble((trial, "bold"), extra)


def _state(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, ""))
