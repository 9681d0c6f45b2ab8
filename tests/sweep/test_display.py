import io

import pytest
from rich.console import Console

from kdsweep.spec.bounds import parse_bound
from kdsweep.spec.sweep import Confirm
from kdsweep.sweep.confirm import asked_beside
from kdsweep.sweep.display import Display, line, next_steps, render
from kdsweep.sweep.ledger import Entry, Plan, Record
from kdsweep.sweep.overhead import overhead
from kdsweep.sweep.progress import view
from kdsweep.tracking import Where

OBJECTIVES = {"miou": "max", "macs": "min"}


def entry(name, kind="search", state="finished", leases=(), **metrics):
    plan = Plan(name, kind, {"train": {"epochs": 4}}, name)
    return Entry(
        plan, state, metrics=metrics, leases=[list(lease) for lease in leases], slot="slot-0"
    )


@pytest.fixture
def record():
    """Two finished students and the teacher, one trial that runs, one that failed."""
    trials = [
        entry("teacher", "teacher", leases=[(10, 30)], miou=0.9),
        entry("undistilled", "baseline", leases=[(31, 41)], miou=0.4, macs=2.0, step_seconds=6.0),
        entry("t001", leases=[(42, 54)], miou=0.5, macs=3.0, step_seconds=8.0),
        entry("t002", state="running", leases=[(55, 57)], miou=0.3),
        entry("t003", state="failed", leases=[(54, 55)]),
    ]
    trials[3].epoch = 2
    trials[4].reason = "loss/point_output became NaN\nin step 3"
    sessions = [[5.0, 57.0]]
    return Record({one.plan.trial: one for one in trials}, [{"t": 5.0}], sessions=sessions)


def test_overhead_is_what_slots_spend_outside_training_steps(record):
    measured = overhead(record)
    assert (measured.trials, measured.steps_s, measured.outside_s) == (2, 7.0, 4.0)
    assert measured.between_s == 0.5  # gaps of 1, 1, 0 and 0 seconds
    assert measured.startup_s == 5.0
    assert measured.share == pytest.approx(4.5 / 11.5)


def test_a_pause_between_two_processes_of_a_sweep_is_no_overhead(record):
    record.sessions = [[-900.0, -800.0], *record.sessions]  # ended before it had a slot
    record.starts = [{"t": -900.0}, *record.starts]
    record.sessions.append([4000.0, 4100.0])
    record.starts.append({"t": 4000.0})
    for name, lease in (("t004", (4020, 4030)), ("t005", (4030.5, 4040))):
        record.trials[name] = entry(name, leases=[lease], miou=0.5, step_seconds=6.0)
    measured = overhead(record)
    assert measured.between_s == 0.5  # gaps of 1, 1, 0, 0 and 0.5 seconds, not of 3963
    assert measured.startup_s == 5.0


def test_no_overhead_is_claimed_where_nothing_finished():
    assert overhead(Record()) is None


def test_the_view_counts_names_the_best_and_estimates_the_rest(record):
    shown = view(record, OBJECTIVES, trials=5, now_s=58.0)
    assert shown.counts == {"finished": 3, "running": 1, "failed": 1}
    assert shown.best == ("miou 0.5 (t001)", "macs 2 (undistilled)")
    (row,) = shown.running
    assert (row.trial, row.epoch, row.epochs, row.done) == ("t002", 2, 4, 0.5)
    mean = (10 + 12 + 1) / 3
    assert shown.left_s == pytest.approx(mean * (2 + 1) - 3)  # two to come, one has run for 3 s


def test_the_best_so_far_keeps_the_constraints(record):
    bounds = {"step_seconds": parse_bound("<= 7")}
    shown = view(record, OBJECTIVES, trials=5, now_s=58.0, bounds=bounds)
    assert shown.best == ("miou 0.4 (undistilled)", "macs 2 (undistilled)")
    unknown = {"latency_ms": parse_bound("<= 7")}
    assert view(record, OBJECTIVES, trials=5, now_s=58.0, bounds=unknown).best == ()


def test_baselines_and_confirmations_to_come_are_in_the_estimate(record, spec):
    """One baseline is there; another one and 2 seeds of 1 winner and 2 baselines are to come."""
    sweep = spec(baselines=["undistilled", "published"], confirm={"top": 1, "seeds": 2})
    assert asked_beside(sweep) == 2 + 2 * (1 + 2)
    assert asked_beside(sweep.model_copy(update={"confirm": Confirm()})) == 2
    shown = view(record, OBJECTIVES, trials=5, now_s=58.0, others=asked_beside(sweep))
    mean = (10 + 12 + 1) / 3
    assert shown.left_s == pytest.approx(mean * (2 + 1 + 7) - 3)


def test_nothing_is_estimated_before_the_first_student_has_ended():
    assert view(Record(), OBJECTIVES, trials=5, now_s=1.0).left_s is None


def test_the_live_table_shows_running_trials_and_the_time(record):
    console = Console(file=io.StringIO(), width=100)
    console.print(render(view(record, OBJECTIVES, trials=5, now_s=58.0), now_s=60.0))
    text = console.file.getvalue()
    assert "Searching  3 finished, 1 running, 1 failed" in text
    assert "epoch 2/4" in text
    assert "miou 0.5 (t001)" in text


def test_without_a_terminal_each_trial_gets_a_line_when_it_starts_and_ends(record):
    output = io.StringIO()
    display = Display(Console(file=output, width=100), OBJECTIVES, 5)
    with display:
        display.update(record)
        display.update(record)
        display.note("Tracking is away")
    lines = output.getvalue().splitlines()
    assert "t003 failed: loss/point_output became NaN (1.0 s)" in [text.strip() for text in lines]
    assert sum(text.startswith("t001 finished") for text in lines) == 1
    assert lines[-1] == "Tracking is away"


def test_a_line_names_objectives_and_reason():
    ended = entry("t004", state="stopped", miou=0.25)
    ended.reason = "stopped early after 1 of 4 epochs"
    assert line(ended, OBJECTIVES).startswith("t004 stopped: miou 0.25")
    assert line(ended, OBJECTIVES).endswith("; stopped early after 1 of 4 epochs")


def test_a_sweep_that_did_not_finish_says_how_to_go_on(tmp_path):
    assert next_steps("pvd", tmp_path, "interrupted", Where()) == ["Go on:   kdsweep resume pvd"]


def test_nothing_is_to_be_pasted_that_asks_for_a_best_student_where_there_is_none(tmp_path):
    look, python = next_steps("pvd", tmp_path, "finished", Where(), best=False)
    assert python == 'Python:  kdsweep.open_sweep("pvd").trials()'
    assert "kdsweep trials pvd" in look and "pareto" not in look


def test_what_is_pasted_next_finds_the_same_home(tmp_path):
    elsewhere = Where({"home": "/data/my runs"})
    (again,) = next_steps("pvd", tmp_path, "interrupted", elsewhere)
    assert again == "Go on:   kdsweep resume pvd --home '/data/my runs'"
    look, python = next_steps("pvd", tmp_path, "finished", elsewhere)
    assert "kdsweep show pvd --home '/data/my runs'" in look
    assert python == (
        'Python:  kdsweep.open_sweep("pvd", home="/data/my runs").best().load_student()'
    )
