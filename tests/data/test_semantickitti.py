import json
import struct

import numpy as np
import pytest
from reference.native_roots import CALIB, points, write_kitti, write_kitti_labels, write_points

from kdsweep.data.semantickitti import SPLITS, SemanticKitti, write_predictions
from kdsweep.errors import DataError


def test_bytes_written_by_hand_are_read_back(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path))
    scan = reader.scans("train")[1]
    assert scan.name == "00/000001"
    xyzi, ids = reader.read(scan)
    np.testing.assert_array_equal(xyzi, np.array(points(12, 4, start=1), dtype=np.float32))
    assert ids.tolist() == [1, 9, 1, 0] * 3  # car, road, moving car -> car, unlabeled
    assert reader.instance_ids(scan).tolist() == [2] * 12
    assert reader.raw_labels(scan)[0] == 2 << 16 | 10


def test_the_real_scan_gives_the_expected_values(samples):
    root = samples / "semantickitti"
    if not root.exists():
        pytest.skip("no real scan")
    expected = json.loads((samples / "expected_values.json").read_text())
    expected = expected["semantickitti"]["sequences/08/000000"]
    reader = SemanticKitti(root)
    (scan,) = reader.scans("val")
    found, ids = reader.read(scan)
    facts = expected["velodyne"]
    assert found.shape == (facts["n_points"], 4) and len(ids) == expected["n_labels"]
    np.testing.assert_allclose(found.min(axis=0), facts["min"], rtol=1e-6)
    np.testing.assert_allclose(found.max(axis=0), facts["max"], rtol=1e-6)
    np.testing.assert_allclose(found.mean(axis=0, dtype=np.float64), facts["mean"], rtol=1e-6)
    np.testing.assert_allclose(found[0], facts["first_point"], rtol=1e-6)
    np.testing.assert_allclose(found[-1], facts["last_point"], rtol=1e-6)
    raw = reader.raw_labels(scan)
    assert raw[:10].tolist() == expected["first_10_labels_uint32"]
    assert len(np.unique(raw)) == expected["n_distinct_uint32"]
    for values, key in (
        (reader.semantic_ids(raw), "semantic_histogram_raw_ids (label & 0xffff)"),
        (reader.instance_ids(scan), "instance_ids (label >> 16)"),
    ):
        counts = {str(value): int((values == value).sum()) for value in np.unique(values)}
        assert counts == expected[key]


def test_official_splits_are_disjoint_and_complete():
    names = [name for split in SPLITS.values() for name in split]
    assert sorted(names) == [f"{number:02d}" for number in range(22)]


def test_scans_come_in_order_split_by_split(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path, {"10": 1, "00": 2, "08": 1, "11": 1}))
    assert [scan.name for scan in reader.scans("train")] == ["00/000000", "00/000001", "10/000000"]
    assert [scan.name for scan in reader.scans("val")] == ["08/000000"]
    assert len(reader.all_scans()) == 5


def test_the_test_split_needs_no_labels(tmp_path):
    write_points(tmp_path / "sequences/11/velodyne/000000.bin", points(3, 4))
    reader = SemanticKitti(tmp_path)
    (scan,) = reader.scans("test")
    _, ids = reader.read(scan)
    assert scan.labels is None and ids.tolist() == [0, 0, 0]
    assert reader.all_scans() == (scan,)
    with pytest.raises(DataError, match=r"000000\.bin: this scan has no labels"):
        reader.raw_labels(scan)


def test_chosen_sequences_replace_the_official_ones(tmp_path):
    root = write_kitti(tmp_path, {"08": 2})
    reader = SemanticKitti(root, sequences={"train": ["08"], "val": []})
    assert reader.scans("train") == reader.scans("val")
    assert reader.missing("train") == ()


def test_an_incomplete_split_is_what_is_here_and_the_rest_is_known(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path))
    assert reader.sequences("train") == ("00",)
    assert reader.missing("train") == SPLITS["train"][1:] and reader.missing("val") == ()


def test_calib_and_poses_become_lidar_poses(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path))
    transform = reader.calib("00")["Tr"]
    np.testing.assert_array_equal(transform[:3, 3], [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(transform[3], [0, 0, 0, 1])
    poses = reader.poses("00")
    assert poses.shape == (3, 4, 4)
    # a camera step along its x axis (right) is a LiDAR step along -y
    np.testing.assert_allclose(poses[2][:3, 3], [0.0, -2.0, 0.0], atol=1e-12)


def test_predictions_are_written_as_raw_ids_in_the_layout_of_the_benchmark(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path))
    scan = reader.scans("val")[0]
    path = write_predictions(tmp_path / "out", scan, np.array([0, 1, 5, 19], dtype=np.uint8))
    assert path == tmp_path / "out/sequences/08/predictions/000000.label"
    assert struct.unpack("<4I", path.read_bytes()) == (0, 10, 20, 81)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, r"root does not exist\. Expected .*sequences/00/velodyne/000000\.bin"),
        (lambda root: root.mkdir(), r"has no folder 'sequences'.*set data\.root to the folder"),
    ],
)
def test_a_missing_root_says_what_is_expected(tmp_path, prepare, message):
    root = tmp_path / "kitti"
    prepare(root)
    with pytest.raises(DataError, match=message):
        SemanticKitti(root)


