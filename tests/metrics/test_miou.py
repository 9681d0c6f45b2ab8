import json
import zipfile

import numpy as np
import pytest
import torch

from kdsweep.data.labels import SEMANTICKITTI
from kdsweep.metrics.miou import accuracy, benchmark_iou, confusion_matrix, cropped_iou


def _confusion(labels, predictions, num_classes):
    return confusion_matrix(
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(predictions.astype(np.int64)),
        num_classes=num_classes,
    )


@pytest.mark.parametrize(
    "case", ["pvd_miou_kitti_a.npz", "pvd_miou_kitti_absent.npz", "pvd_miou_nusc_a.npz"]
)
def test_both_conventions_equal_the_published_evaluators(oracle, case):
    data = np.load(oracle(case))
    confusion = _confusion(data["target"], data["pred"], int(data["num_classes"]))
    counted = confusion.clone()
    counted[0] = 0
    np.testing.assert_array_equal(counted.T, data["api_conf"] * (np.arange(len(counted)) > 0))
    found = benchmark_iou(confusion)
    np.testing.assert_allclose(found.per_class, data["api_iou"][1:], rtol=1e-9, atol=1e-14)
    assert found.mean == pytest.approx(float(data["api_miou"]), rel=1e-9)
    assert accuracy(confusion) == pytest.approx(float(data["api_acc"]), rel=1e-9)
    cropped = cropped_iou(confusion)
    np.testing.assert_array_equal(confusion[1:, 1:], data["c3d_hist"])
    np.testing.assert_allclose(cropped.per_class, data["c3d_iou"], rtol=1e-9)
    assert cropped.mean == pytest.approx(float(data["c3d_miou"]), rel=1e-9)
    if "nusc_iou" in data:  # the devkit's figures: predictions of 0 do not occur
        np.testing.assert_allclose(cropped.per_class, data["nusc_iou"][1:], rtol=1e-7)
        assert cropped.mean == pytest.approx(float(data["nusc_miou"]), rel=1e-7)


@pytest.mark.parametrize("case", ["a", "b", "real"])
def test_official_evaluator_of_semantickitti_is_reproduced(oracle, samples, case):
    expected = json.loads(oracle(f"semkitti_eval_{case}.json").read_text())
    confusion = torch.zeros(20, 20, dtype=torch.int64)
    with zipfile.ZipFile(oracle(f"semkitti_eval_{case}.zip")) as archive:
        for name in archive.namelist():
            if "/predictions/" not in name:
                continue
            predicted = archive.read(name)
            truth = name.replace("/predictions/", "/labels/")
            if truth in archive.namelist():
                label = archive.read(truth)
            else:
                label = (samples / "semantickitti" / truth).read_bytes()
            ids = [
                SEMANTICKITTI.to_training(np.frombuffer(data, "<u4") & 0xFFFF)
                for data in (label, predicted)
            ]
            confusion += _confusion(*ids, 20)
    found = benchmark_iou(confusion)
    assert found.mean == pytest.approx(expected["mIoU"], rel=1e-9)
    assert accuracy(confusion) == pytest.approx(expected["accuracy"], rel=1e-9)
    per_class = {
        f"{label}:{SEMANTICKITTI.classes[label]}": value
        for label, value in enumerate(found.per_class.tolist(), 1)
    }
    assert per_class == pytest.approx(expected["IoU_per_class"], rel=1e-9, abs=1e-12)
    rows_pred = np.array(expected["confusion_rows_pred_cols_gt"])
    np.testing.assert_array_equal(confusion.T[:, 1:], rows_pred[:, 1:])


def test_conventions_by_hand():
    # ground truth 1 1 1 2 0, prediction 1 0 2 2 1; class 3 never occurs
    confusion = _confusion(np.array([1, 1, 1, 2, 0]), np.array([1, 0, 2, 2, 1]), 4)
    official = benchmark_iou(confusion)
    assert official.per_class.tolist() == [1 / 3, 1 / 2, 0.0]
    assert official.mean == pytest.approx((1 / 3 + 1 / 2) / 3)
    cropped = cropped_iou(confusion)  # the point predicted as 0 is no miss
    assert cropped.per_class[:2].tolist() == [1 / 2, 1 / 2] and cropped.per_class[2].isnan()
    assert cropped.mean == pytest.approx(1 / 2)
    assert accuracy(confusion) == pytest.approx(2 / 3)


def test_accuracy_of_nothing_is_0_and_its_cropped_mean_is_nan():
    empty = torch.zeros(4, 4, dtype=torch.int64)
    assert accuracy(empty) == 0.0
    assert np.isnan(cropped_iou(empty).mean)
    assert benchmark_iou(empty).mean == 0.0


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 4], [0, 0], r"labels are 0\.\.4; valid: 0\.\.3"),
        ([0, 1], [-1, 0], r"predictions are -1\.\.0; valid: 0\.\.3"),
    ],
)
def test_ids_outside_the_classes_are_refused(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        _confusion(np.array(labels), np.array(predictions), 4)


def test_an_empty_scan_counts_nothing():
    none = np.empty(0)
    assert _confusion(none, none, 4).sum() == 0


@pytest.mark.gpu
def test_counts_on_the_gpu_equal_those_on_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    labels, predictions = torch.randint(
        0, 20, (2, 5000), generator=torch.Generator().manual_seed(0)
    )
    on_cpu = confusion_matrix(labels, predictions, num_classes=20)
    on_gpu = confusion_matrix(labels.cuda(), predictions.cuda(), num_classes=20)
    assert torch.equal(on_cpu, on_gpu.cpu())
