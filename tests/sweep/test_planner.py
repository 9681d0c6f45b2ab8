import math

import pytest
from optuna.trial import TrialState

from kdsweep.sweep.admission import Admission
from kdsweep.sweep.budget import Budget
from kdsweep.sweep.ledger import Entry, Plan, Record
from kdsweep.sweep.planner import Done, Wait


def test_the_teacher_comes_first_and_beside_it_what_needs_none(spec, simulate):
    simulation = simulate(spec(confirm={"top": 1, "seeds": 2}))
    assert simulation.begin().trial == "teacher"
    assert simulation.begin().trial == "undistilled"
    assert simulation.begin() == Wait()
    simulation.finish(simulation.order[1])
    assert [simulation.begin().trial for _ in range(2)] == ["undistilled-s1", "undistilled-s2"]
    assert simulation.begin() == Wait()
    simulation.finish(simulation.order[0])
    assert [simulation.begin().trial for _ in range(2)] == ["published", "t001"]


def test_nothing_starts_beside_the_teacher_that_is_made_of_it(spec, simulate):
    run = spec().to_dict()["run"]
    run["train"]["init"] = "sliced_teacher"
    simulation = simulate(spec(run=run))
    assert simulation.begin().trial == "teacher"
    assert simulation.begin() == Wait()


def test_the_baselines_are_the_method_without_weight_and_as_published(spec, simulate):
    simulation = simulate(spec()).run()
    plans = {plan.trial: plan for plan in simulation.order}
    names = ("point_output", "voxel_output")
    assert [plans["undistilled"].spec["method"][name] for name in names] == [0, 0]
    assert [plans["published"].spec["method"][name] for name in names] == [0.1, 0.15]


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_search_finds_the_optimum(spec, simulate, sampler):
    trials = {"tpe": 40, "random": 80, "gp": 12}[sampler]
    simulation = simulate(spec(sampler=sampler, trials=trials)).run()
    best = max(
        (entry for entry in simulation.ledger.record.of_kind("search")),
        key=lambda entry: entry.metrics["miou"],
    )
    assert abs(math.log10(best.plan.params["method.point_output"])) < 0.3
    assert sum(entry.ended for entry in simulation.ledger.record.of_kind("search")) == trials


def test_a_grid_tries_every_combination_once(spec, simulate):
    space = {
        "method.point_output": {"choice": [0.1, 1, 10]},
        "student.width": {"choice": [0.25, 0.5], "when": {"method.point_output": [1, 10]}},
    }
    simulation = simulate(spec(sampler="grid", trials=20, space=space)).run()
    points = [entry.plan.params for entry in simulation.ledger.record.of_kind("search")]
    assert points == [
        {"method.point_output": 0.1},
        {"method.point_output": 1, "student.width": 0.25},
        {"method.point_output": 1, "student.width": 0.5},
        {"method.point_output": 10, "student.width": 0.25},
        {"method.point_output": 10, "student.width": 0.5},
    ]
    assert simulation.planner.closing == "every point of the grid has been tried"


def test_start_points_come_before_sampled_ones_and_may_be_partial(spec, simulate):
    space = {
        "method.point_output": {"log_uniform": [0.01, 100]},
        "method.voxel_output": {"choice": [0.1, 0.2]},
    }
    start = [{"method.point_output": 3.0}, {"method.voxel_output": 0.2}]
    simulation = simulate(spec(space=space, start=start, trials=3)).run()
    first, second, _ = (entry.plan.params for entry in simulation.ledger.record.of_kind("search"))
    assert first["method.point_output"] == 3.0
    assert first["method.voxel_output"] in (0.1, 0.2)
    assert second["method.voxel_output"] == 0.2


def test_a_failed_trial_is_told_as_failed_and_the_sweep_goes_on(spec, simulate):
    def sometimes(run):
        if run["method"] and run["method"]["point_output"] > 1:
            raise ArithmeticError("loss/point_output became NaN")
        return {"miou": 0.5}

    simulation = simulate(spec(trials=12)).run(sometimes)
    failed = [e for e in simulation.ledger.record.of_kind("search") if e.state == "failed"]
    assert failed
    assert {entry.reason for entry in failed} == {"loss/point_output became NaN"}
    told = [trial.state for trial in simulation.planner.study.trials]
    assert told.count(TrialState.FAIL) == len(failed)
    assert TrialState.RUNNING not in told
    assert len(told) == 12


