"""What a sweep promises while things go wrong within it, on a real Ray."""

import json

import pytest
from closed_form import BREAKS, DIES_ONCE, EXECUTE, POOR, RAISES, computed, sweep, workers

from kdsweep.errors import SweepError
from kdsweep.sweep import launch, resume
from kdsweep.sweep.overhead import overhead
from kdsweep.tracking import connect

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray leaves sockets and files to the garbage collector, and warns of its own deprecations.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def swept(ray_cluster, tmp_path_factory):
    """A sweep in which one trial raises, one breaks, one is killed, one is poor, one repeats."""
    home = tmp_path_factory.mktemp("home")
    points = [RAISES, BREAKS, DIES_ONCE, 1.0, POOR, 0.1]
    spec = sweep(
        trials=9,
        start=[{"method.point_output": point} for point in points],
        early_stop={"grace_epochs": 1, "reduction": 2},
        confirm={"top": 1, "seeds": 2},
    )
    return launch(spec, home=home, quiet=True, execute=EXECUTE), home


def trial_of(finished, point):
    return next(
        entry
        for entry in finished.record.of_kind("search")
        if entry.plan.params["method.point_output"] == point
    )


def test_every_trial_that_was_asked_for_ran_and_ended(swept):
    finished, _ = swept
    assert (finished.state, finished.reason) == ("finished", "")
    ran = [entry for entry in finished.record.of_kind("search") if entry.state != "reused"]
    assert len(ran) == 9
    assert all(entry.ended for entry in finished.record.trials.values())
    for entry in finished.record.trials.values():
        assert (entry.state == "reused") == (not entry.leases)


def test_a_raised_error_fails_its_trial_with_the_whole_message(swept):
    failed = trial_of(swept[0], RAISES)
    assert failed.state == "failed"
    assert failed.reason == "loss/point_output became NaN in epoch 2, step 7"


def test_an_unexpected_error_fails_its_trial_with_a_line_and_leaves_its_trace(swept):
    failed = trial_of(swept[0], BREAKS)
    assert failed.reason == "KeyError after epoch 1: 'nobody expects this'"
    trace = (swept[0].folder / "runs" / failed.plan.trial / "error.txt").read_text()
    assert "_misbehave" in trace


def test_a_killed_worker_costs_its_trial_no_epoch(swept):
    entry = trial_of(swept[0], DIES_ONCE)
    log = swept[0].folder / "runs" / entry.plan.trial / "epochs-0"
    assert entry.state == "finished"
    assert computed(log) == [1, 2, 3, 4]
    assert len(workers(log)) == 2
    assert len(entry.leases) == 2


def test_a_poor_trial_stops_at_its_rung_and_not_later(swept):
    entry = trial_of(swept[0], POOR)
    assert (entry.state, entry.epoch) == ("stopped", 1)
    assert entry.reason == "stopped early after 1 of 4 epochs"
    assert computed(swept[0].folder / "runs" / entry.plan.trial / "epochs-0") == [1]


def test_a_repeated_configuration_takes_the_recorded_result(swept):
    entry = trial_of(swept[0], 0.1)
    assert entry.state == "reused"
    assert entry.metrics == swept[0].record.trials["published"].metrics


def test_baselines_and_the_best_are_confirmed_with_fresh_seeds(swept):
    finished, _ = swept
    seeds = {}
    for entry in finished.record.of_kind("confirm"):
        seeds.setdefault(entry.plan.parent, []).append(entry.plan.seed)
    best = max(
        (e for e in finished.record.of_kind("search") if e.state == "finished"),
        key=lambda entry: entry.metrics["miou"],
    )
    assert seeds == {"undistilled": [1, 2], "published": [1, 2], best.plan.trial: [1, 2]}


def test_a_slot_takes_many_trials_in_one_process(swept):
    finished, _ = swept
    processes = set()
    for entry in finished.record.trials.values():
        log = finished.folder / "runs" / entry.plan.trial / "epochs-0"
        processes |= workers(log) if log.exists() else set()
    assert len(processes) <= 3  # two slots, one of them rebuilt once
    assert overhead(finished.record).trials >= 8


def test_the_tracker_holds_every_trial_once_and_nothing_still_running(swept):
    finished, home = swept
    found = {record.trial: record for record in connect(None, home).read_trials("formula")}
    assert found.keys() == finished.record.trials.keys()
    for name, entry in finished.record.trials.items():
        assert found[name].state == entry.state
        assert found[name].reason == entry.reason
    epochs = found["published"].history()["miou"]
    assert [epoch for epoch, _ in epochs] == [1, 2, 3, 4]


def test_the_summary_names_the_gain_over_undistilled(swept):
    finished, _ = swept
    events = [json.loads(line) for line in (finished.folder / "journal.jsonl").open()]
    summary = next(event for event in events if event["event"] == "summary")
    assert "over undistilled" in summary["headline"]
    assert {"trials.csv", "pareto.csv", "report.html"} == summary["files"].keys()


def test_a_finished_sweep_is_not_launched_or_resumed_by_mistake(swept):
    _, home = swept
    with pytest.raises(SweepError, match=r"exists already \(finished, .*kdsweep resume formula"):
        launch(sweep(), home=home, quiet=True, execute=EXECUTE)
    with pytest.raises(SweepError, match="nothing is left to do"):
        resume("formula", home=home, quiet=True, execute=EXECUTE)
    with pytest.raises(SweepError, match="Did you mean formula"):
        resume("formule", home=home, quiet=True, execute=EXECUTE)


def test_trials_of_two_workers_in_processes_of_their_own(ray_cluster, tmp_path):
    spec = sweep(
        trials=1,
        baselines=[],
        start=[{"method.point_output": 1.0}],
        resources={"workers": 2, "isolation": "trial"},
    )
    finished = launch(spec, home=tmp_path, quiet=True, execute=EXECUTE)
    assert finished.state == "finished"
    runs = finished.folder / "runs" / "t001"
    assert computed(runs / "epochs-0") == computed(runs / "epochs-1") == [1, 2, 3, 4]
    (teacher,) = (tmp_path / "teachers").iterdir()
    logs = [folder / f"epochs-{rank}" for folder in (runs, teacher) for rank in (0, 1)]
    assert len(set.union(*map(workers, logs))) == 4