def test_missing_sequences_are_named(tmp_path):
    root = write_kitti(tmp_path, {"00": 1, "05": 1})
    with pytest.raises(
        DataError, match=r"no sequence of the val split.*Expected some of 08.*00, 05"
    ):
        SemanticKitti(root).scans("val")
    with pytest.raises(
        DataError, match=r"data\.val_sequences names '04', which is not here. Valid: 00, 05"
    ):
        SemanticKitti(root, sequences={"val": ["04"]}).scans("val")
    (root / "sequences/08/velodyne").mkdir(parents=True)
    with pytest.raises(DataError, match=r"sequences of the val split hold no \.bin file"):
        SemanticKitti(root).scans("val")


def test_a_truncated_scan_names_the_file_and_the_sizes(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path))
    scan = reader.scans("train")[0]
    scan.points.write_bytes(scan.points.read_bytes()[:-3])
    message = r"00/velodyne/000000\.bin: damaged or truncated scan: 189 bytes found, expected a "
    message += r"multiple of 16 \(bytes per point\), such as 176 for 11 or 192 for 12 points\. Copy"
    for action in (reader.read, reader.sizes, reader.points):
        with pytest.raises(DataError, match=message):
            action(scan)


def test_a_label_count_that_differs_from_the_points_gives_both(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path))
    scan = reader.scans("train")[0]
    write_kitti_labels(scan.labels, [10] * 10)
    message = (
        r"000000\.label: 10 labels \(40 bytes\) found, expected 12 \(48 bytes\), one for each "
    )
    message += r"point of .*000000\.bin"
    for action in (reader.read, reader.sizes):
        with pytest.raises(DataError, match=message):
            action(scan)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda scan: scan.points.unlink(), r"000000\.bin: no such scan\. Copy it"),
        (lambda scan: scan.points.write_bytes(b""), r"000000\.bin: this scan is empty \(0 bytes\)"),
        (lambda scan: scan.labels.unlink(), r"000000\.label: no such label file\. Copy it"),
        (
            lambda scan: scan.labels.write_bytes(bytes(47)),
            r"000000\.label: damaged or truncated label file: 47 bytes.*multiple of 4 \(bytes per ",
        ),
        (
            lambda scan: write_kitti_labels(scan.labels, [7] * 12),
            r"000000\.label: label ids that SemanticKITTI does not have: 7\. The file is damaged",
        ),
        (
            lambda scan: write_points(scan.points, [(1, 2, float("nan"), 0)] * 2 + [(1,) * 4] * 10),
            r"000000\.bin: 2 of 12 points hold NaN or infinity",
        ),
        (
            lambda scan: write_points(scan.points, [(1,) * 4] * 11 + [(1, -1e30, 2, 0)]),
            r"000000\.bin: 1 of 12 points cannot be: point 11 has y = -1e\+30, and no value is "
            r"beyond 1e\+06\. The scan is damaged: copy it again",
        ),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, damage, message):
    reader = SemanticKitti(write_kitti(tmp_path))
    scan = reader.scans("train")[0]
    damage(scan)
    with pytest.raises(DataError, match=message):
        reader.read(scan)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "calib.txt",
            "Tr 1 2 3\n",
            r"calib\.txt, line 1: expected 'KEY: 12 numbers', got 'Tr 1 2 3'",
        ),
        ("calib.txt", "\nTr: 1 2 x\n", r"calib\.txt, line 2: expected 12 numbers .* got '1 2 x'"),
        ("calib.txt", CALIB.splitlines()[0], r"calib\.txt: no matrix 'Tr'.*Valid: P0"),
        ("calib.txt", "é", r"calib\.txt: cannot read this file"),
        ("poses.txt", "1 2 3\n", r"poses\.txt, line 1: expected 12 numbers"),
        (
            "poses.txt",
            "1 0 0 0 0 1 0 0 0 0 1 0\n",
            r"poses\.txt: 1 poses found, expected 3, one per",
        ),
        ("poses.txt", None, r"poses\.txt: no such file"),
    ],
)
def test_damaged_calibration_and_poses_name_file_and_line(tmp_path, name, text, message):
    reader = SemanticKitti(write_kitti(tmp_path))
    path = tmp_path / "sequences/00" / name
    path.unlink()
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        reader.poses("00")
