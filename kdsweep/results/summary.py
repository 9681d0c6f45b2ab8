"""A sweep's result as files and words: front, trials and report; note and headline."""

from dataclasses import dataclass, field
from pathlib import Path

from kdsweep.results import wording
from kdsweep.results.report import write_report
from kdsweep.results.sweep import Sweep

PARETO_FILE, REPORT_FILE, TRIALS_FILE = "pareto.csv", "report.html", "trials.csv"


@dataclass(frozen=True)
class Summary:
    """A sweep's result.

    Attributes:
        files: What was written, by the name it gets in the tracker.
        note: The result in Markdown.
        headline: The result in one line; empty while no student has finished.
        best: Id of the best student, or empty.
    """

    files: dict[str, Path] = field(default_factory=dict)
    note: str = ""
    headline: str = ""
    best: str = ""


def summarise(sweep: Sweep, folder: Path) -> Summary:
    """Writes the front and all trials as CSV and the report as HTML.

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
    if best is None:
        return Summary(files, note(sweep))
    files[PARETO_FILE] = folder / PARETO_FILE
    sweep.pareto().to_csv(files[PARETO_FILE], index=False)
    return Summary(files, note(sweep), wording.headline(sweep), best.id)


def note(sweep: Sweep) -> str:
    """The result as Markdown: best student, gain, front, and where to look next."""
    states = ", ".join(f"{n} {state}" for state, n in wording.state_counts(sweep).items())
    trials = f"Trials: {states or 'none yet'}."
    best = wording.best_or_none(sweep)
    if best is None:
        return f"No student has finished yet. {trials}"
    metric = sweep.metric
    value = wording.over_seeds(metric, best.value(metric))
    smaller = wording.compression(best) or "size not measured"
    # MLflow folds all but the first lines away: the result comes first.
    lines = [f"**Best: {best.id}**, {wording.title(metric)} {value}, {smaller}. {trials}"]
    gain = wording.gain_of(sweep, best)
    if gain is not None:
        words = _plain(wording.gain_words(gain))
        lines += ["", f"**Over the undistilled student of equal size:** {words}"]
    lines += ["", *_front_table(sweep)]
    code = f'kdsweep.open_sweep("{sweep.name}")["{best.id}"].load_student()'
    lines += [
        "",
        f"Load it: `{code}`. Artifacts of this run: `{REPORT_FILE}` (figures), "
        f"`{PARETO_FILE}`, `{TRIALS_FILE}`, `sweep.yaml`.",
    ]
    return "\n".join(lines)


def _front_table(sweep: Sweep) -> list[str]:
    front = sweep.pareto().head(12)
    metrics = [*sweep.objectives, "params_ratio", "latency_ms"]
    metrics = [name for name in dict.fromkeys(metrics) if name in front.columns]
    params = wording.short_names(name for name in front.columns if "." in name)
    heads = ["student", *(wording.HEADS.get(name, name) for name in metrics), *params.values()]
    rows = ["| " + " | ".join(map(_plain, heads)) + " |", "|" + " --- |" * len(heads)]
    for row in front.to_dict("records"):
        values = [wording.with_spread(m, sweep[row["id"]].value(m)) for m in metrics]
        cells = [row["id"], *values, *(wording.parameter(row[key]) for key in params)]
        rows.append("| " + " | ".join(map(_plain, cells)) + " |")
    return rows


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\`*_{}[]<>()#|~!&":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