@pytest.mark.parametrize("metrics", [{"miou": math.nan}, {"miou": math.inf}, {"macs": 1.0}, {}])
def test_a_trial_without_a_finite_objective_failed(spec, simulate, metrics):
    simulation = simulate(spec(trials=2, baselines=[], run=dict_without_teacher(spec)))
    simulation = simulation.run(lambda run: metrics)
    assert simulation.states == {"t001": "failed", "t002": "failed"}
    assert {trial.state for trial in simulation.planner.study.trials} == {TrialState.FAIL}


def dict_without_teacher(spec):
    run = spec().run.to_dict()
    run["teacher"] = {**run["teacher"], "train": None, "checkpoint": "weights.safetensors"}
    return run


def test_a_start_point_equal_to_a_baseline_is_reused_and_told_once(spec, simulate):
    start = [{"method.point_output": 0.1}]
    simulation = simulate(spec(start=start, trials=2)).run()
    assert simulation.states["t001"] == "reused"
    record = simulation.ledger.record.trials
    assert record["t001"].metrics == record["published"].metrics
    assert record["t001"].reason == "same configuration as published, which finished"
    assert [plan.trial for plan in simulation.order][-2:] == ["t002", "t003"]
    values = [trial.values for trial in simulation.planner.study.trials]
    assert values[0] == [record["published"].metrics["miou"]]


def test_a_small_space_is_tried_completely_and_the_search_says_so(spec, simulate):
    space = {"method.point_output": {"choice": [0.5, 1, 2, 3, 4]}}
    simulation = simulate(spec(space=space, trials=50)).run()
    ran = [entry for entry in simulation.ledger.record.of_kind("search") if entry.leases]
    assert sorted(e.plan.params["method.point_output"] for e in ran) == [0.5, 1, 2, 3, 4]
    assert simulation.planner.closing == "every point of the search space has been tried"
    assert len(simulation.ledger.record.of_kind("search")) < 30


def test_configurations_that_cannot_keep_a_bound_never_start(spec, simulate):
    space = {
        "method.point_output": {"log_uniform": [0.01, 100]},
        "student.width": {"choice": [0.25, 0.5]},
    }
    sweep = spec(space=space, constraints={"params": "<= 300"}, trials=8)
    admission = Admission(sweep, lambda run: {"params": 1000 * run.student.config.width})
    simulation = simulate(sweep, admission=admission).run()
    rejected = [e for e in simulation.ledger.record.of_kind("search") if e.state == "rejected"]
    assert rejected
    assert {entry.plan.params["student.width"] for entry in rejected} == {0.5}
    assert {entry.reason for entry in rejected} == {"params is 500, must be <= 300"}
    assert not any(entry.leases for entry in rejected)
    assert sum(bool(e.leases) for e in simulation.ledger.record.of_kind("search")) == 8


def test_a_bound_that_nothing_keeps_ends_the_search(spec, simulate):
    sweep = spec(constraints={"macs": "<= 1"})
    admission = Admission(sweep, lambda run: {"macs": 2.0})
    simulation = simulate(sweep, admission=admission).run()
    assert "50 points in a row brought no new run" in simulation.planner.closing
    assert "macs is 2, must be <= 1" in simulation.planner.closing


def test_infeasible_and_stopped_trials_are_never_the_best(spec, simulate):
    sweep = spec(
        objectives={"miou": "max", "macs": "min"},
        constraints={"latency_ms": "<= 50"},
        early_stop={"grace_epochs": 1},
    )
    simulation = simulate(sweep, teacher=None)
    outcomes = [
        ("finished", {"miou": 0.5, "macs": 2.0, "latency_ms": 40.0}),
        ("finished", {"miou": 0.9, "macs": 1.0, "latency_ms": 60.0}),
        ("stopped", {"miou": 0.95, "macs": 0.5, "latency_ms": 10.0}),
        ("stopped", {"miou": 0.95}),
        ("finished", {"miou": 0.9, "macs": 1.0}),
        ("failed", {}),
    ]
    plans = [simulation.begin() for _ in range(8)][2:]
    for plan, (state, metrics) in zip(plans, outcomes, strict=True):
        simulation.planner.end(plan.trial, state, epoch=2, metrics=metrics)
    best = simulation.planner.study.best_trials
    assert [trial.values for trial in best] == [[0.5, 2.0]]
    told = [trial.state for trial in simulation.planner.study.trials]
    assert told == [TrialState.COMPLETE] * 3 + [
        TrialState.PRUNED,
        TrialState.COMPLETE,
        TrialState.FAIL,
    ]
    assert simulation.planner.study.trials[2].constraints["fidelity"] == pytest.approx(0.5)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random"])
