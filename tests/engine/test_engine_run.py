"""A whole run of the tiny world, from spec to loaded student."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch
from safetensors.torch import load_file

from kdsweep.engine import load_student
from kdsweep.engine.evaluate import evaluate
from kdsweep.engine.place import Place
from kdsweep.engine.ranks import Ranks
from kdsweep.engine.report import Progress
from kdsweep.engine.run import RunResult, execute
from kdsweep.engine.teacher import teacher_dir
from kdsweep.errors import (
    CheckpointError,
    DataError,
    NonFiniteLossError,
    ResourceError,
    SpecError,
    TapError,
)

MakeSpec = Callable[..., Any]
MakePlace = Callable[..., Place]


def go_on(_: Progress) -> bool:
    return True


class Recorder:
    """Keeps what is reported, and stops at an epoch of the student's training."""

    def __init__(self, stop_at: int = 0, stage: str = "train") -> None:
        self.seen: list[Progress] = []
        self._stop_at = stop_at
        self._stage = stage

    def __call__(self, progress: Progress) -> bool:
        self.seen.append(progress)
        return (progress.stage, progress.epoch) != (self._stage, self._stop_at)

    def epochs(self, stage: str = "train") -> list[int]:
        return [progress.epoch for progress in self.seen if progress.stage == stage]


def weights_of(result: RunResult) -> dict[str, torch.Tensor]:
    return load_file(result.run_dir / "student.safetensors")


def assert_same_weights(a: RunResult, b: RunResult) -> None:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_run_trains_its_teacher_and_reports_every_epoch(
    run_spec: MakeSpec, place: MakePlace
) -> None:
    recorder = Recorder()
    result = execute(run_spec(), place(), recorder)
    assert (result.state, result.epoch) == ("finished", 3)
    assert recorder.epochs("teacher") == [1, 2]
    assert recorder.epochs("train") == [1, 2, 3]
    assert recorder.epochs("profile") == [3]
    reported = [p for p in recorder.seen if p.stage == "train"][-1].metrics
    for name in ("likelihood", "loss/ce", "loss/kl", "loss/total", "lr", "epoch"):
        assert name in reported
    assert reported["grad_share/ce"] + reported["grad_share/kl"] == pytest.approx(1.0)
    assert reported["loss/total"] == pytest.approx(reported["loss/ce"] + reported["loss/kl"])
    assert reported["seconds/total"] >= sum(
        reported[f"seconds/{s}"] for s in ("data", "teacher", "forward", "backward", "evaluate")
    )


def test_the_final_metrics_hold_accuracy_cost_and_profile(
    run_spec: MakeSpec, place: MakePlace
) -> None:
    metrics = execute(run_spec(), place(), go_on).metrics
    wanted = (
        "likelihood params macs latency_ms file_mb params_ratio macs_ratio latency_ratio "
        "train_seconds step_seconds gpu_seconds epochs best_epoch seconds/checkpoint"
    )
    assert set(wanted.split()) <= set(metrics)
    assert metrics["step_seconds"] <= metrics["train_seconds"]
    assert metrics["gpu_seconds"] == 0.0


def test_a_finished_folder_answers_at_once(run_spec: MakeSpec, place: MakePlace) -> None:
    first = execute(run_spec(), place(), go_on)
    recorder, read = Recorder(), tiny_world.TinySet.read
    again = execute(run_spec(), place(), recorder)
    assert again == first
    assert recorder.seen == []
    assert tiny_world.TinySet.read == read


