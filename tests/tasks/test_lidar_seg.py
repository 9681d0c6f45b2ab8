import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from reference.native_roots import write_kitti, write_nuscenes

from kdsweep.config import weights
from kdsweep.data import prepare
from kdsweep.data.labels import NUSCENES, SEMANTICKITTI
from kdsweep.data.synthetic import SynthConfig
from kdsweep.errors import DataError, NonFiniteLossError, TapError
from kdsweep.losses.segmentation import lovasz_softmax, weighted_cross_entropy
from kdsweep.tasks.lidar_seg import LidarSeg, LidarSegData, LidarSegEvaluator, LidarSegLoss
from kdsweep.types import LidarSegBatch

GRID = (24, 18, 8)


def _task(root, home=Path("unused"), *, loss=None, **data):
    return LidarSeg(LidarSegData(root=root, grid=GRID, **data), loss or LidarSegLoss(), home=home)


@pytest.fixture
def kitti(tmp_path):
    return write_kitti(tmp_path / "kitti", {"00": 5, "08": 4})


def _batch(task):
    scans = task.val_set()
    return task.collate([scans[0], scans[1]])


def _taps(batch, num_classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    voxels = torch.randn(len(batch.voxel_coords), num_classes, generator=generator)
    points = torch.randn(len(batch.points), num_classes, generator=generator)
    return {"voxel_logits": voxels.requires_grad_(), "point_logits": points.requires_grad_()}


def test_terms_are_the_losses_of_their_rows(kitti):
    task = _task(kitti)
    batch = _batch(task)
    taps = _taps(batch, 20)
    terms = task.terms(taps, batch)
    class_weights = torch.tensor(SEMANTICKITTI.class_weights("cbrt"))
    for name, tap, labels in (
        ("voxel_ce", "voxel_logits", batch.voxel_labels),
        ("point_ce", "point_logits", batch.point_labels),
    ):
        expected = torch.nn.functional.cross_entropy(
            taps[tap], labels, weight=class_weights, ignore_index=0
        )
        torch.testing.assert_close(terms[name], expected)
    torch.testing.assert_close(
        terms["voxel_lovasz"], lovasz_softmax(taps["voxel_logits"], batch.voxel_labels, ignore=0)
    )
    sum(terms.values()).backward()
    assert all(tap.grad.abs().sum() > 0 for tap in taps.values())


@pytest.mark.parametrize("off", ["voxel_ce", "voxel_lovasz", "point_ce"])
def test_a_term_of_weight_0_is_not_computed_and_needs_no_tap(kitti, off):
    task = _task(kitti, loss=LidarSegLoss(**{off: 0.0}))
    batch = _batch(task)
    taps = _taps(batch, 20)
    if off == "point_ce":
        del taps["point_logits"]
    assert set(task.terms(taps, batch)) == set(weights(task.loss)) - {off}


@pytest.mark.parametrize("weighting", ["none", "cbrt", "inv_content"])
def test_class_weights_are_those_of_the_label_set(kitti, weighting):
    task = _task(kitti, loss=LidarSegLoss(class_weights=weighting))
    batch = _batch(task)
    taps = _taps(batch, 20)
    table = SEMANTICKITTI.class_weights(weighting)
    expected = weighted_cross_entropy(
        taps["point_logits"], batch.point_labels, None if table is None else torch.tensor(table)
    )
    torch.testing.assert_close(task.terms(taps, batch)["point_ce"], expected)


def test_an_unlabelled_batch_gives_zero_terms_that_back_propagate(kitti):
    task = _task(kitti)
    batch = _batch(task)
    batch.point_labels.zero_()
    batch.voxel_labels.zero_()
    taps = _taps(batch, 20)
    terms = task.terms(taps, batch)
    assert [term.item() for term in terms.values()] == [0.0] * 3
    sum(terms.values()).backward()


def test_a_missing_tap_is_named(kitti):
    task = _task(kitti)
    batch = _batch(task)
    logits = _taps(batch, 20)["voxel_logits"]
    with pytest.raises(TapError, match=r"needs tap 'voxel_logits' .*Did you mean voxels_logits"):
        task.terms({"voxels_logits": logits}, batch)


def test_what_a_model_must_know(kitti, tmp_path):
    found = _task(kitti).model_input()
    assert (found.num_classes, found.point_features, found.grid) == (20, 9, GRID)
    task = _task(tmp_path, format="nuscenes")
    assert task.model_input().num_classes == NUSCENES.num_classes == 17
    assert task.grid.lower == (0.0, -3.1415926, -5.0) and task.grid.upper == (50.0, 3.1415926, 3.0)


def test_batches_carry_the_class_shares_of_the_data_set(kitti):
    batch = _batch(_task(kitti))
    assert batch.class_shares == SEMANTICKITTI.labelled_shares()


def test_views_repeat_with_their_period_and_differ_within_it(kitti):
    task = _task(kitti)

    def sample(epoch, views, seed=0):
        return task.train_set(seed=seed, epoch=epoch, views=views)[2]

    first, again = sample(1, 3), sample(4, 3)
    assert first.sample_id == again.sample_id
    np.testing.assert_array_equal(first.points, again.points)
    others = [sample(2, 3), sample(4, 0), sample(1, 3, seed=1)]
    assert len({first.sample_id, *(other.sample_id for other in others)}) == 4
    assert all(not np.array_equal(first.points, other.points) for other in others)
    np.testing.assert_array_equal(sample(1, 0).points, first.points)  # epoch 1 is view 1


def test_an_id_names_all_that_decides_on_a_sample(kitti):
    ids = {
        _task(kitti, **data).train_set(seed=0, epoch=0, views=1)[0].sample_id
        for data in (
            {},
            {"augment": {"scale": 0.1}},
            {"bounds": ((0.0, -3.0, -4.0), (50.0, 3.0, 2.0))},
        )
    }
    assert len(ids) == 3
    fine = LidarSeg(LidarSegData(root=kitti, grid=(30, 20, 8)), LidarSegLoss(), home=Path("x"))
    assert fine.val_set()[0].sample_id != _task(kitti).val_set()[0].sample_id


def test_validation_is_not_augmented_and_kept_in_memory(kitti):
    task = _task(kitti)
    assert task.val_set()[0] is task.val_set()[0]
    assert "#" not in task.val_set()[0].sample_id


def test_limits_take_scans_evenly_spaced(kitti):
    task = _task(kitti, train_scans=2, val_scans=9)
    names = [sample.sample_id[:9] for sample in task.train_set(seed=0, epoch=0, views=0)]
    assert names == ["00/000000", "00/000002"]
    assert len(task.val_set()) == 4


def test_sequences_of_a_split_can_be_chosen(kitti, caplog):
    task = _task(kitti, train_sequences=("08",))
    task.prepare()
    assert len(task.train_set(seed=0, epoch=0, views=0)) == 4
    (record,) = caplog.records
    assert "train and val splits share 4 scans, 08/000000 first" in record.getMessage()


def test_prepare_says_once_that_an_official_split_is_incomplete(kitti, caplog):
    task = _task(kitti)
    task.prepare()
    _task(kitti).prepare()
    task.train_set(seed=0, epoch=0, views=0)
    (record,) = caplog.records
    expected = "the train split lacks 9 of its sequences, such as 01; going on with the rest"
    assert expected in record.getMessage()


def test_prepare_finds_a_damaged_file_of_either_split_without_reading(kitti):
    label = kitti / "sequences/08/labels/000003.label"
    label.write_bytes(label.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"000003\.label: 11 labels .* expected 12"):
        _task(kitti).prepare()
    _task(kitti, val_scans=2).prepare()  # a scan that is not used does not matter


def test_a_missing_root_is_found_by_prepare_and_not_before(tmp_path):
    task = _task(tmp_path / "none")
    with pytest.raises(DataError, match=r"none: this SemanticKITTI root does not exist"):
        task.prepare()


def test_the_fingerprint_follows_the_data_and_not_its_place(kitti, tmp_path):
    first = _task(kitti).fingerprint()
    moved = kitti.rename(tmp_path / "elsewhere")
    assert _task(moved).fingerprint() == first
    (moved / "sequences/00/velodyne/000004.bin").unlink()
    assert _task(moved).fingerprint() != first


def test_synthetic_scans_are_written_once_below_home(tmp_path, monkeypatch):
    calls = []

    def write(config, out, progress=None):
        calls.append(config)
        write_kitti(out, {"00": 2, "08": 1})

    monkeypatch.setattr(prepare, "write_semantickitti", write)
    data = LidarSegData(synth=SynthConfig(scenes=3), grid=GRID)
    tasks = [LidarSeg(data, LidarSegLoss(), home=tmp_path) for _ in range(2)]
    before = tasks[0].fingerprint()  # known without the files
    for task in tasks:
        task.prepare()
        assert len(task.train_set(seed=0, epoch=0, views=0)) == 2
        assert task.fingerprint() == before
    assert len(calls) == 1
    other = LidarSegData(synth=SynthConfig(scenes=3, seed=1), grid=GRID)
    assert LidarSeg(other, LidarSegLoss(), home=tmp_path).fingerprint() != before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "give exactly one of root and synth, got neither"),
        ({"root": "x", "synth": {"scenes": 2}}, "give exactly one of root and synth, got both"),
        (
            {"synth": {"scenes": 2}, "format": "nuscenes"},
            "synth writes format semantickitti, got f",
        ),
        (
            {"root": "x", "bounds": ((0, 0, 0), (50, 3, 0))},
            "each lower bound must be below its upper",
        ),
        ({"root": "x", "grid": (480, 360, 1)}, "greater than or equal to 2"),
        ({"root": "x", "path": "y"}, "Extra inputs"),
    ],
)
def test_a_data_section_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        LidarSegData(**wrong)


