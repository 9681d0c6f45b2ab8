"""Whole runs on the digits: every method of image networks, and where their weights come from."""

import pytest

from kdsweep.config import weights
from kdsweep.engine import load_student
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.errors import CheckpointError
from kdsweep.models.small_cnn import SmallCNN
from kdsweep.spec.run import RunSpec

TRAIN = {"epochs": 1, "batch_size": 25}


def run_spec(task="metric_learning", method=None, **sections):
    data = {"format": "digits"}
    data |= {"batches_per_epoch": 2} if task == "metric_learning" else {"train_images": 50}
    return RunSpec.from_dict(
        {
            "task": task,
            "data": data,
            "teacher": {"model": "small_cnn", "width": 0.25, "embedding_dim": 12, "train": TRAIN},
            "student": {"model": "small_cnn", "width": 0.125, "embedding_dim": 6},
            "method": method,
            "train": TRAIN,
            **sections,
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def run(home, tmp_path):
    def execute_here(spec):
        reports = []
        place = Place(home=home, run_dir=tmp_path / "run", device="cpu", threads=1)
        result = execute(spec, place, lambda progress: reports.append(progress) is None)
        return result, reports

    return execute_here


@pytest.mark.parametrize(
    ("task", "method", "loss"),
    [
        ("metric_learning", {"name": "rkd"}, {"triplet": 0}),
        ("metric_learning", {"name": "fitnet"}, {}),
        ("image_classification", {"name": "kd"}, {}),
        ("image_classification", {"name": "rkd", "tap": "pooled", "soft_targets": 1}, {}),
    ],
    ids=["relations alone", "hints", "soft targets", "relations and soft targets"],
)
def test_every_method_trains_a_student_of_its_own_width(run, task, method, loss):
    spec = run_spec(task, method, loss=loss)
    result, reports = run(spec)
    (epoch,) = (report.metrics for report in reports if report.stage == "train")
    active = {**weights(spec.loss), **weights(spec.method.config)}
    terms = {f"loss/{name}" for name, weight in active.items() if weight > 0}
    assert terms | {"loss/total"} == {name for name in epoch if name.startswith("loss/")}
    assert result.metrics["params_ratio"] > 2
    assert load_student(result.run_dir).taps()["embedding"].channels == 6


def test_pretrained_weights_are_loaded_for_networks_that_train_and_no_others(run, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        SmallCNN, "load_pretrained", lambda self: loaded.append(self.head.dim), raising=True
    )
    result, _ = run(run_spec(method={"name": "rkd"}, seed=7))
    # The student before its training; the teacher only if this run was the one that trained it.
    assert loaded.count(6) == 1
    assert loaded.count(12) <= 1
    load_student(result.run_dir)
    assert loaded.count(6) == 1


def test_a_missing_pretrained_file_ends_a_run_before_any_data_is_read(run, tmp_path):
    path = str(tmp_path / "resnet18-01234567.pth")
    spec = run_spec(
        data={"format": "image_folder", "root": str(tmp_path / "no data")},
        student={"model": "resnet", "pretrained": path},
        teacher=None,
    )
    with pytest.raises(CheckpointError, match=r"resnet18-01234567\.pth: No such file"):
        run(spec)
