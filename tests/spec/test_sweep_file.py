"""Sweep files: lines, overrides, and the text of every message that a wrong file gets."""
# ruff: noqa: E501  (tables of messages, one to a line)

import pickle

import pytest

from kdsweep.errors import SpecError
from kdsweep.spec.load import load_sweep, parse_sweep, with_overrides_noted
from kdsweep.spec.sweep import SweepSpec
from kdsweep.spec.yaml_lines import read_yaml


def fault_of(text, *overrides):
    with pytest.raises(SpecError) as caught:
        parse_sweep(text, "f.yaml", overrides)
    return str(caught.value)


def test_a_file_becomes_a_sweep(file):
    sweep = parse_sweep(file, "f.yaml")
    assert (sweep.name, sweep.trials, sweep.sampler) == ("small", 4, "tpe")
    assert sweep.objectives == {"miou": "max", "macs": "min"}
    assert list(sweep.space) == ["method.point_output", "student.width"]
    assert sweep.bounds()["params_ratio"].holds(2)
    assert SweepSpec.from_dict(sweep.to_dict()) == sweep
    assert pickle.loads(pickle.dumps(sweep)) == sweep


def test_every_fault_is_reported_at_once_with_its_line(file):
    message = fault_of(
        file.replace("epochs: 4", "epohs: 4")
        .replace("macs: min", "mac: min")
        .replace("trials: 4", "trials: 0")
        .replace("point_output", "point_outputs")
        .replace("choice: [0.125", "choice: [-1")
    )
    told = [line for line in message.splitlines() if not line.startswith("  ")]
    assert told == [
        "5 faults in f.yaml",
        "f.yaml:7: run.train.epohs is not a field of train",
        "f.yaml:10: sweep.objectives.mac is no metric of task 'lidar_seg'",
        "f.yaml:12: sweep.trials must be >= 1, got 0",
        "f.yaml:14: space.method.point_outputs is not a field of method 'pvd'",
        "f.yaml:15: space.student.width must be > 0, got -1",
    ]
    for hint in ("run.train.epochs?", "macs?", "method.point_output?"):
        assert f"  Did you mean {hint}" in message


def test_a_run_without_a_method_has_no_baselines_and_no_method_to_search(file):
    message = fault_of(file.replace("  method: {name: pvd}\n", ""))
    assert message.startswith("2 faults in f.yaml")
    assert (
        "f.yaml:7: sweep.baselines has undistilled, published, but the run has no method to compare "
        "with\n  Write baselines: []"
    ) in message
    assert (
        "f.yaml:13: space.method.point_output is a field of method, but the run has no method"
        in (message)
    )


def test_a_start_point_that_is_no_run_is_told_with_one_hint(file):
    message = fault_of(
        file.replace("  method: {name: pvd}\n", "") + "start: [{method.point_output: 1}]\n"
    )
    told = "f.yaml:15: start.0 is not a valid run: method.name is missing\n  Valid: "
    assert told in message
    assert message.count("Valid: ") == 1