def test_the_data_section_survives_json(kitti):
    data = LidarSegData(root=kitti, grid=GRID, train_sequences=("00",))
    assert LidarSegData.model_validate_json(data.model_dump_json()) == data


def test_a_nuscenes_root_works_end_to_end(tmp_path):
    root = write_nuscenes(tmp_path)
    task = _task(root, format="nuscenes", version="v1.0-mini")
    task.prepare()
    batch = task.collate([task.val_set()[0]])
    assert batch.points.shape == (12, 9) and float(batch.points[0, 8]) == 0.25
    assert set(task.terms(_taps(batch, 17), batch)) == {"voxel_ce", "voxel_lovasz", "point_ce"}
    train = task.train_set(seed=0, epoch=0, views=0)
    assert train[0].sample_id.startswith("key-0#0@")


# ---- evaluation


def _labelled(labels):
    """A batch of points with these labels, all in one cell."""
    count = len(labels)
    return LidarSegBatch(
        points=torch.zeros(count, 9),
        voxel_coords=torch.zeros(1, 4, dtype=torch.int32),
        point_to_voxel=torch.zeros(count, dtype=torch.int64),
        point_labels=torch.tensor(labels),
        voxel_labels=torch.zeros(1, dtype=torch.int64),
        grid=GRID,
        point_counts=(count,),
        voxel_counts=(1,),
        sample_ids=("scan",),
    )