def test_a_folder_of_another_finished_run_is_refused(run_spec: MakeSpec, place: MakePlace) -> None:
    execute(run_spec(), place(), go_on)
    with pytest.raises(CheckpointError, match="give every run a folder of its own"):
        execute(run_spec(seed=4), place(), go_on)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"method__hint": 0.5, "student__in_dropout": 0.2},
        {"train__accumulate": 2, "train__clip_norm": 0.1, "train__optimizer": "adamw"},
        {"train__amp": "bfloat16", "train__views": 2, "train__schedule": "cosine"},
    ],
)
def test_equal_seeds_give_equal_bits(
    run_spec: MakeSpec, place: MakePlace, overrides: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    first = execute(run_spec(**overrides), place("a"), go_on)
    torch.manual_seed(2)  # what happened before in the process does not matter
    assert_same_weights(first, execute(run_spec(**overrides), place("b"), go_on))


def test_another_seed_gives_other_weights(run_spec: MakeSpec, place: MakePlace) -> None:
    first = weights_of(execute(run_spec(seed=1), place("a"), go_on))
    second = weights_of(execute(run_spec(seed=2), place("b"), go_on))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_data_workers_do_not_change_the_weights(run_spec: MakeSpec, place: MakePlace) -> None:
    first = execute(run_spec(train__views=2), place("a"), go_on)
    second = execute(run_spec(train__views=2, train__data_workers=1), place("b"), go_on)
    assert_same_weights(first, second)


@pytest.mark.parametrize("stop_at", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_weights(
    run_spec: MakeSpec, place: MakePlace, stop_at: int
) -> None:
    spec = run_spec(method__hint=0.5, student__in_dropout=0.2)
    whole = execute(spec, place("whole"), go_on)
    stopped = execute(spec, place("cut"), Recorder(stop_at))
    assert (stopped.state, stopped.epoch) == ("stopped", stop_at)
    assert "likelihood" in stopped.metrics
    assert not (stopped.run_dir / "metrics.json").exists()
    recorder = Recorder()
    resumed = execute(spec, place("cut"), recorder)
    assert recorder.epochs() == list(range(stop_at, 4))  # the last report is given again
    assert resumed.state == "finished"
    assert_same_weights(whole, resumed)
    assert resumed.metrics["likelihood"] == whole.metrics["likelihood"]


def test_stopping_while_the_teacher_trains_stops_the_run(
    run_spec: MakeSpec, place: MakePlace
) -> None:
    result = execute(run_spec(), place(), Recorder(1, "teacher"))
    assert (result.state, result.epoch) == ("stopped", 0)
    assert execute(run_spec(), place(), go_on).state == "finished"


def test_a_checkpoint_of_another_run_is_not_resumed(run_spec: MakeSpec, place: MakePlace) -> None:
    execute(run_spec(), place(), Recorder(1))
    with pytest.raises(CheckpointError, match="spec, data or teacher differ"):
        execute(run_spec(train__lr=0.5), place(), go_on)


def test_a_run_without_distillation_never_makes_a_teacher(
    run_spec: MakeSpec, place: MakePlace
) -> None:
    spec, where = run_spec().undistilled(), place()
    recorder = Recorder()
    metrics = execute(spec, where, recorder).metrics
    assert recorder.epochs("teacher") == []
    assert not teacher_dir(spec, where.home).exists()
    assert metrics["params_ratio"] > 1  # the ratios need its architecture only
    assert not any(name.endswith("/kl") for p in recorder.seen for name in p.metrics)


def test_a_term_of_weight_zero_is_never_computed(run_spec: MakeSpec, place: MakePlace) -> None:
    recorder = Recorder()
    execute(run_spec(method__kl=0.0, method__hint=0.1), place(), recorder)
    names = {name for p in recorder.seen if p.stage == "train" for name in p.metrics}
    assert "loss/hint" in names
    assert not names & {"loss/kl", "loss/margin", "grad_share/kl"}


def test_the_teacher_is_trained_once_for_all_runs(run_spec: MakeSpec, place: MakePlace) -> None:
    execute(run_spec(), place("a"), go_on)
    recorder = Recorder()
    execute(run_spec(seed=9, method__kl=0.3), place("b"), recorder)
    assert recorder.epochs("teacher") == []


def test_a_missing_tap_is_found_before_the_data(run_spec: MakeSpec, place: MakePlace) -> None:
    spec = run_spec(student__features=False, method__hint=1.0, data__root="missing")
    with pytest.raises(TapError, match="needs tap 'features' of the student"):
        execute(spec, place(), go_on)


def test_missing_data_is_named(run_spec: MakeSpec, place: MakePlace) -> None:
    with pytest.raises(DataError, match="root 'missing' is not there"):
        execute(run_spec(data__root="missing"), place(), go_on)


def test_a_gpu_that_is_not_there_is_named(
    run_spec: MakeSpec, place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"'cuda' was asked for, but .* sees no GPU here"):
        execute(run_spec(), replace(place(), device="cuda"), go_on)


def test_a_non_finite_term_stops_the_run_by_name(run_spec: MakeSpec, place: MakePlace) -> None:
    spec = run_spec(loss__poison=0.1)  # from the fifth batch, the second of epoch 2
    with pytest.raises(NonFiniteLossError, match="term 'poison' is not finite in epoch 2, step 2"):
        execute(spec, place(), go_on)


def test_the_checkpoint_before_a_failure_stays(run_spec: MakeSpec, place: MakePlace) -> None:
    where = place()
    with pytest.raises(NonFiniteLossError):
        execute(run_spec(loss__poison=0.1), where, go_on)
    assert (where.run_dir / "checkpoint" / "epoch-0001" / "state.safetensors").is_file()


def test_a_run_without_any_term_is_refused(run_spec: MakeSpec, place: MakePlace) -> None:
    with pytest.raises(SpecError, match=r"Give one of loss\.ce, .*method\.kl"):
        execute(run_spec(loss__ce=0.0, method__kl=0.0), place(), go_on)


def test_slicing_a_teacher_needs_a_model_that_can(run_spec: MakeSpec, place: MakePlace) -> None:
    with pytest.raises(SpecError, match=r"model 'tiny' has no function slice_from"):
        execute(run_spec(train__init="sliced_teacher"), place(), go_on)


def test_a_student_starts_from_its_sliced_teacher(
    run_spec: MakeSpec, place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kdsweep.models.tiny as module  # type: ignore[import-not-found]

    seen = []

    def slice_from(student: torch.nn.Module, teacher: torch.nn.Module) -> None:
        seen.append((student.hidden, teacher.hidden))

    monkeypatch.setattr(module, "slice_from", slice_from, raising=False)
    spec = run_spec(train__init="sliced_teacher").undistilled()
    recorder = Recorder()
    execute(spec.with_overrides({"train.init": "sliced_teacher"}), place(), recorder)
    assert recorder.epochs("teacher") == [1, 2]
    assert seen == [(8, 16)]


def test_a_given_teacher_of_another_width_is_refused(run_spec: MakeSpec, place: MakePlace) -> None:
    given = execute(run_spec().undistilled(), place("half"), go_on).run_dir
    spec = run_spec(teacher__train=None, teacher__checkpoint=str(given / "student.safetensors"))
    with pytest.raises(CheckpointError) as error:
        execute(spec, place(), go_on)
    assert "does not fit model 'tiny_world' of width 1.0" in str(error.value)
    assert "tensor 'body.0.weight' is (8, 2) in the file, (16, 2) in the model" in str(error.value)
    assert "student.json says: tiny of width 0.5" in str(error.value)


def test_a_given_teacher_is_used_as_it_is(run_spec: MakeSpec, place: MakePlace) -> None:
    given = execute(run_spec().teacher_run(), place("teacher"), go_on).run_dir
    trained = execute(run_spec(), place("a"), go_on)
    spec = run_spec(teacher__train=None, teacher__checkpoint=str(given))
    assert_same_weights(trained, execute(spec, place("b"), go_on))


def test_a_finished_folder_does_not_answer_for_another_teacher_or_other_data(
    run_spec: MakeSpec, place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers = [
        execute(run_spec(teacher__train__epochs=n).teacher_run(), place(f"t{n}"), go_on)
        for n in (1, 2)
    ]
    first, second = (
        run_spec(teacher__train=None, teacher__checkpoint=str(one.run_dir)) for one in teachers
    )
    done = execute(first, place("a"), go_on)
    with pytest.raises(CheckpointError, match="the finished run of another teacher than this one"):
        execute(second, place("a"), go_on)
    moved = shutil.copytree(teachers[0].run_dir, teachers[0].run_dir.with_name("moved"))
    elsewhere = run_spec(
        teacher__train=None, teacher__checkpoint=str(moved), data__root="somewhere"
    )
    assert execute(elsewhere, place("a"), go_on) == done
    trained = run_spec()
    there = execute(trained, place("b"), go_on)
    fresh_home = replace(place("b"), home=place("b").home / "fresh")
    again = execute(run_spec(data__root="somewhere"), fresh_home, go_on)
    assert (again.state, again.metrics) == ("finished", there.metrics)
    monkeypatch.setattr(tiny_world.TinyTask, "fingerprint", lambda _: "other")
    with pytest.raises(CheckpointError, match="the finished run of other data than this one"):
        execute(elsewhere, place("a"), go_on)


def test_a_given_teacher_that_is_missing_is_named(run_spec: MakeSpec, place: MakePlace) -> None:
    spec = run_spec(teacher__train=None, teacher__checkpoint="/nowhere/teacher.safetensors")
    with pytest.raises(CheckpointError, match=r"there is no file /nowhere/teacher\.safetensors"):
        execute(spec, place(), go_on)


def test_a_teacher_of_other_data_is_refused(run_spec: MakeSpec, place: MakePlace) -> None:
    spec, where = run_spec(), place()
    execute(spec, place("a"), go_on)
    record = teacher_dir(spec, where.home) / "metrics.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "data": "other"}))
    with pytest.raises(CheckpointError, match="was trained on other data"):
        execute(spec, place("b"), go_on)


def test_the_loaded_student_reproduces_the_logged_metric(
    run_spec: MakeSpec, place: MakePlace
) -> None:
    result = execute(run_spec(train__amp="bfloat16"), place(), go_on)
    student = load_student(result.run_dir)
    assert not student.training
    task = tiny_world.TinyTask(tiny_world.TinyData(), tiny_world.TinyLoss(), home=Path("unused"))
    alone = Ranks(0, 1, torch.device("cpu"))
    assert (
        evaluate(student, task, batch_size=4, ranks=alone)["likelihood"]
        == (result.metrics["likelihood"])
    )


def test_the_best_epoch_is_exported(run_spec: MakeSpec, place: MakePlace) -> None:
    recorder = Recorder()
    spec = run_spec(train__lr=0.9, train__epochs=6)  # far too large: the metric goes up and down
    result = execute(spec, place(), recorder)
    by_epoch = {p.epoch: p.metrics["likelihood"] for p in recorder.seen if p.stage == "train"}
    best = max(by_epoch, key=lambda epoch: by_epoch[epoch])
    assert best != 6
    assert result.metrics["best_epoch"] == best
    assert result.metrics["likelihood"] == by_epoch[best]
    assert json.loads((result.run_dir / "student.json").read_text())["epoch"] == best


def test_epochs_between_evaluations_report_no_metric(run_spec: MakeSpec, place: MakePlace) -> None:
    recorder = Recorder()
    execute(run_spec(train__val_every=2), place(), recorder)
    evaluated = [p.epoch for p in recorder.seen if "likelihood" in p.metrics and p.stage == "train"]
    assert evaluated == [2, 3]  # the last one always


def test_the_finished_folder_keeps_no_checkpoint(run_spec: MakeSpec, place: MakePlace) -> None:
    result = execute(run_spec(method__hint=0.5), place(), go_on)
    left = sorted(path.name for path in result.run_dir.iterdir())
    assert left == [
        "adapters.safetensors", "lock", "metrics.json", "spec.json", "student.json",
        "student.safetensors",
    ]  # fmt: skip
    assert json.loads((result.run_dir / "spec.json").read_text())["method"]["hint"] == 0.5


def test_random_state_and_settings_of_the_process_are_left_alone(
    run_spec: MakeSpec, place: MakePlace
) -> None:
    state = torch.get_rng_state()
    execute(run_spec(), place(), go_on)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
