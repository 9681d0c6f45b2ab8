"""Numbers and results in words, the same in tables, reports and notes."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from kdsweep.errors import SweepError
from kdsweep.results.gain import Gain
from kdsweep.results.measured import UNDISTILLED, Candidate, Value
from kdsweep.results.sweep import Sweep
from kdsweep.results.trial import Trial

NOTHING = "–"

TITLES = {
    "miou": "mIoU",
    "params": "parameters",
    "macs": "MACs",
    "params_ratio": "fewer parameters",
    "macs_ratio": "fewer MACs",
    "latency_ratio": "lower latency",
    "peak_memory_ratio": "less memory",
    "file_ratio": "smaller file",
    "latency_ms": "latency",
    "peak_memory_mb": "peak memory",
    "file_mb": "file",
    "gpu_seconds": "GPU time",
    "train_seconds": "training",
    "step_seconds": "in steps",
}


HEADS = {**TITLES, "params_ratio": "params ÷", "macs_ratio": "MACs ÷", "params": "params"}
"""Heads of columns; ÷ says that the teacher's value is divided by the student's."""


def title(metric: str) -> str:
    """A metric's name as people say it."""
    return TITLES.get(metric, metric)


def number(metric: str, value: float | None) -> str:
    """A metric's value with its unit, as short as is useful: ``14.0M``, ``4.0x``, ``31 ms``."""
    if value is None or math.isnan(value):
        return NOTHING
    if metric.endswith("_ratio"):
        return f"{value:.1f}x"
    if metric in ("params", "macs"):
        return _counted(value)
    if metric.endswith("_ms"):
        return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"
    if metric.endswith("_mb"):
        return f"{value:.3g} MB" if value < 1000 else f"{value:,.0f} MB"
    if metric.endswith("seconds"):
        return duration(value)
    if abs(value) < 10:
        return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"
    return f"{value:.4g}"


def _counted(value: float) -> str:
    for limit, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """A time span: ``42 s``, ``3.5 min``, ``2.1 h``, ``3.4 d``."""
    if math.isnan(seconds):
        return NOTHING
    for limit, unit, name in ((172800, 86400, "d"), (5400, 3600, "h"), (90, 60, "min")):
        if seconds >= limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f} s"


def parameter(value: Any) -> str:
    """A sampled value: four digits of a number, lists without spaces."""
    if isinstance(value, float) and math.isnan(value):
        return NOTHING
    if isinstance(value, float):
        return f"{value:.4g}"
    return NOTHING if value is None else str(value).replace(" ", "")


def with_spread(metric: str, value: Value | None) -> str:
    """A value with its spread, where it has one: ``0.5540 ± 0.0020``."""
    if value is None:
        return NOTHING
    if value.n < 2 or value.sd == 0:
        return number(metric, value.mean)
    return f"{number(metric, value.mean)} ± {number(metric, value.sd)}"


def over_seeds(metric: str, value: Value | None) -> str:
    """A value with its spread and the seeds behind it: ``0.5540 ± 0.0020 (3 seeds)``."""
    words = with_spread(metric, value)
    return f"{words} ({value.n} seeds)" if value is not None and "±" in words else words


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Dotted keys by their last part, where that is theirs alone: ``width``."""
    keys = list(keys)
    lasts = [key.rpartition(".")[2] for key in keys]
    return {
        key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)
    }


def compression(student: Trial | Candidate) -> str:
    """How much smaller a student is: ``4.0x fewer parameters, 3.9x fewer MACs``.

    The mean over its seeds: their latency differs.
    """
    found = {name: student.value(name) for name in ("params_ratio", "macs_ratio", "latency_ratio")}
    return ", ".join(
        f"{number(name, value.mean)} {title(name)}" for name, value in found.items() if value
    )


def state_counts(sweep: Sweep) -> dict[str, int]:
    """Trials by state, most frequent first."""
    states = [record.state for record in sweep.records]
    return {state: states.count(state) for state in sorted(set(states), key=states.count)[::-1]}


def best_or_none(sweep: Sweep) -> Trial | None:
    """The best student by the first objective; None where there is none: see `why_no_best`."""
    try:
        return sweep.best()
    except SweepError:
        return None


def why_no_best(sweep: Sweep) -> str:
    """Why a sweep has no best student: nothing has finished, or nothing keeps its constraints."""
    if not sweep.candidates:
        return "No student has finished yet."
    try:
        return f"Trial {sweep.best().id} is the best student."
    except SweepError as error:
        words = str(error)
        return words[0].upper() + words[1:]


def front_table(
    sweep: Sweep, front: pd.DataFrame, also: Iterable[Trial] = ()
) -> tuple[list[str], list[list[str]]]:
    """A front in words.

    Args:
        sweep: The sweep.
        front: Rows of `Sweep.pareto`.
        also: Students that are shown below it.

    Returns:
        The heads, and a row of cells for each student.
    """
    metrics = [*sweep.objectives, "params_ratio", "latency_ms"]
    metrics = [name for name in dict.fromkeys(metrics) if name in front.columns]
    params = short_names(name for name in front.columns if "." in name)
    marked = "breaks" in front.columns
    heads = ["student", *(HEADS.get(name, name) for name in metrics), *params.values()]
    rows = []
    for trial in [*(sweep[name] for name in front["id"]), *also]:
        values = [with_spread(metric, trial.value(metric)) for metric in metrics]
        cells = [parameter(trial.params.get(key)) for key in params]
        broken = [sweep.breaks(trial.candidate)] if marked and trial.candidate else []
        rows.append([trial.id, *values, *cells, *broken])
    return [*heads, *(["breaks"] if marked else [])], rows


def gain_of(sweep: Sweep, best: Trial) -> Gain | None:
    """The gain of the best student over the undistilled one of its size, or None without one.

    Where the best student is undistilled itself, the gain of the best distilled one.
    """
    try:
        return sweep.gain(None if best.label == UNDISTILLED else best)
    except SweepError:
        return None


def gain_words(gain: Gain) -> str:
    """A gain in a sentence, with the values behind it and how the baseline was trained."""
    return (
        f"{gain} in {title(gain.metric)}: {gain.trial} "
        f"{over_seeds(gain.metric, gain.student_value)}, {gain.baseline} "
        f"{over_seeds(gain.metric, gain.baseline_value)}, of {_recipe(gain)} recipe."
    )


def beside(gain: Gain) -> str:
    """What a student and its baseline have in common: ``equal size and recipe``."""
    return "equal size and recipe" if gain.same_recipe else "equal size, another recipe"


def _recipe(gain: Gain) -> str:
    return "the same" if gain.same_recipe else "another"


def headline(sweep: Sweep) -> str:
    """The result in one line, for listings; empty while nothing has finished."""
    best = best_or_none(sweep)
    if best is None:
        return "no student keeps the constraints" if sweep.candidates else ""
    value = over_seeds(sweep.metric, best.value(sweep.metric))
    ratio = best.metrics.get("params_ratio")
    words = f"{title(sweep.metric)} {value}"
    words += f" at {number('params_ratio', ratio)}" if ratio else ""
    gain = gain_of(sweep, best)
    if gain is None:
        return words
    whose = "" if gain.trial == best.id else f"{best.id}; {gain.trial} "
    other = "" if gain.same_recipe else " of another recipe"
    return f"{words}, {whose}{gain.mean:+.4f} over {gain.baseline}{other}"