def _logits(predictions, num_classes, runner_up=None):
    logits = torch.zeros(len(predictions), num_classes)
    logits[torch.arange(len(predictions)), torch.tensor(predictions)] = 2.0
    if runner_up is not None:
        logits[:, runner_up] += 1.0
    return {"point_logits": logits}


def test_official_figures_mask_class_0_and_the_training_scripts_do_not():
    evaluator = LidarSegEvaluator("semantickitti")
    # the second point is predicted as 0, its next best class is the right one
    evaluator.update(_logits([1, 0, 9], 20, runner_up=1), _labelled([1, 1, 9]))
    metrics = evaluator.compute()
    assert metrics["iou/car"] == 1.0 and metrics["iou/road"] == 1.0
    assert metrics["miou"] == pytest.approx(2 / 19)  # absent classes count as 0
    assert metrics["miou_cropped"] == 1.0
    assert metrics["accuracy"] == 1.0
    assert len([name for name in metrics if name.startswith("iou/")]) == 19


def test_nuscenes_leaves_absent_classes_out():
    evaluator = LidarSegEvaluator("nuscenes")
    evaluator.update(_logits([4, 4, 11, 4], 17), _labelled([4, 11, 11, 0]))
    metrics = evaluator.compute()
    assert metrics["iou/car"] == 0.5 and metrics["iou/driveable_surface"] == 0.5
    assert metrics["miou"] == 0.5 == metrics["miou_cropped"]
    assert len([name for name in metrics if name.startswith("iou/")]) == 2


