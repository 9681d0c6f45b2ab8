"""What one run says: its sections by name, overrides, identity and the runs derived from it."""

import json
import pickle
import subprocess
import sys

import pytest
from pydantic import ValidationError

from kdsweep.config import weights
from kdsweep.errors import SpecError
from kdsweep.methods import pvd
from kdsweep.models import cylinder3d
from kdsweep.spec.run import RunSpec


def test_sections_are_instances_of_the_named_files_classes(run_values):
    run = RunSpec.from_dict(run_values)
    assert type(run.student.config) is cylinder3d.Config
    assert type(run.method.config) is pvd.Config
    assert run.student.config.width == 0.25
    assert run.data.grid == (32, 32, 8)


def test_the_written_form_is_flat_and_json(run_values):
    written = RunSpec.from_dict(run_values).to_dict()
    assert written["student"]["model"] == "cylinder3d"
    assert written["student"]["width"] == 0.25
    assert written["method"]["point_output"] == 0.1
    assert RunSpec.from_dict(json.loads(json.dumps(written))).to_dict() == written


def test_a_run_pickles(run_values):
    run = RunSpec.from_dict(run_values)
    assert pickle.loads(pickle.dumps(run)) == run


def test_a_run_cannot_be_changed(run_values):
    with pytest.raises(ValidationError, match="frozen"):
        RunSpec.from_dict(run_values).seed = 3


def test_all_faults_of_a_run_are_reported_at_once(run_values):
    run_values |= {
        "student": {"model": "cylinder3d", "widht": 1},
        "method": {"name": "pvd", "point_output": -1, "norm_output": "row"},
        "train": {"epochs": 0, "lr": "fast", "amp": True},
        "sed": 1,
    }
    with pytest.raises(SpecError) as caught:
        RunSpec.from_dict(run_values)
    message = str(caught.value)
    assert message.startswith("7 faults\n")
    for part in (
        "student.widht is not a field of model 'cylinder3d'\n  Did you mean student.width?",
        "method.point_output must be >= 0, got -1",
        "method.norm_output must be one of rows, ",
        "train.epochs must be >= 1, got 0",
        "train.lr must be a number, got 'fast'",
        "train.amp must be one of off, bfloat16, got True",
        "sed is not a field of a run\n  Did you mean seed?",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("task", "lidarseg", "task names an unknown task 'lidarseg'. Did you mean lidar_seg?"),
        ("student", {"model": "cylinder"}, "student.model names an unknown model 'cylinder'."),
        ("student", {"width": 1}, "student.model is missing\n  Valid: cylinder3d"),
        ("student", {"model": ["a"]}, "student.model must be a name (text)"),
        ("student", 3, "student must be a mapping (key: value), got 3"),
        ("method", {"name": "pdv"}, "Did you mean pvd?"),
        ("teacher", None, "teacher is missing: method 'pvd' needs a teacher"),
        (
            "teacher",
            {"model": "cylinder3d"},
            "teacher needs either checkpoint (a file with weights) or train",
        ),
        (
            "teacher",
            {"model": "cylinder3d", "checkpoint": "a", "train": {}},
            "once), got both",
        ),
        ("train", {"epochs": True}, "train.epochs must be a whole number, got True"),
        ("train", {"lr": True}, "train.lr must be a number, got True"),
        ("train", {"epochs": 1.5}, "train.epochs must be a whole number, got 1.5"),
        ("train", {"lr": float("nan")}, "train.lr must be a finite number, got nan"),
        ("train", {"milestones": [0.5, 0.2]}, "train: milestones must rise, got [0.5, 0.2]"),
        ("data", {"synth": {}, "grid": [4, 4]}, "data.grid needs an entry more, at position 3"),
        ("data", {}, "data: give exactly one of root and synth, got neither"),
    ],
)
def test_a_fault_says_where_what_and_what_is_valid(run_values, part, value, message):
    run_values[part] = value
    with pytest.raises(SpecError) as caught:
        RunSpec.from_dict(run_values)
    assert message in str(caught.value)


def test_sliced_weights_need_a_teacher(run_values):
    del run_values["teacher"], run_values["method"]
    run_values["train"] = {"init": "sliced_teacher"}
    with pytest.raises(SpecError, match=r"train.init is 'sliced_teacher', but .* has no teacher"):
        RunSpec.from_dict(run_values)


def test_overrides_replace_single_fields(run_values):
    run = RunSpec.from_dict(run_values)
    changed = run.with_overrides({"method.point_output": 2, "student.width": 1, "seed": 5})
    assert changed.method.config.point_output == 2.0
    assert (changed.student.config.width, changed.seed) == (1.0, 5)
    assert (
        changed.with_overrides({"method.point_output": 0.1, "student.width": 0.25, "seed": 0})
        == run
    )