def test_samplers_go_on_over_every_kind_of_end(spec, simulate, sampler):
    sweep = spec(
        sampler=sampler,
        objectives={"miou": "max", "macs": "min"},
        constraints={"latency_ms": "<= 50"},
        early_stop={"grace_epochs": 1},
        trials=16,
        space={
            "method.point_output": {"log_uniform": [0.01, 100]},
            "student.width": {"choice": [0.25, 0.5]},
            "method.voxel_output": {"uniform": [0, 1], "when": {"student.width": 0.5}},
        },
    )
    simulation = simulate(sweep, teacher=None)
    ends = ["finished", "stopped", "failed", "finished"]
    for number in range(18):
        plan = simulation.begin()
        metrics = {"miou": number / 20, "macs": 1.0, "latency_ms": 48.0 + number % 5}
        simulation.planner.end(plan.trial, ends[number % 4], epoch=2, metrics=metrics)
    assert simulation.begin() == Done()
    assert sum(bool(e.leases) for e in simulation.ledger.record.of_kind("search")) == 16
    assert TrialState.RUNNING not in {trial.state for trial in simulation.planner.study.trials}


def test_the_best_and_the_baselines_are_confirmed_with_other_seeds(spec, simulate):
    simulation = simulate(spec(confirm={"top": 1, "seeds": 2}, trials=3)).run()
    best = max(
        simulation.ledger.record.of_kind("search"), key=lambda entry: entry.metrics["miou"]
    ).plan.trial
    confirmed = [(plan.trial, plan.seed, plan.parent) for plan in simulation.order[6:]]
    assert confirmed == [
        ("undistilled-s1", 1, "undistilled"),
        ("published-s1", 1, "published"),
        (f"{best}-s1", 1, best),
        ("undistilled-s2", 2, "undistilled"),
        ("published-s2", 2, "published"),
        (f"{best}-s2", 2, best),
    ]


def test_a_winner_of_another_size_is_compared_with_an_undistilled_student_of_its_size(
    spec, simulate
):
    space = {"student.width": {"choice": [0.5]}}
    sweep = spec(confirm={"top": 1, "seeds": 1}, trials=1, space=space, baselines=["undistilled"])
    simulation = simulate(sweep).run()
    twin, *repeated = simulation.order[3:]
    assert (twin.trial, twin.kind, twin.label) == ("undistilled-t001", "baseline", "undistilled")
    assert twin.spec["student"]["width"] == 0.5
    assert twin.spec["method"]["point_output"] == 0.0
    assert [(plan.trial, plan.parent) for plan in repeated] == [
        ("undistilled-s1", "undistilled"),
        ("undistilled-t001-s1", "undistilled-t001"),
        ("t001-s1", "t001"),
    ]


def test_a_resumed_sweep_ends_like_one_that_was_never_interrupted(spec, simulate):
    sweep = spec(trials=8, confirm={"top": 1, "seeds": 1})
    simulate(sweep).run(at_once=2, starts=6)
    first = simulate(sweep)
    unfinished = [first.begin() for _ in range(2)]
    assert [plan.trial for plan in unfinished] == ["t004", "t005"]
    second = simulate(sweep)
    again = [second.begin() for _ in range(2)]
    assert again == unfinished
    for plan in again:
        second.finish(plan)
    second.run()
    assert len(second.ledger.record.of_kind("search")) == 8
    assert set(second.states.values()) == {"finished"}
    told = second.planner.study.trials
    assert [trial.state for trial in told] == [TrialState.COMPLETE] * 8
    assert len({tuple(trial.params.values()) for trial in told}) == 8