@pytest.mark.parametrize("data_format", ["semantickitti", "nuscenes"])
def test_every_metric_is_announced_with_its_direction(data_format):
    evaluator = LidarSegEvaluator(data_format)
    labels = list(range(evaluator.state().shape[1]))
    evaluator.update(_logits(labels, len(labels)), _labelled(labels))
    metrics = evaluator.compute()
    assert set(metrics) <= set(LidarSeg.metrics)
    assert next(iter(LidarSeg.metrics)) == "miou" and metrics["miou"] == 1.0
    assert all(math.isfinite(value) for value in metrics.values())


def test_workers_states_merge_to_what_one_worker_would_have():
    generator = torch.Generator().manual_seed(0)
    whole, first, second = (LidarSegEvaluator("semantickitti") for _ in range(3))
    for number, part in enumerate([first, second, first]):
        labels = _labelled(torch.randint(0, 20, (50 + number,), generator=generator).tolist())
        taps = {"point_logits": torch.randn(50 + number, 20, generator=generator)}
        for evaluator in (whole, part):
            evaluator.update(taps, labels)
    states = [pickle.loads(pickle.dumps(part.state())) for part in (first, second)]
    first.merge(states)  # replaces, so what it had does not count twice
    assert torch.equal(first.state(), whole.state())
    assert first.compute() == whole.compute()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_no_prediction(value):
    taps = _logits([1, 2, 3], 20)
    taps["point_logits"][1, 4] = value
    evaluator = LidarSegEvaluator("semantickitti")
    with pytest.raises(
        NonFiniteLossError,
        match=r"point_logits of 1 of 3 points hold NaN or infinity \(scans scan\): the network has",
    ):
        evaluator.update(taps, _labelled([1, 2, 3]))
    assert int(evaluator.state().sum()) == 0


def test_a_split_without_labels_has_no_miou():
    evaluator = LidarSegEvaluator("semantickitti")
    evaluator.update(_logits([1, 2], 20), _labelled([0, 0]))
    with pytest.raises(DataError, match=r"hold no labelled point.*data\.val_scans"):
        evaluator.compute()


def test_evaluation_equals_the_official_evaluator(oracle):
    data = np.load(oracle("pvd_miou_kitti_a.npz"))
    # class 0 is never predicted in official figures: keep the points where it is not
    kept = data["pred"] > 0
    target, pred = data["target"][kept].astype(int), data["pred"][kept].astype(int)
    evaluator = LidarSegEvaluator("semantickitti")
    evaluator.update(_logits(pred.tolist(), 20), _labelled(target.tolist()))
    counted = np.zeros((20, 20))
    np.add.at(counted, (target[target > 0], pred[target > 0]), 1)
    tp = counted.diagonal()
    expected = (tp / np.maximum(counted.sum(0) + counted.sum(1) - tp, 1))[1:].mean()
    assert evaluator.compute()["miou"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_terms_and_evaluation_work_on_any_device_and_precision(kitti, device, dtype):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    task = _task(kitti)
    batch = _batch(task).to(torch.device(device))
    taps = {name: tap.detach().to(device, dtype) for name, tap in _taps(_batch(task), 20).items()}
    terms = task.terms(taps, batch)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    evaluator = task.evaluator()
    evaluator.update(taps, batch)
    assert evaluator.state().device.type == "cpu"
    assert 0.0 <= evaluator.compute()["miou"] <= 1.0
