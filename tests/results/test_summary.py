"""What is stored with a sweep when it is summarised."""

import pandas as pd
from made_up_sweep import SPEC, fill

from kdsweep.results import Sweep, summarise
from kdsweep.results.summary import note
from kdsweep.tracking import SweepInfo


def test_front_trials_and_report_are_written_and_the_best_student_named(
    tracker, student_folder, tmp_path
):
    fill(tracker, artifacts={"student": student_folder})
    found = summarise(Sweep("pvd", tracker), tmp_path / "out")
    assert pd.read_csv(found.files["pareto.csv"])["id"].tolist() == ["t001", "t004"]
    assert len(pd.read_csv(found.files["trials.csv"])) == 20
    assert "<!doctype html>" in found.files["report.html"].read_text("utf-8")
    assert found.headline.startswith("mIoU 0.5540") and found.best == "t001"
    assert found.note == note(Sweep("pvd", tracker))


def test_a_sweep_in_which_nothing_has_finished_can_be_summarised(tracker, tmp_path):
    tracker.open_sweep(SweepInfo("s", SPEC))
    found = summarise(Sweep("s", tracker), tmp_path)
    assert set(found.files) == {"report.html", "trials.csv"}
    assert (found.headline, found.best) == ("", "")
    assert found.note.startswith("No student has finished yet.")


def test_the_note_begins_with_the_result(sweep):
    text = note(sweep)
    assert text.startswith("**Best: t001**, mIoU 0.5540 ± 0.0020 (3 seeds), 4.0x fewer parameters")
    assert "+0.0387 ± 0.0023" in text
    assert "| t001 | 0.5540 ± 0.0020 | 22.5G |" in text