def test_more_trials_and_a_retry_of_failed_ones_on_a_finished_sweep(spec, simulate):
    def broken(run):
        raise ArithmeticError("out of memory")

    sweep = spec(trials=2, baselines=[])
    simulate(sweep).run(lambda run: broken(run) if run["method"] else {"miou": 0.8})
    second = simulate(sweep, trials=3, retry_failed=True).run()
    assert [plan.trial for plan in second.order] == ["t001", "t002", "t003"]
    assert set(second.states.values()) == {"finished"}
    assert simulate(sweep).begin() == Done()


def test_nothing_starts_after_a_budget_is_spent_but_running_trials_end(spec, simulate):
    now = [1000.0]
    simulation = simulate(spec(), budget=Budget(hours=1.0), clock=lambda: now[0])
    simulation.finish(simulation.begin())
    plan = simulation.begin()
    now[0] += 3601
    assert simulation.begin() == Wait()
    simulation.finish(plan)
    assert simulation.states["undistilled"] == "finished"
    assert simulation.begin() == Done()
    assert simulation.planner.closing == "the budget of 1 hours is spent (1 used)"


def test_gpu_hours_and_money_count_what_running_trials_hold():
    ran = Entry(Plan("a", "search", {}, "a"), state="finished", leases=[[0.0, 3600.0]])
    runs = Entry(Plan("b", "search", {}, "b"), state="running", leases=[[3600.0, 3600.0]])
    record = Record(trials={"a": ran, "b": runs}, sessions=[[0.0, 3600.0]])
    budget = Budget(money=3.0, price_per_gpu_hour=2.0, gpus_per_trial=0.5)
    assert budget.gpu_hours_used(record, 7200.0) == pytest.approx(1.0)
    assert budget.spent(record, 7200.0) == ""
    assert budget.spent(record, 14400.0) == "the budget of 3 money is spent (4 used)"


def test_a_trial_budget_counts_baselines_and_searched_trials(spec, simulate):
    simulation = simulate(spec(budget={"trials": 4}, confirm={"top": 1})).run()
    assert [plan.trial for plan in simulation.order] == [
        "teacher",
        "undistilled",
        "published",
        "t001",
        "t002",
    ]
    assert simulation.planner.closing == "the budget of 4 trials is spent"


def test_a_teacher_that_fails_ends_the_sweep_with_its_reason(spec, simulate):
    def broken(run):
        raise ArithmeticError("loss/voxel_ce became NaN in epoch 1")

    simulation = simulate(spec()).run(broken)
    assert simulation.states == {"teacher": "failed", "undistilled": "failed"}
    assert "the teacher could not be trained: loss/voxel_ce" in simulation.planner.closing
    assert simulate(spec(), retry_failed=True).begin().trial == "teacher"


def test_a_trial_that_never_ran_and_its_repetition_do_not_wait_for_each_other_after_a_resume(
    spec, simulate
):
    space = {"method.point_output": {"choice": [0.5]}}
    sweep = spec(trials=2, space=space, sampler="random", baselines=[])
    first = simulate(sweep)
    first.finish(first.begin())
    first.planner.next()  # handed out, and not taken by a slot before the driver is killed
    first.planner.next()
    repeated = [trial for trial, state in first.states.items() if state == "created"]
    assert repeated[:2] == ["t001", "t002"]
    second = simulate(sweep).run()
    assert [plan.trial for plan in second.order] == ["t001"]
    assert (second.states["t001"], second.states["t002"]) == ("finished", "reused")


def test_a_trial_that_is_interrupted_before_a_slot_took_it_is_recorded_as_such(spec, simulate):
    """So are its repetitions: their runs in the tracker, open since then, would be left so."""
    space = {"method.point_output": {"choice": [0.5]}}
    sweep = spec(trials=2, space=space, sampler="random", baselines=[])
    first = simulate(sweep)
    first.finish(first.begin())
    first.planner.next()
    first.planner.next()
    first.planner.interrupt("t001")
    states = first.states
    assert (states.pop("teacher"), set(states.values())) == ("finished", {"interrupted"})
    second = simulate(sweep).run()
    assert [plan.trial for plan in second.order] == ["t001"]
    assert (second.states["t001"], second.states["t002"]) == ("finished", "reused")
