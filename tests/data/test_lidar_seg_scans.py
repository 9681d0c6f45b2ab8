import pickle

import numpy as np
import pytest
import torch
from reference.native_roots import points, write_kitti

from kdsweep.data.lidar_seg import LidarSegScans, View, collate
from kdsweep.data.semantickitti import SemanticKitti
from kdsweep.data.transforms import Augment
from kdsweep.geometry.cylindrical import PI, CylinderGrid

GRID = CylinderGrid((24, 18, 8), (0.0, -PI, -4.0), (50.0, PI, 2.0))


@pytest.fixture
def reader(tmp_path):
    return SemanticKitti(write_kitti(tmp_path, {"00": 4}, num_points=40))


def _scans(reader, number=None, *, seed=0, cache_bytes=0, augment=None):
    augment = augment or Augment()
    view = None if number is None else View(augment, 45.0, seed, number)
    scans = reader.scans("train")
    return LidarSegScans(reader, scans, GRID, identity="g", view=view, cache_bytes=cache_bytes)


def _same(first, second):
    arrays = [name for name, value in vars(first).items() if isinstance(value, np.ndarray)]
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)


def test_a_sample_holds_the_scan_as_it_is_on_disk(reader):
    sample = _scans(reader)[2]
    assert sample.sample_id == "00/000002@g"
    np.testing.assert_array_equal(
        sample.points[:, [6, 7, 5, 8]], np.array(points(40, 4, start=2), dtype=np.float32)
    )
    cells = sample.voxel_coords[sample.point_to_voxel]
    centres = GRID.centres(cells)
    np.testing.assert_allclose(sample.points[:, :3], sample.points[:, 3:6] - centres, atol=1e-5)
    assert sample.point_labels.tolist() == [1, 9, 1, 0] * 10


def test_a_view_is_the_same_in_any_order_and_any_process(reader):
    scans = _scans(reader, 3)
    forward = [scans[number] for number in range(4)]
    again = pickle.loads(pickle.dumps(_scans(reader, 3)))
    for number in (2, 0, 3, 1):
        assert _same(again[number], forward[number])
        assert again[number].sample_id == f"00/{number:06d}#3@g"


@pytest.mark.parametrize("other", [{"number": 4}, {"number": 3, "seed": 1}, {"number": None}])
def test_another_view_or_seed_is_another_sample(reader, other):
    assert not _same(_scans(reader, 3)[0], _scans(reader, **other)[0])


def test_augmentation_moves_points_but_not_labels_and_intensity(reader):
    plain, moved = _scans(reader)[0], _scans(reader, 0)[0]
    np.testing.assert_array_equal(plain.point_labels, moved.point_labels)
    np.testing.assert_array_equal(plain.points[:, 8], moved.points[:, 8])


def test_the_cache_gives_the_same_samples_and_stops_at_its_limit(reader, monkeypatch):
    size = _scans(reader)[0].num_bytes
    cached = _scans(reader, cache_bytes=int(2.5 * size))
    first = [cached[number] for number in range(4)]
    reads = []
    monkeypatch.setattr(
        reader, "read", lambda scan: reads.append(scan.name) or SemanticKitti.read(reader, scan)
    )
    second = [cached[number] for number in range(4)]
    assert all(_same(*pair) for pair in zip(first, second, strict=True))
    assert reads == ["00/000002", "00/000003"]


def test_a_batch_is_its_samples_one_after_the_other(reader):
    scans = _scans(reader)
    samples = [scans[1], scans[3]]
    batch = collate(samples, grid=GRID.cells, class_shares=(0.0, 1.0))
    assert batch.grid == (24, 18, 8) and batch.class_shares == (0.0, 1.0)
    assert batch.sample_ids == ("00/000001@g", "00/000003@g")
    assert batch.points.dtype == torch.float32 and batch.voxel_coords.dtype == torch.int32
    for name in ("point_to_voxel", "point_labels", "voxel_labels"):
        assert getattr(batch, name).dtype == torch.int64
    rows = batch.voxel_coords.tolist()
    assert rows == sorted(rows) and {row[0] for row in rows} == {0, 1}
    point, voxel = 0, 0
    for scan, sample in enumerate(samples):
        many = slice(point, point + len(sample.points))
        cells = batch.voxel_coords[batch.point_to_voxel[many]].numpy()
        assert (cells[:, 0] == scan).all()
        np.testing.assert_array_equal(cells[:, 1:], sample.voxel_coords[sample.point_to_voxel])
        np.testing.assert_array_equal(batch.points[many], sample.points)
        np.testing.assert_array_equal(batch.point_labels[many], sample.point_labels)
        own = slice(voxel, voxel + len(sample.voxel_coords))
        np.testing.assert_array_equal(batch.voxel_labels[own], sample.voxel_labels)
        point, voxel = many.stop, own.stop
    assert batch.row_counts("points") == (40, 40)
    assert sum(batch.row_counts("voxels")) == voxel == len(rows)


def test_the_real_scan_fills_the_full_grid(samples):
    root = samples / "semantickitti"
    if not root.exists():
        pytest.skip("no real scan")
    reader = SemanticKitti(root)
    grid = CylinderGrid((480, 360, 32), GRID.lower, GRID.upper)
    sample = LidarSegScans(reader, reader.scans("val"), grid, identity="g")[0]
    assert len(sample.points) == 123_389 and len(sample.voxel_coords) == 46_952
    flat = np.ravel_multi_index(tuple(sample.voxel_coords.T), grid.cells)
    assert (np.diff(flat) > 0).all()
    # an independent vote: sort by (cell, label), longest run, first of equal ones
    for voxel in range(0, 46_952, 997):
        inside = sample.point_labels[sample.point_to_voxel == voxel]
        values, counts = np.unique(inside, return_counts=True)
        assert sample.voxel_labels[voxel] == values[counts.argmax()]
