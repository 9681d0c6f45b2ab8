"""Whole runs on the digits that come with scikit-learn: real data, no download, seconds."""

import pytest
import torch

from kdsweep.engine.load import load_student
from kdsweep.engine.parts import check_fit
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.errors import SpecError, TapError
from kdsweep.spec.run import RunSpec

TEACHER = {
    "model": "small_cnn",
    "width": 0.5,
    "l2_norm": True,
    "train": {"epochs": 2, "batch_size": 60, "lr": 0.002},
}
STUDENT = {"model": "small_cnn", "width": 0.25, "embedding_dim": 16, "convs_per_stage": 1}


def _spec(**sections):
    values = {
        "task": "metric_learning",
        "data": {"format": "digits", "batches_per_epoch": 6},
        "student": STUDENT,
        "train": {"epochs": 2, "batch_size": 60, "lr": 0.002},
        "seed": 0,
    }
    return RunSpec.from_dict({**values, **sections})


@pytest.fixture
def run(tmp_path):
    def start(spec, name="run"):
        seen = []
        place = Place(tmp_path / "home", tmp_path / name, device="cpu", threads=1)
        result = execute(spec, place, lambda progress: bool(seen.append(progress)) or True)
        return result, seen

    return start


def test_a_student_learns_from_its_teacher_alone_as_rkd_is_published(run):
    spec = _spec(loss={"triplet": 0.0}, teacher=TEACHER, method={"name": "rkd"})
    result, seen = run(spec)
    assert result.state == "finished"
    assert [p.epoch for p in seen if p.stage == "teacher"] == [1, 2]
    losses = [p.metrics["loss/total"] for p in seen if p.stage == "train"]
    assert losses[1] < losses[0]
    assert {"loss/distance", "loss/angle"} <= set(seen[-2].metrics)
    assert "loss/triplet" not in seen[-2].metrics
    # one of five classes by chance: 0.2
    assert 0.6 < result.metrics["recall_at_1"] <= result.metrics["recall_at_8"] <= 1.0
    assert result.metrics["params_ratio"] > 4
    student = load_student(result.run_dir)
    assert not student.training


def test_an_embedding_learns_from_the_teachers_answers_over_training_classes(run):
    loss = {"triplet": 1.0, "cross_entropy": 1.0}
    spec = _spec(loss=loss, teacher=TEACHER, method={"name": "kd"})
    result, seen = run(spec)
    terms = {"loss/triplet", "loss/cross_entropy", "loss/soft_targets"}
    assert terms <= set(seen[-2].metrics)
    assert 0.6 < result.metrics["recall_at_1"] <= 1.0
    assert load_student(result.run_dir).taps()["logits"].channels == 5


def test_a_method_on_logits_needs_networks_that_give_them(run, tmp_path):
    with pytest.raises(TapError, match=r"method 'kd' needs tap 'logits'"):
        run(_spec(teacher=TEACHER, method={"name": "kd"}))
    with pytest.raises(TapError, match=r"method 'fitnet' needs tap 'layer4'.*Valid: .*layer3"):
        check_fit(_spec(teacher=TEACHER, method={"name": "fitnet", "tap": "layer4"}), tmp_path)
    check_fit(_spec(teacher=TEACHER, method={"name": "fitnet", "tap": "layer3"}), tmp_path)


def test_stored_knowledge_gives_the_same_relations_as_live_one(run):
    sections = {"loss": {"triplet": 0.0}, "teacher": TEACHER, "method": {"name": "rkd"}}
    train = {"epochs": 1, "batch_size": 60, "lr": 0.002, "views": 1}
    stored, _ = run(_spec(**sections, train=train), "stored")
    live, _ = run(_spec(**sections, train={**train, "views": 0}), "live")
    # float16 storage and batches of one: not the same bits, but the same training
    assert stored.metrics["recall_at_1"] == pytest.approx(live.metrics["recall_at_1"], abs=0.03)


def test_equal_seeds_give_equal_students_and_others_differ(run):
    first, second = run(_spec(), "a")[0], run(_spec(), "b")[0]
    other = run(_spec(seed=1), "c")[0]
    weights = [load_student(r.run_dir).state_dict() for r in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert first.metrics["recall_at_1"] == second.metrics["recall_at_1"]


def test_a_run_without_any_term_is_refused(run, tmp_path):
    method = {"name": "rkd", "distance": 0.0, "angle": 0.0}
    spec = _spec(loss={"triplet": 0.0}, teacher=TEACHER, method=method)
    with pytest.raises(
        SpecError, match=r"no term has a weight above 0.*loss.triplet, loss.cross_entropy, method."
    ):
        run(spec)
    assert not (tmp_path / "home" / "teachers").exists()


def test_the_student_alone_learns_with_the_triplet_loss(run):
    spec = _spec(loss={"triplet": 0.0, "margin": 0.5}, teacher=TEACHER, method={"name": "rkd"})
    alone = spec.undistilled()
    assert (alone.loss.triplet, alone.loss.margin) == (1.0, 0.5)
    result, seen = run(alone)
    assert result.state == "finished" and "loss/triplet" in seen[0].metrics


def test_a_batch_larger_than_the_training_split_is_refused(run):
    spec = _spec(train={"epochs": 1, "batch_size": 1000, "lr": 0.002})
    with pytest.raises(SpecError, match=r"train.batch_size 1000 is larger than the 901"):
        run(spec)


@pytest.mark.parametrize("method", ["rkd", "kd"])
def test_a_classifier_learns_from_labels_and_teacher(run, method):
    spec = _spec(
        task="image_classification",
        data={"format": "digits", "train_images": 300, "val_images": 100},
        teacher={**TEACHER, "l2_norm": False},
        method={"name": method},
        train={"epochs": 6, "batch_size": 30, "lr": 0.005},
    )
    result, seen = run(spec)
    assert result.state == "finished" and "loss/cross_entropy" in seen[-2].metrics
    # by chance: 0.1 and 0.5
    assert result.metrics["top1"] > 0.5 and result.metrics["top5"] > 0.8
