"""What distillation is worth: which undistilled student a distilled one is compared with."""

import pytest
from made_up_sweep import SPEC, run_trial

from kdsweep.results import Sweep, wording
from kdsweep.results.report import report
from kdsweep.results.summary import note
from kdsweep.spec.run import RunSpec
from kdsweep.tracking import SweepInfo

RUN = {
    "task": "metric_learning",
    "data": {"format": "digits"},
    "loss": {"triplet": 1.0},
    "teacher": {"model": "small_cnn", "checkpoint": "/teacher.safetensors"},
    "student": {"model": "small_cnn", "width": 0.25},
    "method": {"name": "rkd"},
    "train": {"lr": 1e-3},
}
SEEDS = (1, 2, 3)


def run_of(**values):
    """The resolved run with some fields replaced, as the store holds it."""
    given = {key.replace("__", "."): value for key, value in values.items()}
    return RunSpec.from_dict(RUN).with_overrides(given)


def add(tracker, trial, run, miou, *, seeds=SEEDS, label=""):
    """Records a student and its confirmations, all of one size."""
    kind = "baseline" if label else "search"
    given = {"sweep": "s", "label": label}
    run_trial(tracker, trial, 0.5, miou, kind=kind, spec=run.to_dict(), **given)
    for seed in seeds:
        again = run.model_copy(update={"seed": seed}).to_dict()
        confirm = {"kind": "confirm", "parent": trial, "seed": seed, "spec": again}
        run_trial(tracker, f"{trial}-s{seed}", 0.5, miou, **confirm, **given)


@pytest.fixture
def searched_lr(tracker):
    """A sweep over the learning rate: the winner 0.82, its twin 0.80, the file's own rate 0.70."""
    tracker.open_sweep(SweepInfo("s", SPEC))
    winner = run_of(train__lr=5e-3)
    add(tracker, "undistilled", run_of().undistilled(), 0.70, label="undistilled")
    add(tracker, "t001", winner, 0.82)
    add(tracker, "undistilled-t001", winner.undistilled(), 0.80, label="undistilled")
    return tracker


def test_the_gain_is_taken_against_the_student_of_the_same_recipe(searched_lr):
    gain = Sweep("s", searched_lr).gain()
    assert (gain.trial, gain.baseline, gain.same_recipe) == ("t001", "undistilled-t001", True)
    assert gain.mean == pytest.approx(0.02) and gain.n == 3


def test_neither_a_better_one_nor_one_of_more_seeds_replaces_the_twin(searched_lr):
    seeds = range(1, 6)
    other = run_of(train__lr=2e-3)
    add(searched_lr, "undistilled-t000", other.undistilled(), 0.9, seeds=seeds, label="undistilled")
    assert Sweep("s", searched_lr).gain("t001").baseline == "undistilled-t001"


@pytest.mark.parametrize("order", [(0.70, 0.75), (0.75, 0.70)])
def test_without_a_twin_the_best_of_equal_size_is_to_be_beaten_and_it_is_said(tracker, order):
    tracker.open_sweep(SweepInfo("s", SPEC))
    for number, miou in enumerate(order, 1):
        baseline = run_of(train__lr=number * 1e-3).undistilled()
        add(tracker, f"undistilled-t{number}", baseline, miou, label="undistilled")
    add(tracker, "t009", run_of(train__lr=9e-3), 0.82)
    sweep = Sweep("s", tracker)
    gain = sweep.gain()
    assert (gain.mean, gain.same_recipe) == (pytest.approx(0.07), False)
    assert wording.gain_words(gain).endswith(", of another recipe.")
    assert wording.headline(sweep).endswith(f"+0.0700 over {gain.baseline} of another recipe")
    assert "equal size, another recipe:" in note(sweep)
    assert "of equal size, another recipe" in report(sweep)


def test_a_metric_that_shall_be_small_has_its_lowest_baseline_to_be_beaten(tracker):
    tracker.open_sweep(SweepInfo("s", {**SPEC, "objectives": {"miou": "min"}}))
    for number, miou in enumerate((0.7, 0.6, 0.8), 1):
        baseline = run_of(train__lr=number * 1e-3).undistilled()
        add(tracker, f"undistilled-t{number}", baseline, miou, label="undistilled")
    add(tracker, "t009", run_of(train__lr=9e-3), 0.5)
    gain = Sweep("s", tracker).gain()
    assert (gain.baseline, gain.mean) == ("undistilled-t2", pytest.approx(0.1))


def test_a_student_that_learns_from_the_teacher_alone_has_a_twin_with_the_tasks_own_loss(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    winner = run_of(loss__triplet=0.0, train__lr=5e-3)
    others = [run_of(train__lr=5e-3, loss__triplet=0.5), run_of(train__lr=5e-3, loss__margin=0.4)]
    for number, run in enumerate(others):
        add(tracker, f"undistilled-t{number}", run.undistilled(), 0.81, label="undistilled")
    add(tracker, "undistilled-t009", winner.undistilled(), 0.80, label="undistilled")
    add(tracker, "t009", winner, 0.82)
    assert Sweep("s", tracker).gain().baseline == "undistilled-t009"


@pytest.mark.parametrize(
    "change",
    [{"student__embedding_dim": 24}, {"train__epochs": 99}, {"data__train_class_share": 0.4}],
)
def test_a_baseline_of_another_network_data_or_training_is_no_twin(tracker, change):
    tracker.open_sweep(SweepInfo("s", SPEC))
    add(tracker, "undistilled", run_of(**change).undistilled(), 0.7, label="undistilled")
    add(tracker, "t009", run_of(), 0.82)
    assert not Sweep("s", tracker).gain().same_recipe


def test_only_seeds_that_both_were_trained_with_are_paired(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    add(tracker, "undistilled", run_of().undistilled(), 0.7, seeds=(1,), label="undistilled")
    add(tracker, "t001", run_of(), 0.8, seeds=(1, 2, 3))
    assert Sweep("s", tracker).gain().differences == {1: pytest.approx(0.1)}


def test_the_shown_gain_names_its_baseline(searched_lr):
    sweep = Sweep("s", searched_lr)
    words = wording.gain_words(sweep.gain())
    assert words.endswith("t001 0.8200, undistilled-t001 0.8000, of the same recipe.")
    assert wording.headline(sweep).endswith("+0.0200 over undistilled-t001")
    assert '<th class="n">undistilled-t001</th>' in report(sweep)
