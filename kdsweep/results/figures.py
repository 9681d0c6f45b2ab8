"""The report's figures, as plain Plotly descriptions (dictionaries that become JSON).

Colours that follow the reader's light or dark theme are names with an ``@``; the page replaces
them (``page/report.js``). Texts are escaped, because Plotly reads some HTML in them.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from kdsweep.results import wording
from kdsweep.results.directions import Direction
from kdsweep.results.measured import UNDISTILLED, Candidate
from kdsweep.results.sweep import Sweep
from kdsweep.results.trial import Trial

Figure = dict[str, Any]

_MAX_SLICES = 9
_MAX_CURVES = 40
_X_AXES = ("params_ratio", "macs_ratio", "latency_ms")


def axis_title(metric: str) -> str:
    """A metric as the title of an axis."""
    ratios = {"params_ratio": "parameters", "macs_ratio": "MACs"}
    if metric in ratios:
        return f"Compression ({ratios[metric]} of teacher / student)"
    if metric.endswith("_ms"):
        return f"{wording.title(metric).capitalize()} in ms"
    return html.escape(wording.title(metric))


def trade_off(sweep: Sweep, best: Trial | None) -> Figure | None:
    """Metric against compression: all finished students, the front, teacher and baselines."""
    metric, x = sweep.metric, _size_axis(sweep)
    if x is None:
        return None
    search = [one for one in sweep.candidates if one.record.kind == "search"]
    traces = [
        _front_line(sweep, metric, x, constrained=best is not None),
        _points("single seed", [one for one in search if not one.confirmed], metric, x, "@muted"),
        _points("confirmed", [one for one in search if one.confirmed], metric, x, "@accent"),
    ]
    markers = {UNDISTILLED: ("@warm", "diamond"), "published": ("@violet", "square")}
    for trial in sweep.baselines:
        colour, symbol = markers.get(trial.label, ("@muted", "diamond"))
        assert trial.candidate is not None
        name = trial.label or trial.id
        traces.append(_points(name, [trial.candidate], metric, x, colour, symbol, size=12))
    if sweep.teacher is not None:
        teacher = Candidate(sweep.teacher.record)
        traces.append(_points("teacher", [teacher], metric, x, "@text", "star", size=15))
    if best is not None and best.candidate is not None:
        traces.append(
            _points("best student", [best.candidate], metric, x, "@accent", "circle-open", 20)
        )
    log = x.endswith("_ratio")
    axis = {"title": axis_title(x), **({"type": "log", "dtick": "D1"} if log else {})}
    if log:
        axis |= _ratio_ticks([point for trace in traces if trace for point in trace["x"]])
    return {
        "data": [trace for trace in traces if trace is not None],
        "layout": {
            "xaxis": axis,
            "yaxis": {"title": axis_title(metric)},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        },
        "height": 460,
    }


def _size_axis(sweep: Sweep) -> str | None:
    there = [x for x in _X_AXES if x in sweep.metrics]
    for x in there:
        if len({one.mean(x) for one in sweep.candidates if not math.isnan(one.mean(x))}) > 1:
            return x
    return there[0] if there else None


def _ratio_ticks(values: Sequence[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    steps = [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024]
    ticks = [step for step in steps if low * 0.8 <= step <= high * 1.25]
    return {"tickvals": ticks, "ticktext": [f"{step:g}x" for step in ticks], "minor": {}}


def _points(
    name: str,
    found: Sequence[Candidate],
    metric: str,
    x: str,
    colour: str,
    symbol: str = "circle",
    size: int = 9,
) -> Figure | None:
    shown = [one for one in found if not math.isnan(one.mean(metric) + one.mean(x))]
    if not shown:
        return None
    values = [one.value(metric) for one in shown]
    spreads = [0.0 if v is None or math.isnan(v.sd) else v.sd for v in values]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": html.escape(name),
        "x": [one.mean(x) for one in shown],
        "y": [one.mean(metric) for one in shown],
        "error_y": {"array": spreads, "visible": any(spreads), "thickness": 1.2, "width": 3},
        "text": [_hover(one, metric) for one in shown],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": colour,
            "size": size,
            "symbol": symbol,
            "opacity": 0.9,
            "line": {"width": 2.5 if symbol.endswith("open") else 0},
        },
    }


def _hover(one: Candidate, metric: str) -> str:
    lines = [one.record.trial + (f" ({one.label})" if one.label else "")]
    lines.append(f"{wording.title(metric)} {wording.over_seeds(metric, one.value(metric))}")
    lines.append(wording.compression(one))
    names = wording.short_names(one.record.params)
    lines += [f"{names[k]} = {wording.parameter(v)}" for k, v in one.record.params.items()]
    return "<br>".join(html.escape(line) for line in lines if line)


def _front_line(sweep: Sweep, metric: str, x: str, *, constrained: bool) -> Figure | None:
    way: Direction = "max" if x.endswith("_ratio") else "min"
    chosen: dict[str, Direction] = {metric: sweep.objectives[metric], x: way}
    front = sweep.pareto(chosen, constrained=constrained).sort_values(x)
    if len(front) < 2:
        return None
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        "x": front[x].tolist(),
        "y": front[metric].tolist(),
        "line": {"color": "@accent", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }


def slices(sweep: Sweep, order: Sequence[str]) -> list[tuple[str, Figure]]:
    """One small figure per parameter: the metric against the parameter's value.

    Args:
        sweep: The sweep.
        order: Parameters, the most important first.

    Returns:
        Pairs of the parameter and its figure.
    """
    metric = sweep.metric
    found = [one for one in sweep.candidates if one.record.kind == "search"]
    keys = list(dict.fromkeys([*order, *(key for one in found for key in one.record.params)]))
    figures = []
    for key in keys[:_MAX_SLICES]:
        shown = [one for one in found if key in one.record.params and metric in one.record.metrics]
        values = [one.record.params[key] for one in shown]
        if len({str(value) for value in values}) < 2:
            continue
        figures.append((key, _slice(shown, values, metric)))
    return figures


def _slice(shown: Sequence[Candidate], values: Sequence[Any], metric: str) -> Figure:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    axis: dict[str, Any]
    if not numbers:
        texts = [html.escape(wording.parameter(value)) for value in sorted(values, key=_order)]
        axis = {"type": "category", "categoryorder": "array", "categoryarray": texts}
    else:
        wide = min(values) > 0 and max(values) / min(values) >= 20
        axis = {"type": "log", "dtick": 1, "exponentformat": "power"} if wide else {"nticks": 6}
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [v if numbers else html.escape(wording.parameter(v)) for v in values],
        "y": [one.record.metrics[metric] for one in shown],
        "text": [_hover(one, metric) for one in shown],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": "@accent", "size": 7, "opacity": 0.75},
    }
    return {
        "data": [trace],
        "layout": {"xaxis": axis, "yaxis": {"nticks": 5}, "margin": {"l": 48, "r": 8, "b": 34}},
        "height": 210,
    }


def _order(value: Any) -> tuple[list[float], str]:
    """Sorts lists by their numbers, and whatever is no number by its text, behind them."""
    parts = value if isinstance(value, list) else [value]
    return [part if isinstance(part, (int, float)) else math.inf for part in parts], str(value)


def importance(frame: pd.DataFrame) -> Figure:
    """Bars of what `Sweep.importance` gives, the largest on top."""
    rows = frame.iloc[::-1]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": rows["importance"].tolist(),
        "y": [html.escape(name) for name in rows["parameter"]],
        "text": [f"{share:.0%}" for share in rows["importance"]],
        "textposition": "auto",
        "marker": {"color": "@accent"},
        "hoverinfo": "skip",
    }
    layout = {
        "xaxis": {"tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {"automargin": True},
        "bargap": 0.35,
    }
    return {"data": [trace], "layout": layout, "height": 60 + 34 * len(frame)}


def curves(sweep: Sweep, best: Trial | None) -> Figure | None:
    """The metric after every epoch: the trials in grey, the ones of interest in colour."""
    metric = sweep.metric
    named = {sweep.teacher.id: ("teacher", "@text", "dash")} if sweep.teacher else {}
    for trial in sweep.baselines:
        colour = {UNDISTILLED: "@warm", "published": "@violet"}.get(trial.label, "@muted")
        named[trial.id] = (trial.label or trial.id, colour, "solid")
    if best is not None:
        named[best.id] = (f"best ({best.id})", "@accent", "solid")
    search = [r for r in sweep.records if r.kind == "search" and r.epoch > 0]
    others = [r for r in search if r.trial not in named]
    rest = sorted(others, key=lambda r: -r.metrics.get(metric, -math.inf))
    traces = []
    for record in [*rest[:_MAX_CURVES], *(r for r in sweep.records if r.trial in named)]:
        points = record.history([metric]).get(metric, [])
        if points:
            traces.append(_curve(record.trial, record.state, points, named.get(record.trial)))
    if not traces:
        return None
    epochs = max(trace["x"][-1] for trace in traces)
    layout = {
        "xaxis": {"title": "Epoch", **({"dtick": 1} if epochs <= 15 else {})},
        "yaxis": {"title": axis_title(metric)},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return {"data": traces, "layout": layout, "height": 380}


def _curve(
    trial: str, state: str, points: Sequence[tuple[int, float]], named: tuple[str, str, str] | None
) -> Figure:
    name, colour, dash = named or (f"{trial} ({state})", "@faint", "solid")
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(points) < 2 or named else "lines",
        "name": html.escape(name),
        "showlegend": named is not None,
        "x": [epoch for epoch, _ in points],
        "y": [value for _, value in points],
        "line": {"color": colour, "width": 2.2 if named else 1, "dash": dash},
        "marker": {"size": 5 if named else 4, "color": colour},
        "hovertemplate": f"{html.escape(name)}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>",
    }


def families(metrics: Iterable[str]) -> dict[str, list[str]]:
    """Final metrics that come per class, by what stands before the slash: ``iou/car``."""
    found: dict[str, list[str]] = {}
    for name in metrics:
        family, _, rest = name.partition("/")
        if rest and family not in ("loss", "grad_share", "seconds"):
            found.setdefault(family, []).append(name)
    return found


def classes(columns: Mapping[str, Trial], names: Sequence[str]) -> Figure:
    """One row per class, one mark per network; the classes with the widest spread on top.

    Args:
        columns: Trials by what they are called.
        names: Metrics, one per class.
    """
    styles = {
        "teacher": ("@text", "line-ns-open"),
        "best student": ("@accent", "circle"),
        UNDISTILLED: ("@warm", "diamond"),
    }
    last = next(iter(columns.values()))
    ordered = sorted(names, key=lambda name: last.metrics.get(name, math.nan))
    labels = [html.escape(name.partition("/")[2]) for name in ordered]
    traces = []
    for title, trial in columns.items():
        colour, symbol = styles.get(title, ("@violet", "square"))
        means = [value.mean if (value := trial.value(name)) else None for name in ordered]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": html.escape(title),
                "x": means,
                "y": labels,
                "marker": {
                    "color": colour,
                    "symbol": symbol,
                    "size": 14 if symbol.startswith("line") else 10,
                    "line": {"width": 2.5 if symbol.startswith("line") else 0},
                },
                "hovertemplate": f"%{{y}}: %{{x:.3f}}<extra>{html.escape(title)}</extra>",
            }
        )
    layout = {
        "xaxis": {"rangemode": "tozero"},
        "yaxis": {"automargin": True, "dtick": 1},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return {"data": traces, "layout": layout, "height": 90 + 24 * len(ordered)}
