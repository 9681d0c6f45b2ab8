"""A sweep's report: one HTML file that needs nothing else, and loads nothing from elsewhere."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from kdsweep import __version__
from kdsweep.errors import SweepError
from kdsweep.results import figures, wording
from kdsweep.results.measured import UNDISTILLED
from kdsweep.results.sweep import Sweep
from kdsweep.results.trial import Trial

_MAX_ROWS = 500


def write_report(sweep: Sweep, path: Path) -> Path:
    """Writes the report of a sweep.

    Args:
        sweep: The sweep; it may still run.
        path: The file to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report(sweep), encoding="utf-8")
    return path


def report(sweep: Sweep) -> str:
    """The report of a sweep as one HTML page of about 5 MB, most of it the plotting library."""
    from plotly.offline import get_plotlyjs

    page = _Page()
    best = wording.best_or_none(sweep)
    parts = [_header(sweep)]
    if best is not None:
        parts += [_facts(sweep, best), _trade_off(sweep, best, page), _gain(sweep, best)]
        parts += [_parameters(sweep, page)]
    else:
        parts.append(_no_best(sweep))
        parts += [_trade_off(sweep, best, page)] if sweep.candidates else []
    parts += [_curves(sweep, best, page)]
    if best is not None:
        parts.append(_classes(sweep, best, page))
    parts += [_table(sweep, best), _how(sweep), _footer()]
    resources = files("kdsweep.results") / "page"
    template = Template((resources / "report.html").read_text("utf-8"))
    return template.substitute(
        title=html.escape(f"{sweep.name} · kdsweep"),
        style=(resources / "report.css").read_text("utf-8"),
        script=(resources / "report.js").read_text("utf-8"),
        body="\n".join(parts),
        figures=_script_json(page.figures),
        plotly=get_plotlyjs(),
    )