def test_an_error_survives_pickling(file):
    with pytest.raises(SpecError) as caught:
        parse_sweep(file.replace("trials: 4", "trials: 0"), "f.yaml")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # sections
        ("space:", "spaces:", "f.yaml:13: spaces is not a section of a sweep file\n  Did you mean space?"),
        ("name: small", "name: ../up", "f.yaml:9: sweep.name does not fit, got '../up'\n  Name of the"),
        ("trials: 4", "sampler: tpee", "sweep.sampler must be one of tpe, "),
        ("{miou: max, macs: min}", "{}", "sweep.objectives needs at least 1 entry, got {}"),
        ("macs: min", "macs: low", "sweep.objectives.macs must be one of "),
        # metrics
        ("miou: max", "miou: min", "sweep.objectives.miou is min, but miou is better the other way\n  Write miou: max."),
        ("params_ratio:", "param_ratio:", "sweep.constraints.param_ratio is no metric of task 'lidar_seg'\n  Did you mean params_ratio?"),
        ("miou: max", "iou/barrier: max", "sweep.objectives.iou/barrier is no metric of task 'lidar_seg' on the data of this run\n  Did you mean iou/car?"),
        ("macs: min}", "iou/caar: max}\n  early_stop: {metric: miou}", "sweep.objectives.iou/caar is no metric of task 'lidar_seg'\n  Did you mean iou/car?"),
        ("{miou: max, macs: min}", "{mio: max}\n  early_stop: {}", "sweep.objectives.mio is no metric"),
        ("trials: 4", "early_stop: {metric: iou/barrier}", "sweep.early_stop.metric is 'iou/barrier', which is not reported"),
        ('">= 2"', '"at least 2"', "f.yaml:11: sweep.constraints.params_ratio is no bound: 'at least 2'. Write a sign"),
        ('">= 2"', "2", "sweep.constraints.params_ratio must be text, got 2"),
        # the sweep section against the rest
        ("trials: 4", "early_stop: {grace_epochs: 4}", "sweep.early_stop.grace_epochs is 4, but trials have 4 epochs"),
        ("trials: 4", "early_stop: {metric: macs}", "sweep.early_stop.metric is 'macs', which is not reported while a trial runs"),
        ("{miou: max, macs: min}", "{macs: min}\n  early_stop: {}", "sweep.early_stop.metric is missing: no objective is reported"),
        ("trials: 4", "budget: {gpu_hours: 3}", "sweep.budget.gpu_hours counts reserved GPUs, but the sweep reserves none (resources.gpus_per_worker: 0)\n  Use budget.hours, or reserve GPUs."),
        ("trials: 4", "budget: {money: 3}\n  resources: {gpus_per_worker: 1}", "sweep.budget.price_per_gpu_hour is missing: budget.money needs it"),
        ("trials: 4", "baselines: [publishd]", "sweep.baselines.0 must be one of published, undistilled, got 'publishd'"),
        ("trials: 4", "baselines: [published, published]", "sweep.baselines lists a baseline more than once"),
        ("trials: 4", "sampler: grid", "sweep.sampler 'grid' needs a finite space, but space.method.point_output is log_uniform"),
        # the space
        ("log_uniform: [0.01", "log_unifrom: [0.01", "f.yaml:14: space.method.point_output.log_unifrom is no kind of distribution\n  Did you mean log_uniform?"),
        ("[0.01, 10]", "[10, 0.01]", "space.method.point_output.log_uniform needs low < high"),
        ("method.point_output:", "run.method.point_output:", "space.run.method.point_output is not a field of a run\n  Write method.point_output"),
        ("method.point_output:", "metod.point_output:", "Did you mean method.point_output?"),
        ("method.point_output:", "method.num_points:", "space.method.num_points takes whole numbers, got 0.01 from log_uniform"),
        ("method.point_output: {log_uniform: [0.01, 10]}", "method.num_points: {uniform: [4, 10]}", "space.method.num_points takes whole numbers, got 6.291796 from uniform\n  Use int,"),
        ("method.point_output: {log_uniform: [0.01, 10]}", "method.supervoxel: {choice: [[1, 2, 3], [1, 2, 0]]}", "space.method.supervoxel has an option whose method.supervoxel.2 must be >= 1, got 0"),
        ("method.point_output: {log_uniform: [0.01, 10]}", "method.norm_output: {choice: [rows, cells]}", "space.method.norm_output must be one of "),
        ("method.point_output: {log_uniform: [0.01, 10]}", "method.name: {choice: [pvd, pvt]}", "space.method.name names an unknown method 'pvt'. Did you mean pvd?"),
        ("method.point_output:", "task:", "space.task cannot be searched: it decides the metric"),
        ("method.point_output:", "data.root:", "space.data.root cannot be searched: it says where or how, not what"),
        ("method.point_output: {log_uniform: [0.01, 10]}", "student: {choice: [{model: cylinder3d}]}", "space.student.width is part of student, which is searched, too"),
        ("10]}", "10], when: {student.width: 0.5}}", "space.method.point_output.when.student.width never is 0.5\n  space.student.width is choice 0.125, 0.25."),
        ("10]}", "10], when: {student.widht: 0.5}}", "f.yaml:14: space.method.point_output.when.student.widht is not a field of model 'cylinder3d'"),
        ("10]}", "10], when: {method.norm_output: row}}", "space.method.point_output.when.method.norm_output must be one of rows, "),
        ("10]}", "10], when: {method.point_output: 1}}", "space.method.point_output.when.method.point_output is a circle"),
        ("{choice: [0.125, 0.25]}", "{method: {k: 3}}", "space.student.width is no distribution"),
        # start
        ("space:", "start: [{method.k: 1}]\nspace:", "f.yaml:13: start.0.method.k is not searched"),
        ("space:", "start: [{student.width: 0.2}]\nspace:", "start.0.student.width is 0.2, which cannot be sampled\n  space.student.width is choice 0.125, 0.25."),
        ("space:", "start: {student.width: 0.25}\nspace:", "start must be a list of points"),
        ("space:", "start: [3]\nspace:", "start.0 must be a mapping of searched keys to values, got 3"),
    ],
)  # fmt: skip
def test_a_wrong_file_gets_one_clear_message(file, old, new, message):
    assert old in file
    told = fault_of(file.replace(old, new))
    assert message in told
    assert "faults in" not in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml: is empty\n  It needs the sections run and sweep."),
        ("[1]", "f.yaml: must be a mapping with run, sweep and space"),
        ("a: [1,\nb", "f.yaml:2: is not valid YAML: while parsing a flow sequence, expected"),
        ("a: 1\na: 2", "f.yaml:2: a is given already in line 1"),
        ("a: {<<: {b: 1}}", "f.yaml:1: a has a merge key '<<'"),
        ("3: 1", "f.yaml:1: has a key that is no text: '3'"),
        ("a: !!python/object:os.system x", "python/object:os.system, which is not allowed"),
        ("a: &x [*x]", "f.yaml:1: a.0 contains itself"),
        ("a: \x00", "f.yaml:1: is not valid YAML: character #x0000 is not allowed"),
        ("---\n---\n", "f.yaml:2: is not valid YAML: expected a single document in the stream"),
        ("a: " + "9" * 5000, "f.yaml:1: a is no number: '99"),
        ("[" * 3000, "f.yaml:1: is nested too deeply"),
    ],
)
def test_what_is_no_proper_yaml_is_told_with_its_line(text, message):
    assert message in fault_of(text)


