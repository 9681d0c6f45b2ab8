"""What is shown of a sweep whose finished students all break a constraint."""

import pandas as pd
import pytest
from made_up_sweep import SPEC, run_trial
from test_report import Page, figures_of
from test_tables import shown

from kdsweep.results import Sweep, summarise, tables, wording
from kdsweep.results.report import report
from kdsweep.results.summary import note
from kdsweep.tracking import SweepInfo

WHY = (
    "None of the 3 finished students of sweep 's' has latency_ms <= 5. There, latency_ms reaches "
    "from 15 to 30."
)


@pytest.fixture
def slow(tracker):
    """Two students and a baseline that need 15 to 30 ms, where 5 are allowed."""
    tracker.open_sweep(SweepInfo("s", {**SPEC, "constraints": {"latency_ms": "<= 5"}}))
    run_trial(tracker, "undistilled", 0.5, 0.50, kind="baseline", label="undistilled", sweep="s")
    run_trial(tracker, "t000", 0.5, 0.55, sweep="s", params={"student.width": 0.5})
    run_trial(tracker, "t001", 0.25, 0.45, sweep="s", params={"student.width": 0.25})
    return Sweep("s", tracker)


def test_the_view_says_which_constraint_is_broken_by_how_much_and_shows_what_there_is(slow):
    text = shown(tables.sweep_view(slow))
    assert WHY in " ".join(text.split())
    assert "No student has finished yet" not in text and "load_student" not in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for trial in ("t000", "t001", "undistilled"):
        assert "latency_ms <= 5" in rows[trial]


def test_a_narrow_terminal_keeps_the_mark(slow):
    assert "latency_ms <= 5" in shown(tables.pareto_table(slow, slow.pareto(constrained=False)), 50)


def test_the_note_says_why_and_holds_the_table(slow):
    text = note(slow).replace("\\", "")
    assert text.startswith(WHY + " Trials: 3 finished.")
    assert "| t000 | 0.5500 | 22.5G | 4.0x | 30 ms | 0.5 | latency_ms <= 5 |" in text
    assert "| undistilled | 0.5000 |" in text and "load_student" not in text


def test_the_report_says_why_and_draws_what_there_is(slow):
    page = Page(report(slow))
    assert "No student keeps the constraints" in page.text and WHY in page.text
    assert "No student has finished yet" not in page.text
    traces = {trace["name"]: trace for trace in figures_of(report(slow))["figure-0"]["data"]}
    assert len(traces["single seed"]["x"]) == 2 and len(traces["front"]["x"]) == 2


def test_the_summary_keeps_the_front_with_what_each_student_breaks(slow, tmp_path):
    found = summarise(slow, tmp_path)
    front = pd.read_csv(found.files["pareto.csv"])
    assert front["id"].tolist() == ["t000", "t001"]
    assert front["breaks"].tolist() == ["latency_ms <= 5"] * 2
    assert (found.best, found.headline) == ("", "no student keeps the constraints")


def test_a_student_that_keeps_the_constraint_is_not_marked(tracker, slow):
    run_trial(tracker, "t002", 1 / 16, 0.40, sweep="s")
    marks = slow.refresh().pareto(constrained=False).set_index("id")["breaks"]
    assert marks.to_dict() == {"t000": "latency_ms <= 5", "t001": "latency_ms <= 5", "t002": ""}
    assert "breaks" not in slow.pareto() and wording.best_or_none(slow).id == "t002"
    assert "breaks" not in shown(tables.sweep_view(slow))
