"""What the command line shows."""

import io

import pytest
from made_up_sweep import SPEC, run_trial
from rich.console import Console

from kdsweep.results import Sweep, tables, wording
from kdsweep.results.opening import listing
from kdsweep.tracking import SweepInfo, TrialInfo


def shown(renderable, width=160):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_the_listing_names_state_and_result(sweep):
    sweep.tracker.log_summary("pvd", {}, headline=wording.headline(sweep))
    text = shown(tables.sweeps_table(listing(sweep.tracker)))
    assert "lidar_seg/pvd" in text and "running" in text
    assert "mIoU 0.5540 ± 0.0020 (3 seeds) at 4.0x, +0.0387 over undistilled" in text


def test_an_empty_store_says_how_to_start(tracker):
    assert "kdsweep launch search_spaces/quickstart.yaml" in shown(
        tables.sweeps_table(listing(tracker))
    )


def test_a_sweep_shows_counts_best_gain_front_and_how_to_load(sweep):
    text = shown(tables.sweep_view(sweep))
    for words in (
        "18 finished",
        "miou max, macs min",
        "0.5540 ± 0.0020 (3 seeds)",
        "+0.0387 ± 0.0023 (paired, 3 seeds)",
        'kdsweep.open_sweep("pvd")["t001"].load_student()',
        "t004",
        "0.5140 ± 0.0043",
    ):
        assert words in text, words


def test_compression_is_the_mean_over_the_seeds_that_count(tracker):
    tracker.open_sweep(SweepInfo("seeds", {**SPEC, "name": "seeds"}))
    parts = {"t000": 1.6, "t000-s1": 1.1, "t000-s2": 1.3}
    for seed, (trial, faster) in enumerate(parts.items()):
        given = {"kind": "confirm", "parent": "t000"} if seed else {"kind": "search"}
        tracker.open_trial(TrialInfo("seeds", trial, seed=seed, **given))
        metrics = {"miou": 0.5, "latency_ms": 9.0, "params_ratio": 4.0, "latency_ratio": faster}
        tracker.end_trial("seeds", trial, "finished", metrics=metrics)
    best = Sweep("seeds", tracker).best()
    assert wording.compression(best) == "4.0x fewer parameters, 1.2x lower latency"
    assert wording.compression(best) in shown(tables.trial_view(Sweep("seeds", tracker), best))


def test_the_front_is_followed_by_teacher_and_baselines(sweep):
    lines = [
        line.split()[0] for line in shown(tables.pareto_table(sweep)).splitlines() if line.strip()
    ]
    assert lines[0] == "student" and lines[2:] == [
        "t001",
        "t004",
        "teacher",
        "undistilled",
        "published",
    ]


def test_every_trial_is_listed_with_its_reason(sweep):
    text = shown(tables.trials_table(sweep), 200)
    for record in sweep.records:
        assert record.trial in text
    assert "stopped by asha at epoch 2" in text


def test_importance_is_shown_with_its_basis(sweep):
    text = shown(tables.importance_table(sweep.importance("params")))
    assert "student.width" in text and "fanova of params over 6 trials" in text


def test_a_sweep_without_results_can_be_shown(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    assert "No student has finished yet" in shown(tables.sweep_view(Sweep("s", tracker)))
    assert "trial" in shown(tables.trials_table(Sweep("s", tracker)))


def test_text_is_never_read_as_markup(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    run_trial(tracker, "t000", 0.5, 0.4, sweep="s", params={"a.b": "[red]x[/red]"})
    run_trial(tracker, "t001", 0.5, 0.1, sweep="s", state="failed", reason="[/oops] [bold]")
    text = shown(tables.trials_table(Sweep("s", tracker)), 200)
    assert "[red]x[/red]" in text and "[/oops] [bold]" in text


@pytest.mark.parametrize("width", [50, 80, 160])
def test_a_narrow_terminal_leaves_columns_out_and_says_which(sweep, width):
    text = shown(tables.trials_table(sweep), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "undistilled-s3" in text and "0.5200" in text
    assert ("Too narrow for:" in text) == (width < 160)
    assert ("latency" in text.split("Too narrow for:")[0]) == (width >= 80)


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("miou", 0.55419, "0.5542"),
        ("params", 14.02e6, "14M"),
        ("params", 950, "950"),
        ("macs", 22.5e9, "22.5G"),
        ("params_ratio", 4.0, "4.0x"),
        ("latency_ms", 31.234, "31.2 ms"),
        ("file_mb", 56.0, "56 MB"),
        ("gpu_seconds", 5400.0, "1.5 h"),
        ("train_seconds", 42.0, "42 s"),
        ("loss/total", 1e-5, "1.00e-05"),
        ("miou", float("nan"), "–"),
        ("miou", None, "–"),
    ],
)
def test_numbers_carry_their_unit(metric, value, words):
    assert wording.number(metric, value) == words
