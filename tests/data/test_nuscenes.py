import json

import numpy as np
import pytest
from reference.native_roots import points, write_nuscenes

from kdsweep.data.nuscenes import NuScenes, write_predictions
from kdsweep.errors import DataError


def test_bytes_written_by_hand_are_read_back(tmp_path):
    reader = NuScenes(write_nuscenes(tmp_path), version="v1.0-mini")
    (scan,) = reader.scans("train")
    assert scan.name == "key-0"  # the sample_data token
    found, ids = reader.read(scan)
    np.testing.assert_array_equal(found, np.array(points(12, 5), dtype=np.float32)[:, :4])
    assert ids.tolist() == [4, 11, 0] * 4  # car, driveable surface, ignored
    assert reader.points(scan)[0, 4] == 7.0  # the ring


def test_only_lidar_key_frames_count_and_splits_are_the_official_ones(tmp_path):
    reader = NuScenes(write_nuscenes(tmp_path), version="v1.0-mini")
    assert [scan.name for scan in reader.all_scans()] == ["key-0", "key-1"]
    assert [scan.name for scan in reader.scans("val")] == ["key-1"]  # scene-0103


def test_the_real_sample_gives_the_expected_values(samples):
    root = samples / "nuscenes"
    if not root.exists():
        pytest.skip("no real sample")
    expected = json.loads((samples / "expected_values.json").read_text())
    (facts,) = (value["lidar"] for value in expected["nuscenes"].values())
    reader = NuScenes(root, version="v1.0-mini")
    scan = reader.scans("train")[0]
    assert scan.name == "9d9bf11fb0e144c8b446d54a8a00184f"
    found = reader.points(scan)
    assert found.shape == (facts["n_points"], 5)
    np.testing.assert_allclose(found.min(axis=0), facts["min"], rtol=1e-6)
    np.testing.assert_allclose(found.max(axis=0), facts["max"], rtol=1e-6)
    np.testing.assert_allclose(found.mean(axis=0, dtype=np.float64), facts["mean"], rtol=1e-6)
    np.testing.assert_allclose(found[0], facts["first_point"], rtol=1e-6)
    _, ids = reader.read(scan)
    raw = reader.raw_labels(scan)
    assert (ids[raw == 24] == 11).all() and (ids[raw == 0] == 0).all()
    assert set(np.unique(raw)) >= {0, 24, 28, 30, 31}


def test_chosen_scenes_replace_the_official_ones(tmp_path):
    root = write_nuscenes(tmp_path)
    reader = NuScenes(root, version="v1.0-mini", scenes={"val": ["scene-0061"], "train": ()})
    assert reader.scans("val") == reader.scans("train")
    with pytest.raises(
        DataError, match=r"data\.val_sequences names 'scene-61'.*Did you mean scene-"
    ):
        NuScenes(root, version="v1.0-mini", scenes={"val": ["scene-61"]}).scans("val")


def test_an_incomplete_split_is_what_is_here_and_the_rest_is_known(tmp_path):
    reader = NuScenes(write_nuscenes(tmp_path), version="v1.0-mini")
    assert reader.scenes("train") == ("scene-0061",)
    assert len(reader.missing("train")) == 7 and reader.missing("train")[0] == "scene-0553"


def test_the_test_version_has_no_labels_and_no_train_split(tmp_path):
    root = write_nuscenes(tmp_path, version="v1.0-test", scenes=["scene-0077"])
    (root / "v1.0-test/lidarseg.json").unlink()
    reader = NuScenes(root, version="v1.0-test")
    (scan,) = reader.scans("test")
    assert scan.labels is None and reader.read(scan)[1].tolist() == [0] * 12
    assert reader.all_scans() == (scan,)
    with pytest.raises(
        DataError, match=r"v1\.0-test has no train split\. It has: test; set data\.ver"
    ):
        reader.scans("train")


def test_tables_without_any_scene_of_a_split_say_what_they_have(tmp_path):
    root = write_nuscenes(tmp_path, scenes=["scene-0061"])
    with pytest.raises(
        DataError, match=r"no scene of the val split of v1\.0-mini.*have: scene-0061"
    ):
        NuScenes(root, version="v1.0-mini").scans("val")


def test_a_missing_version_names_those_that_are_here(tmp_path):
    with pytest.raises(DataError, match=r"v1\.0-mini: no such folder .*the root does not exist"):
        NuScenes(tmp_path / "none", version="v1.0-mini")
    with pytest.raises(DataError, match=r"no version is here"):
        NuScenes(tmp_path, version="v1.0-mini")
    write_nuscenes(tmp_path)
    with pytest.raises(
        DataError, match=r"v1\.0-trainval.*versions here: v1\.0-mini.*data\.version"
    ):
        NuScenes(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda scan: scan.points.write_bytes(scan.points.read_bytes()[:-1]),
            r"0\.pcd\.bin: damaged or truncated scan: 239 bytes found, expected a multiple of 20",
        ),
        (
            lambda scan: scan.labels.write_bytes(bytes(11)),
            r"key-0_lidarseg\.bin: 11 labels \(11 bytes\) found, expected 12 \(12 bytes\)",
        ),
        (
            lambda scan: scan.labels.write_bytes(bytes([40] * 12)),
            r"key-0_lidarseg\.bin: label ids that nuScenes-lidarseg does not have: 40",
        ),
        (lambda scan: scan.labels.unlink(), r"key-0_lidarseg\.bin: no such label file"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, damage, message):
    reader = NuScenes(write_nuscenes(tmp_path), version="v1.0-mini")
    (scan,) = reader.scans("train")
    damage(scan)
    with pytest.raises(DataError, match=message):
        reader.read(scan)


def test_labels_that_were_not_unpacked_are_missed_by_name(tmp_path):
    root = write_nuscenes(tmp_path)
    (root / "v1.0-mini/lidarseg.json").unlink()
    (root / "lidarseg/v1.0-mini/key-0_lidarseg.bin").unlink()
    reader = NuScenes(root, version="v1.0-mini")
    with pytest.raises(DataError, match=r"lidarseg/v1\.0-mini/key-0_lidarseg\.bin: no such label"):
        reader.read(reader.scans("train")[0])


def test_predictions_are_bytes_named_by_token_and_never_0(tmp_path):
    reader = NuScenes(write_nuscenes(tmp_path), version="v1.0-mini")
    (scan,) = reader.scans("val")
    path = write_predictions(tmp_path / "out", scan, np.array([1, 16, 4]), split="val")
    assert path == tmp_path / "out/lidarseg/val/key-1_lidarseg.bin"
    assert path.read_bytes() == bytes([1, 16, 4])
    with pytest.raises(
        ValueError, match=r"key-1: predictions of nuScenes-lidarseg must be 1\.\.16"
    ):
        write_predictions(tmp_path / "out", scan, np.array([1, 0]), split="val")
