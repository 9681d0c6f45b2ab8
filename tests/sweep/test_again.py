"""What an earlier process left: limits that are spent, failed trials and their repetitions."""

import math

import pytest
from optuna.trial import TrialState

from kdsweep.sweep import journal
from kdsweep.sweep.budget import Budget
from kdsweep.sweep.planner import Done, Wait
from kdsweep.sweep.transcribe import Scribe
from kdsweep.tracking import MemoryTracker

TWICE = {
    "space": {"method.point_output": {"choice": [0.5, 1.0]}},
    "start": [{"method.point_output": 0.5}] * 2,
    "sampler": "random",
    "baselines": [],
    "trials": 2,
}
"""A sweep whose second trial repeats its first."""


def broken(run):
    raise ArithmeticError("out of memory")


def half_broken(run):
    """Fails where the sweep's repeated point is."""
    return broken(run) if run["method"]["point_output"] == 0.5 else {"miou": 0.2}


def mended(run):
    return {"miou": 0.7}


@pytest.mark.parametrize(
    "limits",
    [{"hours": 1.0}, {"gpu_hours": 1.0}, {"money": 2.0, "price_per_gpu_hour": 2.0}],
    ids=["hours", "gpu_hours", "money"],
)
@pytest.mark.parametrize("retry", [False, True], ids=["interrupted", "failed"])
def test_a_spent_budget_runs_nothing_again(spec, simulate, limits, retry):
    now = [0.0]
    settings = {"clock": lambda: now[0], "teacher": None}
    first = simulate(spec(baselines=[]), **settings)
    plan = first.begin()
    now[0] = 3600.0
    if retry:
        first.finish(plan, broken)
    else:
        first.planner.interrupt(plan.trial)
    budget = Budget(**{"gpus_per_trial": 1.0, **limits})
    second = simulate(spec(baselines=[]), budget=budget, retry_failed=retry, **settings)
    assert second.begin() == Done()
    name = next(iter(limits))
    assert f"{name} is spent" in second.planner.closing
    assert second.planner.over_budget
    more = Budget(**{"gpus_per_trial": 1.0, **limits, name: 3.0})
    third = simulate(spec(baselines=[]), budget=more, retry_failed=retry, **settings)
    assert third.begin().trial == "t001"


def test_a_spent_budget_trains_no_teacher_again(spec, simulate):
    now = [0.0]
    settings = {"clock": lambda: now[0], "budget": Budget(hours=1.0)}
    first = simulate(spec(), **settings)
    first.begin()
    now[0] = 3600.0
    first.planner.interrupt("teacher")
    second = simulate(spec(), **settings)
    assert second.begin() == Done()
    assert second.planner.closing == "the budget of 1 hours is spent (1 used)"


def test_a_spent_budget_of_trials_keeps_no_trial_from_its_end(spec, simulate):
    """It counts trials, and one that is interrupted or failed is counted already."""
    sweep = spec(budget={"trials": 2}, baselines=[])
    first = simulate(sweep, teacher=None)
    plans = [first.begin(), first.begin()]
    first.finish(plans[0], broken)
    first.planner.interrupt(plans[1].trial)
    second = simulate(sweep, teacher=None, retry_failed=True).run()
    assert [plan.trial for plan in second.order] == ["t001", "t002"]
    assert second.planner.closing == "the budget of 2 trials is spent"


def test_a_repetition_of_a_failed_trial_takes_over_what_its_retry_gives(spec, simulate, tmp_path):
    sweep = spec(**TWICE)
    first = simulate(sweep, teacher=None).run(half_broken)
    assert (first.states["t001"], first.states["t002"]) == ("failed", "reused")
    second = simulate(sweep, teacher=None, retry_failed=True).run(mended)
    assert [plan.trial for plan in second.order] == ["t001"]
    copy = second.ledger.record.trials["t002"]
    assert (copy.state, copy.metrics) == ("reused", {"miou": 0.7})
    assert copy.reason == "same configuration as t001, which finished"
    told = {trial.params["method.point_output"]: [] for trial in second.planner.study.trials}
    for trial in second.planner.study.trials:
        told[trial.params["method.point_output"]].append((trial.state, trial.values))
    assert told["0.5"] == [(TrialState.COMPLETE, [0.7])] * 2
    tracker = MemoryTracker()
    scribe = Scribe("small", tracker, files=False)
    for event in journal.events(tmp_path / "journal.jsonl"):
        scribe.tell(event)
    tracked = {trial.trial: trial for trial in tracker.read_trials("small")}
    assert (tracked["t002"].state, tracked["t002"].metrics["miou"]) == ("reused", 0.7)
    assert tracked["t002"].reason == copy.reason
    tracker.close()


def test_a_repetition_waits_for_a_retry_that_no_slot_has_taken_yet(spec, simulate):
    sweep = spec(**TWICE)
    simulate(sweep, teacher=None).run(half_broken)
    second = simulate(sweep, teacher=None, retry_failed=True)
    plan = second.planner.next()
    assert second.planner.next() == Wait()
    assert second.states["t002"] == "interrupted"
    second.finish(plan, mended)
    assert second.ledger.record.trials["t002"].metrics == {"miou": 0.7}


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_retry_that_is_cut_off_leaves_its_repetitions_to_the_next_resume(spec, simulate, at_once):
    sweep = spec(**TWICE)
    simulate(sweep, teacher=None).run(half_broken)
    second = simulate(sweep, teacher=None, retry_failed=True)
    begun = [second.begin() for _ in range(at_once)]
    assert begun[0].trial == "t001"  # and the driver is killed
    third = simulate(sweep, teacher=None).run(mended)
    copy = third.ledger.record.trials["t002"]
    assert (copy.state, copy.metrics) == ("reused", {"miou": 0.7})
    assert TrialState.FAIL not in {trial.state for trial in third.planner.study.trials}


def test_a_repetition_of_a_failed_baseline_takes_over_what_its_retry_gives(spec, simulate):
    start = [{"method.point_output": 0.1}]
    sweep = spec(start=start, trials=1, baselines=["published"])
    first = simulate(sweep, teacher=None).run(broken)
    assert (first.states["published"], first.states["t001"]) == ("failed", "reused")
    second = simulate(sweep, teacher=None, retry_failed=True).run(mended)
    assert second.ledger.record.trials["t001"].metrics == {"miou": 0.7}


def test_a_repetition_is_told_with_its_result_after_a_resume(spec, simulate):
    sweep = spec(**TWICE)
    simulate(sweep, teacher=None).run(mended)
    second = simulate(sweep, teacher=None)
    told = [(trial.state, trial.values) for trial in second.planner.study.trials]
    assert second.states["t002"] == "reused"
    assert told == [(TrialState.COMPLETE, [0.7])] * len(told)
    assert not any(math.isnan(value) for _, values in told for value in values)