def test_an_override_of_an_unknown_field_names_the_nearest(run_values):
    with pytest.raises(SpecError, match=r"Did you mean method.point_output\?"):
        RunSpec.from_dict(run_values).with_overrides({"method.point_outputs": 1})


def test_another_method_starts_from_its_own_defaults(toys, toy_values):
    run = RunSpec.from_dict(toy_values)
    other = run.with_overrides({"method.name": "other"})
    assert other.method.config.temperature == 4.0
    assert other.method.config.hard == 2.0


def test_another_method_keeps_settings_that_were_changed_and_that_it_has(toys, toy_values):
    run = RunSpec.from_dict(toy_values).with_overrides(
        {"method.temperature": 3.0, "method.soft": 0.7}
    )
    other = run.with_overrides({"method.hard": 1.5, "method.name": "other"})
    assert other.method.config.temperature == 3.0
    assert other.method.config.hard == 1.5


def test_the_identity_is_pinned(toys, toy_values):
    # A change here loses every user's caches and resumable sweeps: it must be meant.
    assert RunSpec.from_dict(toy_values).identity() == "27a717a90a66d7f4"
    assert RunSpec.from_dict(toy_values).identity("extra") != "27a717a90a66d7f4"


def test_the_identity_does_not_depend_on_the_process(run_values):
    code = (
        "import json, sys; from kdsweep.spec.run import RunSpec;"
        "print(RunSpec.from_dict(json.loads(sys.argv[1])).identity())"
    )
    # Keys in another order, whole numbers for reals, another hash seed.
    turned = dict(reversed(run_values.items()))
    turned["student"] = {"width": 0.25, "model": "cylinder3d"}
    turned["train"] = {"weight_decay": 0, "epochs": 4.0}
    command = [sys.executable, "-c", code, json.dumps(turned)]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert told.stdout.strip() == RunSpec.from_dict(run_values).identity()


@pytest.mark.parametrize(
    "how",
    [
        {"data.root": "/elsewhere"},
        {"train.data_workers": 3},
        {"teacher.checkpoint": "/other/file"},
    ],
)
def test_where_and_how_are_no_part_of_the_identity(toys, toy_values, how):
    run = RunSpec.from_dict(toy_values)
    assert run.with_overrides(how).identity() == run.identity()


@pytest.mark.parametrize(
    "what",
    [
        {"seed": 1},
        {"student.width": 0.25},
        {"method.soft": 0.0},
        {"data.size": 5},
        {"loss.ce": 2.0},
        {"train.lr": 0.01},
        {"teacher.depth": 3},
    ],
)
def test_what_is_trained_is_part_of_the_identity(toys, toy_values, what):
    run = RunSpec.from_dict(toy_values)
    assert run.with_overrides(what).identity() != run.identity()


def test_minus_zero_is_zero_in_the_identity(toys, toy_values):
    run = RunSpec.from_dict(toy_values)
    zero, minus = (run.with_overrides({"method.soft": weight}) for weight in (0.0, -0.0))
    assert zero.identity() == minus.identity()


def test_undistilled_switches_every_term_off_and_published_is_the_class(run_values):
    run_values["method"] = {"name": "pvd", "point_output": 3.0, "num_points": 64}
    run = RunSpec.from_dict(run_values)
    assert set(weights(run.undistilled().method.config).values()) == {0.0}
    assert run.published().method.config == pvd.Config()
    assert run.undistilled().student == run.student
    assert RunSpec.from_dict(run.undistilled().to_dict()) == run.undistilled()


def test_undistilled_is_the_same_whatever_the_methods_settings(run_values):
    run = RunSpec.from_dict(run_values)
    other = run.with_overrides({"method.num_points": 64, "method.point_output": 7.0})
    assert other.undistilled().identity() == run.undistilled().identity()


def test_the_teachers_run_does_not_depend_on_what_a_sweep_varies(run_values):
    run = RunSpec.from_dict(run_values)
    teacher = run.teacher_run()
    assert teacher.student.config.width == 0.5
    assert (teacher.teacher, teacher.method, teacher.train.epochs) == (None, None, 2)
    varied = run.with_overrides(
        {"seed": 9, "loss.point_ce": 0.0, "method.point_output": 1, "student.width": 0.125}
    )
    assert varied.teacher_run().identity() == teacher.identity()


def test_a_teacher_with_weights_has_no_run(toys, toy_values):
    with pytest.raises(SpecError, match=r"run\.teacher\.train is not set"):
        RunSpec.from_dict(toy_values).teacher_run()
