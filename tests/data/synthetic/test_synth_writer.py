"""Files, poses, classes and byte determinism of the synthetic data set."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdsweep.data.synthetic import SynthConfig, config_digest, write_semantickitti
from kdsweep.data.synthetic.labels import MOVING, Raw
from kdsweep.data.synthetic.writer import VAL_SEQUENCE, _renumbered, scene_slots
from kdsweep.errors import DataError

SMALL = SynthConfig(scenes=3, scans_per_scene=2, beams=16, columns=256, seed=5)
LEARNING = {
    10: 1, 252: 1, 11: 2, 15: 3, 18: 4, 258: 4, 13: 5, 20: 5, 257: 5, 259: 5, 30: 6, 254: 6,
    31: 7, 253: 7, 32: 8, 255: 8, 40: 9, 60: 9, 44: 10, 48: 11, 49: 12, 50: 13, 51: 14, 70: 15,
    71: 16, 72: 17, 80: 18, 81: 19, 0: 0, 1: 0, 52: 0, 99: 0,
}  # fmt: skip


def _digest(root: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def _read(folder: Path, number: int):
    points = np.fromfile(folder / "velodyne" / f"{number:06d}.bin", "<f4").reshape(-1, 4)
    return points, np.fromfile(folder / "labels" / f"{number:06d}.label", "<u4")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small") / "data"
    write_semantickitti(SMALL, root)
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[SynthConfig, Path]:
    config = SynthConfig(scenes=9, val_share=0.34, beams=32, columns=1024, seed=1)
    root = tmp_path_factory.mktemp("many") / "data"
    write_semantickitti(config, root)
    return config, root


def _training_ids(root: Path) -> list[np.ndarray]:
    table = np.full(300, -1)
    table[list(LEARNING)] = list(LEARNING.values())
    files = sorted(root.rglob("*.label"))
    return [table[np.fromfile(path, "<u4") & 0xFFFF] for path in files]


def test_layout_is_the_native_one(small):
    assert sorted(p.name for p in (small / "sequences").iterdir()) == ["00", "01", "08"]
    for folder in (small / "sequences").iterdir():
        assert sorted(p.name for p in (folder / "velodyne").iterdir()) == ["000000.bin",
                                                                          "000001.bin"]  # fmt: skip
        for number in (0, 1):
            points, labels = _read(folder, number)
            assert len(points) == len(labels) > 2000
            assert np.isfinite(points).all()
        calib = dict(line.split(": ") for line in (folder / "calib.txt").read_text().splitlines())
        assert sorted(calib) == ["P0", "P1", "P2", "P3", "Tr"]
        assert all(len(value.split()) == 12 for value in calib.values())
        assert np.loadtxt(folder / "poses.txt").shape == (2, 12)
        times = np.loadtxt(folder / "times.txt")
        assert times[0] == 0.0 < times[1]


def test_the_folder_says_that_it_is_synthetic(small):
    assert "generated" in (small / "README.md").read_text()
    manifest = json.loads((small / "synthetic.json").read_text())
    assert manifest["synthetic"] is True
    assert manifest["config"] == SMALL.model_dump(mode="json")
    assert [s["sequence"] for s in manifest["scenes"]] == ["00", "01", "08"]


def test_same_configuration_gives_the_same_bytes(small, tmp_path):
    write_semantickitti(SMALL, tmp_path / "again")
    assert _digest(tmp_path / "again") == _digest(small)


def test_bytes_do_not_depend_on_process_hash_seed_or_threads(small, tmp_path):
    code = (
        "import os, sys, pathlib\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}) "
        "if hasattr(os, 'sched_setaffinity') else None\n"
        "from kdsweep.data.synthetic import SynthConfig, write_semantickitti\n"
        "write_semantickitti(SynthConfig.model_validate_json(sys.argv[1]),"
        " pathlib.Path(sys.argv[2]))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, SMALL.model_dump_json(), str(tmp_path / "other")]
    subprocess.run(command, check=True, env=environment, timeout=300)
    assert _digest(tmp_path / "other") == _digest(small)


def test_another_seed_gives_other_scans(small, tmp_path):
    write_semantickitti(SMALL.model_copy(update={"seed": 6}), tmp_path / "other")
    name = "sequences/00/velodyne/000000.bin"
    assert (tmp_path / "other" / name).read_bytes() != (small / name).read_bytes()


def test_more_scenes_keep_the_earlier_ones(small, tmp_path):
    write_semantickitti(SMALL.model_copy(update={"scenes": 4}), tmp_path / "more")
    for sequence in ("00", "01", "08"):
        name = f"sequences/{sequence}/velodyne/000001.bin"
        assert (tmp_path / "more" / name).read_bytes() == (small / name).read_bytes()


def test_importing_the_package_loads_no_ray_caster():
    code = (
        "import sys, kdsweep.data.synthetic; assert not {'embreex', 'trimesh'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_scenes_follow_the_official_splits():
    slots = scene_slots(SynthConfig(scenes=16, val_share=0.25))
    train = [slot for slot in slots if slot.split == "train"]
    assert [slot.sequence for slot in train[:10]] == ["00", "01", "02", "03", "04", "05", "06",
                                                      "07", "09", "10"]  # fmt: skip
    assert (train[10].sequence, train[10].position) == ("00", 1)
    val = [slot for slot in slots if slot.split == "val"]
    assert [(slot.sequence, slot.position) for slot in val] == [(VAL_SEQUENCE, k) for k in range(4)]


@pytest.mark.parametrize(
    ("scenes", "share", "expected"),
    [(1, 0.5, 1), (2, 0.01, 1), (2, 0.99, 1), (8, 0.25, 2), (5, 0.0, 0), (3, 1, 3)],
)
def test_share_of_validation_scenes(scenes, share, expected):
    assert SynthConfig(scenes=scenes, val_share=share).num_val_scenes == expected


def test_all_classes_appear_in_both_splits_and_the_rare_ones_are_rare(many):
    _, root = many
    for split in (["00", "01", "02", "03", "04", "05"], ["08"]):
        ids = [i for s in split for i in _training_ids(root / "sequences" / s)]
        assert set(np.unique(np.concatenate(ids))) == set(range(20))
    share = np.bincount(np.concatenate(_training_ids(root)), minlength=20)
    share = share / share.sum()
    for common in (1, 9, 11, 13, 14, 15, 17):
        assert 0.005 < share[common] < 0.45
    for rare in (2, 3, 6, 7, 8, 19):
        assert share[rare] < 0.006
    assert share[[4, 5, 12, 18]].max() < 0.03
    assert 0.002 < share[0] < 0.06


def test_things_have_instances_and_stuff_has_none(many):
    _, root = many
    things = {10, 11, 13, 15, 18, 20, 30, 31, 32, *MOVING.values()}
    for path in sorted(root.rglob("*.label")):
        labels = np.fromfile(path, "<u4")
        thing = np.isin(labels & 0xFFFF, list(things))
        assert (labels[thing] >> 16).min() > 0
        stuff = (labels & 0xFFFF)[(~thing) & (labels >> 16 > 0)]
        assert set(np.unique(stuff)) <= {Raw.UNLABELED, Raw.OUTLIER}
        for instance in np.unique(labels[thing] >> 16):
            classes = set(labels[(labels >> 16 == instance) & thing] & 0xFFFF)
            assert len(classes) == 1


def test_road_lies_below_the_sensor_and_buildings_rise_above_it(many):
    config, root = many
    heights = {raw: [] for raw in (Raw.ROAD, Raw.SIDEWALK, Raw.CAR, Raw.BUILDING)}
    for path in sorted(root.rglob("*.label")):
        points, labels = _read(path.parents[1], int(path.stem))
        near = np.linalg.norm(points[:, :3], axis=1) < 15
        for raw, found in heights.items():
            found.append(points[near & (labels & 0xFFFF == raw), 2])
    z = {raw: np.concatenate(found) for raw, found in heights.items()}
    assert abs(np.median(z[Raw.ROAD]) + config.sensor_height_m) < 0.1
    assert np.percentile(np.abs(z[Raw.ROAD] + config.sensor_height_m), 95) < 0.5
    assert 0.03 < np.median(z[Raw.SIDEWALK]) - np.median(z[Raw.ROAD]) < 0.3
    assert np.median(z[Raw.CAR]) > np.median(z[Raw.ROAD]) + 0.3
    assert np.median(z[Raw.BUILDING]) > np.median(z[Raw.CAR])


def test_poses_bring_static_walls_of_two_scans_together(tmp_path):
    config = SynthConfig(scenes=3, val_share=0.0, scans_per_scene=2, beams=64, columns=1024, seed=3,
                         scan_spacing_m=3.0)  # fmt: skip
    write_semantickitti(config, tmp_path / "data")
    with_poses, without = [], []
    for sequence in ("00", "01", "02"):
        folder = tmp_path / "data" / "sequences" / sequence
        rows = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
        last = np.tile([[0.0, 0.0, 0.0, 1.0]], (2, 1, 1))
        poses = np.concatenate([rows, last], axis=1)
        line = (folder / "calib.txt").read_text().splitlines()[4].removeprefix("Tr: ")
        tr = np.vstack([np.array(line.split(), float).reshape(3, 4), [0, 0, 0, 1]])
        lidar = np.linalg.inv(tr) @ poses @ tr
        np.testing.assert_allclose(lidar[0], np.eye(4), atol=1e-9)
        assert 2.5 < np.linalg.norm(lidar[1, :3, 3]) < 3.5
        assert lidar[1, 0, 3] > 2.5
        clouds = []
        for number in (0, 1):
            points, labels = _read(folder, number)
            flat = np.isin(labels & 0xFFFF, [Raw.BUILDING, Raw.FENCE, Raw.POLE])
            clouds.append(points[flat & (np.linalg.norm(points[:, :3], axis=1) < 20), :3])
        moved = clouds[1] @ lidar[1, :3, :3].T + lidar[1, :3, 3]
        with_poses.append(_distance(moved, clouds[0]))
        without.append(_distance(clouds[1], clouds[0]))
    assert np.median(np.concatenate(with_poses)) < 0.12
    assert np.median(np.concatenate(without)) > 2 * np.median(np.concatenate(with_poses))


def _distance(points, cloud) -> np.ndarray:
    """Distance of every 20th point to the nearest of a cloud, in metres."""
    some = points[::20]
    return np.sqrt(((some[:, None] - cloud[None]) ** 2).sum(-1).min(1))


def test_a_written_folder_is_left_alone_and_progress_still_ends(small):
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    calls = []
    write_semantickitti(SMALL, small, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(3, 3)]
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*")} == before


def test_progress_counts_scenes(tmp_path):
    calls = []
    config = SynthConfig(scenes=2, beams=4, columns=64)
    write_semantickitti(config, tmp_path / "d", lambda done, total: calls.append((done, total)))
    assert calls == [(0, 2), (1, 2), (2, 2)]


def test_a_folder_with_other_content_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match=r"not empty.*synthetic\.json.*empty folder"):
        write_semantickitti(SMALL, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_folder_of_another_configuration_is_refused(small):
    other = SMALL.model_copy(update={"seed": 99})
    with pytest.raises(DataError, match=f"another configuration.*{config_digest(other)}"):
        write_semantickitti(other, small)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="is a file"):
        write_semantickitti(SMALL, tmp_path / "out")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"digest": 3, "files": 4}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "synthetic.json").write_text(text)
    with pytest.raises(DataError, match=r"synthetic\.json: is damaged"):
        write_semantickitti(SMALL, tmp_path)


def test_a_missing_scan_of_a_written_folder_is_named(tmp_path):
    config = SynthConfig(scenes=1, val_share=0.0, beams=4, columns=64)
    write_semantickitti(config, tmp_path / "d")
    scan = tmp_path / "d" / "sequences" / "00" / "velodyne" / "000000.bin"
    scan.write_bytes(scan.read_bytes()[:-16])
    with pytest.raises(DataError, match=r"000000\.bin: is missing or damaged"):
        write_semantickitti(config, tmp_path / "d")


def test_a_failure_leaves_nothing_behind(tmp_path):
    def stop(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_semantickitti(SMALL, tmp_path / "out", stop)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write_semantickitti(SynthConfig(scenes=1, beams=4, columns=64), tmp_path / "out")
    assert (tmp_path / "out" / "synthetic.json").is_file()


def test_the_digest_follows_every_field():
    digests = {
        config_digest(SMALL.model_copy(update=change))
        for change in ({}, {"seed": 6}, {"beams": 32}, {"columns": 512}, {"drop_out": 0.5})
    }
    assert len(digests) == 5


@pytest.mark.parametrize("first", [0, 1000, 65000, 70000])
def test_renumbered_instances_stay_apart_and_stay_things(first):
    labels = (np.arange(900, dtype=np.uint32) << 16) | 10
    new = _renumbered(labels, first)
    assert (new & 0xFFFF == 10).all()
    assert new[0] >> 16 == 0
    assert len(np.unique(new >> 16)) == 900
    assert (new[1:] >> 16).min() > 0


@pytest.mark.parametrize(
    "changes", [{"max_range_m": 20.0}, {"max_range_m": 120.0}, {"scans_per_scene": 12}]
)
def test_extreme_settings_give_readable_scans(tmp_path, changes):
    config = SynthConfig(**{"scenes": 1, "val_share": 0.0, "beams": 8, "columns": 128, **changes})
    write_semantickitti(config, tmp_path / "d")
    folder = tmp_path / "d" / "sequences" / "00"
    for number in range(config.scans_per_scene):
        points, labels = _read(folder, number)
        assert len(points) == len(labels) > 300
        assert np.linalg.norm(points[:, :3], axis=1).max() < config.max_range_m + 0.01
