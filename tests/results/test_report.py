"""The report: whole, by itself, and safe to open."""

import html.parser
import json
import re

import pytest
from made_up_sweep import SPEC, fill, run_trial

from kdsweep.results import Sweep, wording, write_report
from kdsweep.results.report import report
from kdsweep.tracking import SweepInfo, TrialInfo

EVIL = "<script>alert(1)</script>&\"'</title>\u2028"


class Page(html.parser.HTMLParser):
    """Collects elements, visible text and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            del self.open[len(self.open) - 1 - self.open[::-1].index(tag) :]

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


def without_plotly(text):
    """The page but for the plotting library, which is not ours."""
    start = text.rindex("<script>", 0, text.rindex("<script>"))
    return text[:start] + text[text.index("</script>", start) :]


def figures_of(text):
    found = re.search(r'id="figures">(.*?)</script>', text, re.DOTALL)
    return json.loads(found.group(1))


def test_a_trial_that_reused_a_result_took_no_time(tracker):
    tracker.open_sweep(SweepInfo("pvd", SPEC))
    run_trial(tracker, "t001", 0.5, 0.5)
    run_trial(tracker, "t002", 0.5, 0.5)
    tracker.open_trial(TrialInfo("pvd", "t003", "search", identity="hash-t001"))
    metrics = {"miou": 0.5, "gpu_seconds": 30.0, "train_seconds": 30.0}
    tracker.end_trial("pvd", "t003", "reused", "same configuration as t001", metrics, {})
    text = Page(report(Sweep("pvd", tracker))).text
    assert "GPU time of finished trials 60 s" in text
    assert "Training time of finished trials 60 s" in text


def test_the_report_says_what_a_reader_wants_to_know(sweep, tmp_path):
    path = write_report(sweep, tmp_path / "new" / "report.html")
    page = Page(path.read_text("utf-8"))
    for words in (
        "Best student t001",
        "0.5540 ± 0.0020",
        "mean of 3 fresh seeds",
        "Over undistilled +0.0387 ± 0.0023 undistilled: equal size and recipe, 3 paired seeds",
        "4.0x fewer parameters",
        "teacher: 0.6100",
        "What mattered",
        "Learning curves",
        "IoU per class",
        "stopped by asha at epoch 2",
        "sweep: {name: pvd}",
        "git_commit abc",
    ):
        assert words in page.text, words
    assert path.stat().st_size < 6e6


def test_the_report_loads_nothing_from_elsewhere(sweep):
    text = report(sweep)
    page = Page(without_plotly(text))
    assert not [value for name, value in page.attributes if name in ("src", "href")]
    assert "link" not in page.tags and "http:" not in without_plotly(text)
    assert "default-src 'none'" in text


def test_the_figures_mark_teacher_baselines_front_and_best(sweep):
    figures = figures_of(report(sweep))
    traces = {trace["name"]: trace for trace in figures["figure-0"]["data"]}
    assert traces["teacher"]["x"] == [1.0] and traces["teacher"]["y"] == [0.61]
    assert traces["undistilled"]["error_y"]["array"][0] > 0
    assert traces["best student"]["y"] == [pytest.approx(0.554)]
    assert traces["front"]["x"] == [4.0, 16.0]
    assert len(traces["single seed"]["x"]) == 4 and len(traces["confirmed"]["x"]) == 2
    for name in figures:
        assert f'id="{name}"' in report(sweep)


def test_text_of_users_cannot_become_markup(tracker):
    info = SweepInfo("s", {**SPEC, "run": {"task": EVIL}}, EVIL, {"node": EVIL})
    tracker.open_sweep(info)
    for index in range(8):
        params = {"student.width": 0.5, "method.text": EVIL + str(index % 2), "a.b": index / 7}
        run_trial(tracker, f"t{index:03}", 0.5, 0.4 + index / 100, sweep="s", params=params)
    run_trial(tracker, "t008", 0.5, 0.1, sweep="s", state="failed", reason=EVIL)
    run_trial(tracker, "b", 0.5, 0.1, sweep="s", kind="baseline", label=EVIL)
    text = report(Sweep("s", tracker))
    assert "<script>alert" not in text
    assert Page(text).tags.count("script") == 3
    assert EVIL.split("\u2028")[0] in Page(text).text
    hovers = json.dumps(figures_of(text))
    assert "<script" not in hovers and "&lt;script&gt;" in hovers


def test_a_sweep_in_which_nothing_has_finished_has_a_report(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    assert "No student has finished yet" in Page(report(Sweep("s", tracker))).text
    run_trial(tracker, "t000", 0.5, 0.5, sweep="s", state="stopped")
    page = Page(report(Sweep("s", tracker)))
    assert "No student has finished yet" in page.text and "Learning curves" in page.text


def test_a_sweep_without_teacher_baselines_or_parameters_has_a_report(tracker):
    tracker.open_sweep(SweepInfo("s", {"objectives": {"miou": "max"}}))
    run_trial(tracker, "t000", 0.5, float("nan"), sweep="s")
    run_trial(tracker, "t001", 0.5, 0.5, sweep="s")
    page = Page(report(Sweep("s", tracker)))
    assert "Best student t001" in page.text and "no baseline of equal size" in page.text


def test_a_best_student_that_is_undistilled_is_not_compared_with_itself(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    run_trial(tracker, "undistilled", 0.5, 0.6, kind="baseline", label="undistilled", sweep="s")
    run_trial(tracker, "t000", 0.5, 0.5, sweep="s")
    page = Page(report(Sweep("s", tracker)))
    assert "Best student undistilled" in page.text
    assert "-0.1000" in page.text
    assert "t000 over undistilled: equal size and recipe, one seed" in page.text
    headline = wording.headline(Sweep("s", tracker))
    assert headline == "mIoU 0.6000 at 4.0x, undistilled; t000 -0.1000 over undistilled"


def test_a_filled_sweep_keeps_every_trial_in_the_table(tracker):
    sweep = Sweep("pvd", fill(tracker))
    page = Page(report(sweep))
    for record in sweep.records:
        assert record.trial in page.text