def test_aliases_cannot_fill_the_memory():
    layers = "\n".join(f"l{n + 1}: &l{n + 1} [{', '.join([f'*l{n}'] * 10)}]" for n in range(12))
    assert "holds more than 100000 values" in fault_of(f"l0: &l0 [1]\n{layers}")


def test_anchors_may_be_used(file):
    text = file.replace("width: 0.5", "width: &wide 0.5").replace("width: 0.25", "width: *wide")
    assert parse_sweep(text, "f.yaml").run.student.config.width == 0.5


def test_scalars_are_those_of_yaml_1_2(file):
    text = file.replace("epochs: 4", "epochs: 010, lr: 1e-3").replace("name: small", "name: on")
    sweep = parse_sweep(text, "f.yaml")
    assert (sweep.run.train.epochs, sweep.run.train.lr, sweep.name) == (10, 1e-3, "on")


def test_overrides_reach_run_sweep_space_and_start(file):
    sweep = parse_sweep(
        file,
        "f.yaml",
        [
            "run.train.epochs=8",
            "run.method.supervoxel=[8, 4, 2]",
            "run.data.synth.beams=16",
            "sweep.constraints.params_ratio=>= 4",
            "sweep.budget.hours=1",
            "space.method.num_points={int: [4, 8]}",
            "space.method.point_output=null",
            "start=[{student.width: 0.25}]",
        ],
    )
    assert sweep.run.train.epochs == 8
    assert sweep.run.method.config.supervoxel == (8, 4, 2)
    assert (sweep.run.data.synth.scenes, sweep.run.data.synth.beams) == (4, 16)
    assert sweep.constraints == {"params_ratio": ">= 4"}
    assert sweep.budget.hours == 1.0
    assert list(sweep.space) == ["student.width", "method.num_points"]
    assert sweep.start == ({"student.width": 0.25},)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.train.epochs", "override 'run.train.epochs': is no override\n  Write key=value"),
        ("train.epochs=4", "names no section of a sweep file: 'train'\n  Did you mean run.train.epochs?"),
        ("trials=4", "Did you mean sweep.trials?"),
        ("rum.seed=4", "Did you mean run?"),
        ("run.train.epochs=0", "override 'run.train.epochs=0': run.train.epochs must be >= 1, got 0"),
        ("run.train.epohs=1", "override 'run.train.epohs=1': run.train.epohs is not a field of train"),
        ("run.train=[1", "override 'run.train=[1': is not valid YAML"),
        ("space.method.k=null", "space.method.k is not searched\n  Valid: method.point_output, "),
        ("run..seed=1", "is no override"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_quoted(file, override, message):
    assert message in fault_of(file, override)


def test_the_folder_is_searched_for_a_file_that_is_not_there(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(SpecError, match=r"No such file.*\n.*Did you mean quickstart.yaml\?"):
        load_sweep(tmp_path / "quickstrat.yaml")


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(SpecError, match="is not UTF-8 text"):
        load_sweep(tmp_path / "a.yaml")


def test_conditional_keys_are_checked_under_their_conditions(toys):
    text = """\
run:
  task: toy
  student: {model: toy}
  teacher: {model: toy, checkpoint: t}
  method: {name: toy}
sweep: {name: a, objectives: {score: max}}
space:
  method.name: {choice: [toy, other]}
  method.soft: {uniform: [0, 1], when: {method.name: toy}}
  method.hard: {uniform: [0, 1], when: {method.name: other}}
"""
    sweep = parse_sweep(text, "f.yaml")
    assert sweep.order[0] == "method.name"
    assert sweep.is_active("method.soft", {"method.name": "toy"})
    assert not sweep.is_active("method.hard", {"method.name": "toy"})
    run = sweep.trial_run({"method.name": "other", "method.hard": 0.25})
    assert (run.method.name, run.method.config.hard) == ("other", 0.25)
    wrong = fault_of(text.replace("method.hard: {uniform: [0", "method.hard: {uniform: [-1"))
    assert wrong == "f.yaml:10: space.method.hard must be >= 0, got -1.0"
    misplaced = fault_of(text.replace("when: {method.name: other}", "when: {method.name: toy}"))
    assert "f.yaml:10: space.method.hard is not a field of method 'toy'" in misplaced
    start = "start: [{method.name: toy, method.hard: 1}]\n"
    assert "start.0.method.hard is set, but its conditions do not hold" in fault_of(start + text)


@pytest.mark.parametrize(
    ("searched", "parent"),
    [
        ("student: {choice: [{model: toy, depth: 1}, {model: toy, depth: 2}]}", "student.depth: 2"),
        ("student.depth: {int: [1, 2]}", "student: {model: toy}"),
        ("method.name: {choice: [toy, other]}", "method.soft: 0.5"),
    ],
)
def test_a_condition_names_no_field_that_another_searched_key_changes(toys, searched, parent):
    """It would be looked up in the file's own run, whatever was sampled."""
    text = f"""\
run:
  task: toy
  student: {{model: toy}}
  teacher: {{model: toy, checkpoint: t}}
  method: {{name: toy}}
sweep: {{name: a, objectives: {{score: max}}}}
space:
  {searched}
  seed: {{int: [0, 1], when: {{{parent}}}}}
"""
    key, field = searched.partition(":")[0], parent.partition(":")[0]
    told = fault_of(text)
    assert told.startswith(f"f.yaml:9: space.seed.when.{field} is not fixed: ")
    assert told.endswith(f"\n  Name {key} in the condition.")


@pytest.mark.parametrize(
    ("grace", "epochs", "message"),
    [
        (4, "{choice: [2, 4]}", "sweep.early_stop.grace_epochs is 4, but trials have at most 4 epochs"),
        (8, "{int: [2, 7]}", "sweep.early_stop.grace_epochs is 8, but trials have at most 7 epochs"),
        (9, "{int: [2, 8], when: {student.width: 0.25}}", "sweep.early_stop.grace_epochs is 9, but trials have at most 8 epochs"),
        (4, "{choice: [2, 5]}", ""),
        (3, "{int: [1, 2], when: {student.width: 0.25}}", ""),
        (8, "{log_int: [1, 200]}", ""),
    ],
)  # fmt: skip
def test_a_grace_is_shorter_than_some_trial_that_is_searched(file, grace, epochs, message):
    text = f"{file}  train.epochs: {epochs}\n"
    override = f"sweep.early_stop={{grace_epochs: {grace}}}"
    if not message:
        assert parse_sweep(text, "f.yaml", [override]).early_stop.grace_epochs == grace
    else:
        assert message in fault_of(text, override)


def test_a_trial_is_evaluated_before_its_end_where_it_may_be_stopped_early(file):
    overrides = ["sweep.early_stop={grace_epochs: 1}", "run.train.val_every=4"]
    told = fault_of(file, *overrides)
    assert "sweep.early_stop.grace_epochs is 1, but miou is known every 4 epochs only" in told
    assert "faults in" not in told
    for mended in ("run.train.val_every=3", "sweep.early_stop.metric=loss/total"):
        assert parse_sweep(file, "f.yaml", [*overrides, mended])


def test_a_whole_train_section_that_is_searched_has_its_own_epochs(file):
    text = file + "  train: {choice: [{epochs: 6}, {lr: 0.01}]}\n"
    assert parse_sweep(text, "f.yaml", ["sweep.early_stop={grace_epochs: 39}"])
    override = "sweep.early_stop={grace_epochs: 40}"
    assert "but trials have at most 40 epochs" in fault_of(text, override)


def test_the_student_s_batch_is_split_over_the_workers(file):
    told = fault_of(file, "sweep.resources.workers=3", "run.teacher.train.batch_size=3")
    assert "sweep.resources.workers is 3, which does not divide the batch size 2" in told
    assert "faults in" not in told


def test_every_worker_gets_labelled_and_unlabelled_scans(file):
    """Else the supervised loss, a mean over workers, would be that of half of them."""
    unlabelled = "run.data.unlabelled_sequences=['01']"
    told = fault_of(file, unlabelled, "sweep.resources.workers=2")
    assert "sweep.resources.workers is 2, so a batch of 2 gives each 1, but with data.unl" in told
    assert "faults in" not in told
    assert parse_sweep(file, "f.yaml", ["sweep.resources.workers=2"])
    teacher = "run.teacher.train.batch_size=2"  # it learns from labelled scans only
    larger = [unlabelled, "sweep.resources.workers=2", "run.train.batch_size=4", teacher]
    assert parse_sweep(file, "f.yaml", larger)


def test_the_teacher_s_batch_is_split_over_the_workers_too(file):
    overrides = ["sweep.resources.workers=3", "run.train.batch_size=3"]
    told = fault_of(file, *overrides)
    assert "run.teacher.train.batch_size is 2, which cannot be split over 3 workers" in told
    assert "Multiples of 3" in told
    assert "faults in" not in told
    assert parse_sweep(file, "f.yaml", [*overrides, "run.teacher.train.batch_size=6"])
    untrained = "run.teacher={model: cylinder3d, checkpoint: t.safetensors}"
    assert parse_sweep(file, "f.yaml", [*overrides, untrained])


def test_baselines_and_confirmations_come_from_the_run(file):
    sweep = parse_sweep(file, "f.yaml")
    assert list(sweep.baseline_runs()) == ["undistilled", "published"]
    assert sweep.baseline_runs()["published"] == sweep.run.published()
    assert sweep.confirm_seeds() == (1, 2, 3)
    assert sweep.trial_run({"student.width": 0.125}, seed=2).seed == 2


def test_the_metrics_of_a_sweep_are_those_that_its_data_gives(file):
    nuscenes = file.replace("synth: {scenes: 4}", "format: nuscenes, root: /data")
    assert parse_sweep(nuscenes.replace("miou: max", "iou/barrier: max"), "f.yaml")
    assert "Did you mean iou/pedestrian?" in fault_of(
        nuscenes.replace("miou: max", "iou/pedestrain: max")
    )
    assert "iou/person is no metric of task 'lidar_seg' on the data of this run" in fault_of(
        nuscenes.replace("miou: max", "iou/person: max")
    )


@pytest.mark.parametrize("value", ["a\nsweep: {name: other}", "a\u2028sweep: {name: other}", "'#'"])
def test_overrides_that_are_noted_in_a_file_change_nothing_of_what_it_says(value):
    text = "\ufeff" + "run: {task: lidar_seg}\n"
    noted = with_overrides_noted(text, ["sweep.trials=4", f"run.data.root={value}"])
    assert read_yaml(noted).values == {"run": {"task": "lidar_seg"}}
    assert "sweep.trials=4" in noted.splitlines()[1]
    assert with_overrides_noted(text, []) == text
