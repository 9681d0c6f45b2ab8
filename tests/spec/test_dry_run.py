"""The dry run: rows, number of combinations, extremes of size, refusals."""

import itertools

import pytest

from kdsweep.spec.check import check, combinations, extremes, kinds, refusals
from kdsweep.spec.load import parse_sweep

TOY = """\
run:
  task: toy
  student: {model: toy, width: 0.5}
  teacher: {model: toy, checkpoint: t}
  method: {name: toy}
sweep: {name: a, objectives: {score: max}}
space: {%s}
"""


def toy_sweep(space):
    return parse_sweep(TOY % space, "f.yaml")


def count_by_hand(sweep):
    """Tries every value of every key, in order."""
    points = [{}]
    for key in sweep.order:
        points = list(
            itertools.chain.from_iterable(
                [{**point, key: value} for value in sweep.space[key].values()]
                if sweep.is_active(key, point)
                else [point]
                for point in points
            )
        )
    return len(points)


@pytest.mark.parametrize(
    "space",
    [
        "",
        "student.depth: {int: [1, 5]}",
        "student.depth: {int: [1, 5]}, student.width: {choice: [0.5, 1.0]}",
        "method.name: {choice: [toy, other]}, method.hard: {quantised: [0, 1, 0.25], "
        "when: {method.name: other}}, method.soft: {choice: [0, 1], when: {method.name: toy}}",
        "student.depth: {int: [1, 9]}, train.epochs: {int: [1, 3], when: {student.depth: [2, 4]}}, "
        "train.accumulate: {choice: [1, 2, 4, 8], when: {student.depth: 4, train.epochs: 3}}",
        "student.depth: {int: [1, 3], when: {method.name: other}}, seed: {int: [0, 1]}",
    ],
)
def test_combinations_equal_a_full_enumeration(toys, space):
    sweep = toy_sweep(space)
    assert combinations(sweep) == count_by_hand(sweep)


def test_large_finite_spaces_are_counted_without_being_listed(toys):
    sweep = toy_sweep(
        "seed: {int: [0, 999999999]}, student.depth: {int: [1, 1000000]}, "
        "train.epochs: {int: [1, 3], when: {student.depth: [2, 4]}}"
    )
    assert combinations(sweep) == 10**9 * (10**6 - 2 + 2 * 3)


def test_a_continuous_key_makes_infinitely_many(toys):
    assert combinations(toy_sweep("method.soft: {uniform: [0, 1]}")) is None
    never = "method.soft: {uniform: [0, 1], when: {method.temperature: 3}}, seed: {int: [0, 1]}"
    assert combinations(toy_sweep(never)) == 2


def test_a_row_tells_range_own_value_and_published_one(toys):
    report = check(toy_sweep("method.soft: {log_uniform: [0.01, 10]}"))
    (row,) = report.rows
    assert (row.kind, row.values, row.count) == ("log_uniform", "0.01 .. 10", None)
    assert (row.here, row.published, row.when) == (0.5, 0.5, "")
    assert list(report.baselines) == ["undistilled", "published"]


def test_a_row_of_another_methods_key_knows_that_methods_default(toys):
    report = check(
        toy_sweep(
            "method.name: {choice: [toy, other]}, "
            "method.hard: {uniform: [0, 1], when: {method.name: other}}"
        )
    )
    row = report.rows[1]
    assert (row.here, row.published, row.when) == (None, 2.0, "method.name = other")
    assert "method.hard: the published value 2.0 is outside of the search space." in report.notes


def test_extremes_hold_both_ends_of_every_student_key_once(toys):
    found = extremes(
        toy_sweep(
            "student.width: {choice: [0.5, 2.0, 1.0]}, student.depth: {int: [1, 4]}, "
            "method.soft: {uniform: [0, 1]}"
        )
    )
    sizes = {label: (run.student.config.width, run.student.config.depth) for label, run in found}
    assert sizes == {
        "as written": (0.5, 2),  # its width is also the smallest, and is not repeated
        "student.width = 2.0": (2.0, 2),
        "student.depth = 1": (0.5, 1),
        "student.depth = 4": (0.5, 4),
        "all student keys at their last value": (2.0, 4),
    }


def test_kinds_of_runs_hold_every_option_and_both_ends_but_no_weight_or_learning_rate(toys):
    found = kinds(
        toy_sweep(
            "method.name: {choice: [toy, other]}, student.depth: {int: [1, 9]}, "
            "method.soft: {uniform: [0, 1], when: {method.name: toy}}, "
            "train.lr: {log_uniform: [0.001, 0.1]}, train.batch_size: {choice: [1, 2, 8]}"
        )
    )
    assert [label for label, _ in found] == [
        "as written",  # its batch of 2 is not repeated
        "method.name = other",
        "student.depth = 1",
        "student.depth = 9",
        "train.batch_size = 1",
        "train.batch_size = 8",
    ]


def test_notes_name_keys_that_are_never_searched_and_too_many_trials(toys):
    report = check(
        toy_sweep("seed: {int: [0, 1]}, student.depth: {int: [1, 2], when: {method.name: other}}")
    )
    assert any(note.startswith("student.depth is never searched") for note in report.notes)
    assert "sweep.trials is 64, but there are only 2 configurations." in report.notes


@pytest.mark.parametrize(("trials", "noted"), [(5, True), (6, False)])
def test_a_note_tells_what_a_grid_leaves_out(toys, trials, noted):
    grid = toy_sweep("seed: {int: [0, 1]}, student.depth: {int: [1, 3]}")
    report = check(grid.model_copy(update={"sampler": "grid", "trials": trials}))
    text = "sweep.trials is 5: the last 1 of the grid's 6 configurations are not tried."
    assert (text in report.notes) == noted


@pytest.mark.parametrize(
    ("key", "noted"),
    [
        ("teacher.width: {choice: [1.0, 2.0]}", True),
        ("teacher.train.epochs: {int: [1, 5]}", True),
        ("student.width: {choice: [1.0, 2.0]}", False),
        ("train.epochs: {int: [1, 5]}", False),
    ],
)
def test_a_note_tells_of_searched_keys_by_which_several_teachers_are_trained(toys, key, noted):
    text = (TOY % key).replace("checkpoint: t", "train: {epochs: 2}")
    notes = check(parse_sweep(text, "f.yaml")).notes
    told = f"{key.partition(':')[0]}: its values have teachers of their own"
    assert any(note.startswith(told) for note in notes) == noted


def test_static_constraints_are_judged_before_training(toys):
    text = TOY.replace(
        "score: max}}", 'score: max}, constraints: {params: "<= 10", file_mb: "< 1"}}'
    )
    sweep = parse_sweep(text % "", "f.yaml")
    assert refusals(sweep, {"params": 10.0, "macs": 5.0}) == []
    assert refusals(sweep, {"params": 11.0}) == ["params is 11, but constraints ask for <= 10"]
