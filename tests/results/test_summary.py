"""What is stored with a sweep when it is summarised."""

import pandas as pd
from made_up_sweep import SPEC, fill

from kdsweep.results import Sweep, publish
from kdsweep.results.summary import note
from kdsweep.tracking import SweepInfo


def test_front_trials_report_note_and_best_student_are_stored(tracker, student_folder, tmp_path):
    fill(tracker, artifacts={"student": student_folder})
    publish("pvd", tracker, tmp_path / "out")
    front = pd.read_csv(tracker.fetch("pvd", None, "pareto.csv"))
    assert front["id"].tolist() == ["t001", "t004"]
    assert len(pd.read_csv(tracker.fetch("pvd", None, "trials.csv"))) == 20
    assert "<!doctype html>" in tracker.fetch("pvd", None, "report.html").read_text("utf-8")
    assert tracker.sweeps()[0].headline.startswith("mIoU 0.5540")
    assert tracker.writes[-2:] == ["log_summary", "register_best"]


def test_nothing_is_registered_where_no_weights_were_kept(tracker, tmp_path):
    fill(tracker)
    publish("pvd", tracker, tmp_path)
    assert tracker.writes[-1] == "log_summary"


def test_a_sweep_in_which_nothing_has_finished_can_be_published(tracker, tmp_path):
    tracker.open_sweep(SweepInfo("s", SPEC))
    publish("s", tracker, tmp_path)
    assert tracker.sweeps()[0].headline == ""
    assert note(Sweep("s", tracker)).startswith("No student has finished yet.")


def test_the_note_begins_with_the_result(sweep):
    text = note(sweep)
    assert text.startswith("**Best: t001**, mIoU 0.5540 ± 0.0020 (3 seeds), 4.0x fewer parameters")
    assert "+0.0387 ± 0.0023" in text
    assert "| t001 | 0.5540 ± 0.0020 | 22.5G |" in text
