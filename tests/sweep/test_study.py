"""Optuna as the sweep uses it: values, violations, and a history that a resume gives back."""

import json
import math
import statistics

import pytest

from kdsweep.spec.space import Choice
from kdsweep.sweep.space import encode
from kdsweep.sweep.study import Result, Study

WEIGHTS = ("point_output", "voxel_output", "point_affinity", "voxel_affinity")
SPACE = {f"method.{name}": {"log_uniform": [0.01, 100]} for name in WEIGHTS}
GENERATION = "NSGAIISampler:generation"


def distance(point):
    """How far a point is from the best one, all weights 1: mean decades over its weights."""
    return statistics.fmean(abs(math.log10(value)) for value in point.values())


def bowl(run):
    weights = [run["method"][name] for name in WEIGHTS]
    return {"miou": -sum(math.log10(weight) ** 2 for weight in weights)}


def searched(simulation):
    return [entry.plan.params for entry in simulation.ledger.record.of_kind("search")]


@pytest.mark.parametrize(
    ("options", "value", "stored"),
    [
        ([0.25, 1], 1.0, "1"),
        ([0.25, 1.0], 1, "1.0"),
        ([True, 0], True, "true"),
        ([1, True], True, "true"),
        ([1, True], 1.0, "1"),
        ([[60, 30, 4], [120, 60, 8]], [60.0, 30, 4.0], "[60, 30, 4]"),
        ([[1, 2], [True, 2]], (True, 2.0), "[true, 2]"),
        ([{"a": {"b": [1]}}, None], {"a": {"b": [1.0]}}, '{"a": {"b": [1]}}'),
        ([0, None], None, "null"),
    ],
)
def test_a_value_is_stored_as_the_option_that_it_is_the_same_as(options, value, stored):
    assert encode(Choice(options=tuple(options)), value) == stored


@pytest.mark.parametrize(("option", "value"), [(1, 1.0), (1.0, 1)])
def test_a_start_point_may_write_a_whole_number_as_it_likes(spec, simulate, option, value):
    space = {"student.width": {"choice": [0.25, option]}}
    sweep = spec(space=space, start=[{"student.width": value}], trials=1, baselines=[])
    (entry,) = simulate(sweep).run().ledger.record.of_kind("search")
    assert entry.state == "finished"
    assert entry.plan.params == {"student.width": option}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nsga2_nears_the_optimum_of_four_weights_where_random_search_does_not(spec, seed):
    last = {}
    for sampler in ("nsga2", "random"):
        study = Study(spec(sampler=sampler, trials=64, space=SPACE, seed=seed))
        found = []
        for _ in range(64):
            trial, point = study.ask()
            quality = -sum(math.log10(value) ** 2 for value in point.values())
            study.tell(trial, Result("finished", {"miou": quality}))
            found.append(distance(point))
        last[sampler] = statistics.fmean(found[-24:])
    assert last["nsga2"] < 0.7 < 0.8 < last["random"]


@pytest.mark.parametrize(("trials", "population"), [(6, 4), (64, 8), (400, 20), (10_000, 50)])
def test_nsga2_has_as_many_generations_as_a_generation_has_trials(spec, trials, population):
    study = Study(spec(sampler="nsga2", trials=trials))
    for _ in range(population + 1):
        trial, _ = study.ask()
        study.tell(trial, Result("finished", {"miou": 0.5}))
    generations = [trial.system_attrs[GENERATION] for trial in study.trials]
    assert generations == [0] * population + [1]


def test_start_points_are_parents_too(spec):
    point = dict.fromkeys(SPACE, 2.0)
    study = Study(spec(sampler="nsga2", space=SPACE, start=[point]))
    trial, _ = study.ask(point)
    assert study.marks(trial) == {GENERATION: 0}


def test_nsga2_goes_on_after_a_resume_as_in_one_process(spec, simulate):
    """The trials that follow are near the optimum at once; random ones are 1 decade away."""
    sweep = spec(sampler="nsga2", trials=100, space=SPACE, baselines=[])
    whole = simulate(sweep, folder="whole", trials=90, teacher=None).run(bowl)
    first = simulate(sweep, trials=60, teacher=None).run(bowl)
    second = simulate(sweep, trials=90, teacher=None)
    generations = [
        [trial.system_attrs[GENERATION] for trial in simulation.planner.study.trials]
        for simulation in (first, second)
    ]
    assert generations[0] == generations[1]
    assert max(generations[0]) >= 5
    second.run(bowl)
    for simulation in (whole, second):
        assert statistics.fmean(map(distance, searched(simulation)[60:])) < 0.7


def test_a_journal_without_generations_is_resumed(spec, simulate, tmp_path):
    sweep = spec(sampler="nsga2", trials=20, space=SPACE, baselines=[])
    simulate(sweep, trials=10, teacher=None).run(bowl)
    journal = tmp_path / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in events:
        event.pop("marks", None)
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    second = simulate(sweep, teacher=None).run(bowl)
    assert set(second.states.values()) <= {"finished", "reused"}
    ran = [entry for entry in second.ledger.record.of_kind("search") if entry.leases]
    assert len(ran) == 20
    assert len(second.planner.study.trials) == len(searched(second))


@pytest.mark.parametrize(
    ("bound", "value", "feasible"),
    [("< 50", 50.0, False), ("<= 50", 50.0, True), ("> 50", 50.0, False), (">= 50", 50.0, True)],
)
def test_a_limit_that_is_reached_breaks_a_strict_bound(spec, bound, value, feasible):
    study = Study(spec(constraints={"latency_ms": bound}))
    trial, _ = study.ask()
    study.tell(trial, Result("finished", {"miou": 0.5, "latency_ms": value}))
    assert len(study.best_trials) == feasible


def test_violations_are_parts_of_their_limits_so_that_bounds_can_be_added_up(spec):
    study = Study(spec(constraints={"latency_ms": "<= 50", "params": "<= 1e6", "macs": ">= 1e9"}))
    trial, _ = study.ask()
    metrics = {"miou": 0.5, "latency_ms": 75.0, "params": 2e6, "macs": 9e8}
    study.tell(trial, Result("finished", metrics))
    assert study.trials[0].constraints == pytest.approx(
        {"latency_ms": 0.5, "params": 1.0, "macs": 0.1}
    )
