"""A sweep's result as files and words: front, trials and report; note and headline."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kdsweep.results import wording
from kdsweep.results.report import write_report
from kdsweep.results.sweep import Sweep
from kdsweep.results.trial import Trial

PARETO_FILE, REPORT_FILE, TRIALS_FILE = "pareto.csv", "report.html", "trials.csv"


@dataclass(frozen=True)
class Summary:
    """A sweep's result.

    Attributes:
        files: What was written, by the name it gets in the tracker.
        note: The result in Markdown.
        headline: The result in one line; empty while no student has finished.
        best: Id of the best student; empty where nothing has finished or keeps the constraints.
    """

    files: dict[str, Path] = field(default_factory=dict)
    note: str = ""
    headline: str = ""
    best: str = ""


def summarise(sweep: Sweep, folder: Path) -> Summary:
    """Writes the front and all trials as CSV and the report as HTML.

    Where no student keeps the sweep's constraints, the front is that of all finished ones, and its
    column ``breaks`` says what each does not keep.

    Args:
        sweep: The sweep, finished or not.
        folder: Where the files go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        REPORT_FILE: write_report(sweep, folder / REPORT_FILE),
        TRIALS_FILE: folder / TRIALS_FILE,
    }
    sweep.trials(all_metrics=True).to_csv(files[TRIALS_FILE], index=False)
    best = wording.best_or_none(sweep)
    if sweep.candidates:
        files[PARETO_FILE] = folder / PARETO_FILE
        front = sweep.pareto(constrained=best is not None)
        front.to_csv(files[PARETO_FILE], index=False)
    return Summary(files, note(sweep), wording.headline(sweep), best.id if best else "")


def note(sweep: Sweep) -> str:
    """The result as Markdown: best student, gain, front, and where to look next."""
    states = ", ".join(f"{n} {state}" for state, n in wording.state_counts(sweep).items())
    trials = f"Trials: {states or 'none yet'}."
    best = wording.best_or_none(sweep)
    if best is None:
        lines = [f"{_plain(wording.why_no_best(sweep))} {trials}"]
        if sweep.candidates:
            lines += ["", *_front_table(sweep, sweep.pareto(constrained=False), sweep.baselines)]
        return "\n".join(lines)
    metric = sweep.metric
    value = wording.over_seeds(metric, best.value(metric))
    smaller = wording.compression(best) or "size not measured"
    # MLflow folds all but the first lines away: the result comes first.
    lines = [f"**Best: {best.id}**, {wording.title(metric)} {value}, {smaller}. {trials}"]
    gain = wording.gain_of(sweep, best)
    if gain is not None:
        words = _plain(wording.gain_words(gain))
        lines += ["", f"**Over the undistilled student of {wording.beside(gain)}:** {words}"]
    lines += ["", *_front_table(sweep, sweep.pareto())]
    code = f'kdsweep.open_sweep("{sweep.name}")["{best.id}"].load_student()'
    lines += [
        "",
        f"Load it: `{code}`. Artifacts of this run: `{REPORT_FILE}` (figures), "
        f"`{PARETO_FILE}`, `{TRIALS_FILE}`, `sweep.yaml`.",
    ]
    return "\n".join(lines)


def _front_table(sweep: Sweep, front: pd.DataFrame, also: Iterable[Trial] = ()) -> list[str]:
    front = front.head(12)
    shown = set(front["id"])
    heads, rows = wording.front_table(sweep, front, [one for one in also if one.id not in shown])
    lines = ["| " + " | ".join(map(_plain, heads)) + " |", "|" + " --- |" * len(heads)]
    return lines + ["| " + " | ".join(map(_plain, cells)) + " |" for cells in rows]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\`*_{}[]<>()#|~!&":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