class _Page:
    """Collects the figures of a page under ids of their own."""

    def __init__(self) -> None:
        self.figures: dict[str, figures.Figure] = {}

    def place(self, figure: figures.Figure) -> str:
        """Adds a figure and gives the element that it is drawn in."""
        name = f"figure-{len(self.figures)}"
        self.figures[name] = figure
        return f'<div class="figure" id="{name}" style="height:{figure["height"]}px"></div>'


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in; NaN becomes null."""
    text = json.dumps(_no_nan(value), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _no_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_no_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _section(title: str, text: str, *content: str) -> str:
    intro = f"<p>{text}</p>" if text else ""
    return f"<section><h2>{title}</h2>{intro}{''.join(content)}</section>"


def _header(sweep: Sweep) -> str:
    run = sweep.info.spec.get("run") or {}
    words = [
        sweep.info.task,
        f"method {sweep.info.method}" if sweep.info.method else "",
        _model("teacher", run.get("teacher")),
        _model("student", run.get("student")),
        ", ".join(f"{count} {state}" for state, count in wording.state_counts(sweep).items()),
    ]
    text = html.escape(" · ".join(word for word in words if word))
    return f"<header><h1>{html.escape(sweep.name)}</h1><p>{text}</p></header>"


def _model(role: str, choice: Any) -> str:
    if not isinstance(choice, Mapping):
        return ""
    width = f" {choice['width']}x" if "width" in choice else ""
    return f"{role} {choice.get('model', '')}{width}"


def _fact(name: str, value: str, note: str, kind: str = "") -> str:
    main, sign, spread = value.partition(" ± ")
    small = f" <small>{sign.strip()} {html.escape(spread)}</small>" if sign else ""
    return (
        f'<div class="fact {kind}"><span class="name">{html.escape(name)}</span>'
        f"<b>{html.escape(main)}{small}</b><span>{html.escape(note)}</span></div>"
    )


def _facts(sweep: Sweep, best: Trial) -> str:
    metric = sweep.metric
    value = best.value(metric)
    fresh = "" if best.label == UNDISTILLED else "fresh "
    seeds = f"mean of {value.n} {fresh}seeds" if value and value.n > 1 else "one seed"
    cards = [_fact("Best student", best.id, best.label or _params_words(best))]
    cards.append(_fact(wording.title(metric), wording.with_spread(metric, value), seeds))
    cards.append(_gain_fact(sweep, best))
    for ratio, amount in (("params_ratio", "params"), ("macs_ratio", "macs")):
        if ratio in best.metrics:
            shown = wording.number(amount, best.metrics.get(amount))
            note = f"{wording.title(ratio)} ({shown})"
            cards.append(_fact("Compression", wording.number(ratio, best.metrics[ratio]), note))
    if sweep.teacher is not None and value is not None and sweep.teacher.metrics.get(metric):
        share = value.mean / sweep.teacher.metrics[metric]
        note = f"teacher: {wording.number(metric, sweep.teacher.metrics[metric])}"
        cards.append(_fact("Of the teacher's value", f"{share:.0%}", note))
    return f'<div class="facts">{"".join(cards)}</div>'


def _params_words(trial: Trial) -> str:
    names = wording.short_names(trial.params)
    words = [f"{names[key]} {wording.parameter(value)}" for key, value in trial.params.items()]
    return ", ".join(words[:4]) + (" …" if len(words) > 4 else "")


def _gain_fact(sweep: Sweep, best: Trial) -> str:
    gain = wording.gain_of(sweep, best)
    if gain is None:
        return _fact("Over undistilled", wording.NOTHING, "no baseline of equal size")
    spread = f" ± {gain.sd:.4f}" if gain.n > 1 else ""
    seeds = f"{gain.n} paired seeds" if gain.n > 1 else "one seed"
    note = f"{gain.baseline}: {wording.beside(gain)}, {seeds}"
    if gain.trial != best.id:
        note = f"{gain.trial} over {note}"
    clear = gain.n > 1 and abs(gain.mean) > gain.sd
    kind = ("good" if gain.mean > 0 else "bad") if clear else ""
    return _fact("Over undistilled", f"{gain.mean:+.4f}{spread}", note, kind)


def _no_best(sweep: Sweep) -> str:
    why = html.escape(wording.why_no_best(sweep))
    if not sweep.candidates:
        return _section(why.rstrip("."), "")
    front = sweep.pareto(constrained=False)
    others = [one for one in sweep.baselines if one.id not in set(front["id"])]
    table = _plain_table(*wording.front_table(sweep, front, others))
    return _section("No student keeps the constraints", why, table)


def _trade_off(sweep: Sweep, best: Trial | None, page: _Page) -> str:
    figure = figures.trade_off(sweep, best)
    if figure is None:
        return ""
    text = (
        "Every finished student. Bars are the standard deviation over seeds; single seeds have "
        "none, and the best of many single seeds is partly luck."
    )
    return _section("Trade-off", text, page.place(figure))


def _gain(sweep: Sweep, best: Trial) -> str:
    gain = wording.gain_of(sweep, best)
    if gain is None:
        text = "No undistilled student of equal size has finished, so the gain is not known."
        return _section("Gain over the undistilled student", text)
    metric = sweep.metric
    rows = [
        [
            str(seed),
            wording.number(metric, gain.baseline_value.seeds[seed]),
            wording.number(metric, gain.student_value.seeds[seed]),
            f"{difference:+.4f}",
        ]
        for seed, difference in gain.differences.items()
    ]
    heads = ["seed", gain.baseline, gain.trial, "difference"]
    text = html.escape(wording.gain_words(gain))
    table = _plain_table(heads, rows) if rows else ""
    title = f"Gain over the undistilled student of {wording.beside(gain)}"
    return _section(title, text, table)


def _plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th class="n">{html.escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>" + "".join(f'<td class="n">{html.escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="narrow"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _parameters(sweep: Sweep, page: _Page) -> str:
    metric = html.escape(wording.title(sweep.metric))
    try:
        frame = sweep.importance()
    except SweepError as error:
        order, shares = [], f"<p>{html.escape(str(error))}</p>"
    else:
        order = frame["parameter"].tolist()
        text = (
            f"Share of the variation of {metric} that each parameter explains (fANOVA over "
            f"{frame.attrs['trials']} trials; the fewer trials, the rougher)."
        )
        shares = _section("What mattered", text, page.place(figures.importance(frame)))
    small = figures.slices(sweep, order)
    if not small:
        return shares if order else ""
    cells = "".join(
        f"<div><h3>{html.escape(key)}</h3>{page.place(figure)}</div>" for key, figure in small
    )
    intro = f"{metric} against each parameter, one point per finished trial (its own seed)."
    grid = _section("Parameters", intro, f'<div class="slices">{cells}</div>')
    return (shares if order else "") + grid


def _curves(sweep: Sweep, best: Trial | None, page: _Page) -> str:
    figure = figures.curves(sweep, best)
    if figure is None:
        return ""
    text = f"{html.escape(wording.title(sweep.metric))} after each epoch; trials in grey."
    return _section("Learning curves", text, page.place(figure))


def _classes(sweep: Sweep, best: Trial, page: _Page) -> str:
    gain = wording.gain_of(sweep, best)
    columns = {"teacher": sweep.teacher} if sweep.teacher is not None else {}
    columns["best student"] = best
    if gain is not None:
        columns[UNDISTILLED] = sweep[gain.baseline]
    sections = []
    for family, names in figures.families(best.metrics).items():
        title = "IoU" if family == "iou" else family
        figure = page.place(figures.classes(columns, names))
        text = "Means over seeds where there are several; sorted by the teacher."
        sections.append(_section(f"{html.escape(title)} per class", text, figure))
    return "".join(sections)


def _table(sweep: Sweep, best: Trial | None) -> str:
    frame = sweep.trials()
    params = wording.short_names(name for name in frame.columns if "." in name)
    metrics = [*sweep.objectives, "params_ratio", "macs_ratio", "latency_ms", "train_seconds"]
    metrics = [name for name in dict.fromkeys(metrics) if name in frame.columns]
    heads = ["trial", "state", "seed", "epoch"]
    heads += [wording.HEADS.get(name, name) for name in metrics] + list(params.values())
    head = "".join(f"<th data-sort>{html.escape(text)}</th>" for text in [*heads, "why"])
    rows = []
    for row in frame.head(_MAX_ROWS).to_dict("records"):
        label = f" ({row['label']})" if row["label"] and row["label"] != row["id"] else ""
        state = html.escape(row["state"])
        cells = [
            f"<td>{html.escape(row['id'] + label)}</td>",
            f'<td><span class="state {state}">{state}</span></td>',
            f"<td>{row['seed']}</td><td>{row['epoch']}</td>",
            *[_cell(wording.number(name, row[name]), row[name]) for name in metrics],
            *[_cell(wording.parameter(row[name]), row[name]) for name in params],
            f"<td>{html.escape(_cut(str(row['reason'])))}</td>",
        ]
        mark = ' class="best"' if best is not None and row["id"] == best.id else ""
        rows.append(f"<tr{mark}>{''.join(cells)}</tr>")
    text = "Final values of each run with its own seed. Click a column to sort."
    if len(frame) > _MAX_ROWS:
        text += f" The first {_MAX_ROWS} of {len(frame)}."
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return _section("Trials", text, f'<div class="scroll">{table}</div>')


def _cell(text: str, value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    key = ("" if math.isnan(value) else repr(float(value))) if number else str(value or "")
    return f'<td data-value="{html.escape(key)}">{html.escape(text)}</td>'


def _cut(reason: str) -> str:
    line = reason.partition("\n")[0]
    return line if len(line) <= 90 else line[:89] + "…"


def _how(sweep: Sweep) -> str:
    ends = [record.ended_s for record in sweep.records if record.ended_s is not None]
    starts = [record.started_s for record in sweep.records]
    cost = {
        "Trials": str(len(sweep.records)),
        "From first start to last end": wording.duration(max(ends) - min(starts)) if ends else "",
        "GPU time of finished trials": _total(sweep, "gpu_seconds"),
        "Training time of finished trials": _total(sweep, "train_seconds"),
    }
    facts = {**{name: text for name, text in cost.items() if text}, **sweep.info.tags}
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(text))}</td></tr>"
        for name, text in facts.items()
    )
    yaml = sweep.info.sweep_yaml or json.dumps(sweep.info.spec, indent=2)
    table = f'<div class="scroll"><table class="narrow"><tbody>{rows}</tbody></table></div>'
    return _section(
        "How it was run",
        "",
        table,
        f"<details><summary>Sweep file</summary><pre>{html.escape(yaml)}</pre></details>",
    )


def _total(sweep: Sweep, metric: str) -> str:
    # one that reused the result of another has that one's figures, and spent nothing
    finished = [record for record in sweep.records if record.state == "finished"]
    values = [record.metrics.get(metric, 0.0) for record in finished]
    total = sum(value for value in values if math.isfinite(value))
    return wording.duration(total) if total else ""


def _footer() -> str:
    return f"<footer>Written by kdsweep {html.escape(__version__)}.</footer>"
