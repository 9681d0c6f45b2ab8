"""A driver that is killed, then stopped by a signal, leaves a sweep that a resume completes."""

import signal
from collections import Counter
from dataclasses import asdict

import pytest
from closed_form import beginnings, computed, workers
from processes import born
from sweep_process import Driver, events
from whole_sweep_checks import check_whole

from kdsweep.sweep.lock import is_running
from kdsweep.tracking import connect

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Killed after some trials, resumed, stopped by SIGTERM, resumed to the end."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "sweeps" / "formula"
    first = Driver(home, "launch", epoch_s=0.5)
    first.wait_for("epoch", 18)
    first.kill()
    free = not is_running(folder)
    second = Driver(home, "resume", epoch_s=0.5)
    second.wait_for("epoch", 32)
    second.process.send_signal(signal.SIGTERM)
    stopped = second.end()
    third = Driver(home, "resume", epoch_s=0.02, options={"more": 2})
    return home, free, stopped, third.end()


def ends(home):
    found = events(home / "sweeps" / "formula" / "journal.jsonl")
    return [(event["trial"], event["state"]) for event in found if event["event"] == "trial_ended"]


def test_the_lock_is_free_after_a_kill(interrupted):
    assert interrupted[1]


def test_a_stopped_sweep_says_how_to_go_on_and_ends_in_order(interrupted):
    code, output = interrupted[2]
    assert code == 0, output
    assert "kdsweep resume formula" in output
    assert "Traceback" not in output


def test_the_resumed_sweep_ends_with_the_asked_number_of_trials(interrupted):
    home, _, _, (code, output) = interrupted
    assert code == 0, output
    finished = [trial for trial, state in ends(home) if state == "finished"]
    assert len([trial for trial in finished if trial in {f"t{n:03d}" for n in range(1, 11)}]) == 10
    assert {"teacher", "undistilled", "published"} <= set(finished)


def test_no_trial_finished_twice_and_none_was_lost(interrupted):
    home = interrupted[0]
    finished = Counter(trial for trial, state in ends(home) if state == "finished")
    assert set(finished.values()) == {1}
    created = [
        event["trial"]
        for event in events(home / "sweeps" / "formula" / "journal.jsonl")
        if event["event"] == "trial_created"
    ]
    assert sorted(created) == sorted(finished)


def test_an_interruption_repeats_at_most_the_epoch_it_fell_into(interrupted):
    home = interrupted[0]
    repeated = 0
    for folder in (home / "sweeps" / "formula" / "runs").iterdir():
        epochs = computed(folder / "epochs-0")
        assert epochs == sorted(epochs)
        repeated += len(epochs) - len(set(epochs))
    assert repeated <= 4  # two interruptions x two slots


def test_no_epoch_that_a_worker_computed_is_missing_in_the_record(interrupted):
    found = events(interrupted[0] / "sweeps" / "formula" / "journal.jsonl")
    told = [(event["trial"], event["epoch"]) for event in found if event["event"] == "epoch"]
    assert len(told) == len(set(told))
    for folder in (interrupted[0] / "sweeps" / "formula" / "runs").iterdir():
        assert {epoch for trial, epoch in told if trial == folder.name} == {1, 2, 3, 4}


def test_unfinished_trials_went_on_in_another_process(interrupted):
    runs = interrupted[0] / "sweeps" / "formula" / "runs"
    moved = [folder for folder in runs.iterdir() if len(workers(folder / "epochs-0")) > 1]
    assert moved


def test_the_tracker_has_one_finished_run_for_each_trial(interrupted):
    home = interrupted[0]
    records = connect(None, home).read_trials("formula")
    assert Counter(record.state for record in records) == {"finished": len(records)}
    assert len({record.trial for record in records}) == len(records)
    for record in records:
        epochs = [epoch for epoch, _ in record.history()["miou"]]
        assert epochs == list(range(1, len(epochs) + 1))


def test_no_process_of_the_killed_sweep_is_left(interrupted):
    runs = interrupted[0] / "sweeps" / "formula" / "runs"
    found = set().union(*(beginnings(folder / "epochs-0") for folder in runs.iterdir()))
    assert not [pid for pid, since in found if born(pid) == since]


def test_the_last_line_a_person_reads_says_where_to_look(interrupted):
    home, _, _, (_, output) = interrupted
    assert f'kdsweep.open_sweep("formula", home="{home}").best()' in output
    assert f"kdsweep show formula --home {home}" in output
    assert "(raylet)" not in output
    assert "Traceback" not in output


def test_the_sweep_is_whole(interrupted, fault_table):
    row = check_whole(interrupted[0], "formula", 10)
    assert (row.lost, row.duplicates) == (0, 0)
    fault_table("driver killed, resumed, stopped by SIGTERM, resumed", **asdict(row))
