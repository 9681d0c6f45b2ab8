"""What every reader of labelled scans must do. A new reader is one more entry in `READERS`."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from reference.native_roots import write_kitti, write_nuscenes

from kdsweep.data.check import check_root
from kdsweep.data.nuscenes import NuScenes
from kdsweep.data.scans import ScanReader
from kdsweep.data.semantickitti import SemanticKitti
from kdsweep.errors import DataError


@dataclass(frozen=True)
class Case:
    """A reader class, how to write a root for it, and how to open that root."""

    reader: type[ScanReader]
    write: Callable[[Path], Path]
    open: Callable[[Path], ScanReader]


READERS = {
    "semantickitti": Case(SemanticKitti, write_kitti, SemanticKitti),
    "nuscenes": Case(NuScenes, write_nuscenes, lambda root: NuScenes(root, version="v1.0-mini")),
}


@pytest.fixture(params=READERS)
def case(request):
    return READERS[request.param]


@pytest.fixture
def reader(case, tmp_path):
    return case.open(case.write(tmp_path))


def test_every_reader_has_a_case():
    assert {case.reader for case in READERS.values()} == set(ScanReader.__subclasses__())


@pytest.mark.parametrize("split", ["train", "val"])
def test_points_and_training_ids_correspond(reader, split):
    for scan in reader.scans(split):
        points, ids = reader.read(scan)
        assert points.dtype == np.float32 and points.shape == (len(ids), 4)
        assert ids.dtype == np.uint8 and ids.max() < reader.label_set.num_classes
        assert reader.sizes(scan) == (len(points), len(ids))
        assert len(reader.raw_labels(scan)) == len(points)


def test_names_are_unique_and_the_order_is_stable(reader, case):
    names = [scan.name for split in ("train", "val") for scan in reader.scans(split)]
    assert len(set(names)) == len(names) > 0
    again = case.open(reader.root)
    assert names == [scan.name for split in ("train", "val") for scan in again.scans(split)]
    assert set(names) <= {scan.name for scan in reader.all_scans()}


def test_points_are_mapped_and_cannot_be_written(reader):
    points = reader.points(reader.scans("train")[0])
    assert isinstance(points, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        points[0, 0] = 1.0


def test_a_reader_crosses_processes(reader):
    copy = pickle.loads(pickle.dumps(reader))
    (scan, *_) = reader.scans("train")
    np.testing.assert_array_equal(copy.read(scan)[0], reader.read(scan)[0])
    assert copy.scans("val") == reader.scans("val")


@pytest.mark.parametrize("which", ["points", "labels"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing"])
def test_a_damaged_file_is_named_by_reading_sizing_and_checking(case, reader, which, damage):
    scan = reader.scans("train")[0]
    path = getattr(scan, which)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if damage == "truncated" else b"")
    for action in (reader.read, reader.sizes):
        with pytest.raises(DataError) as caught:
            action(scan)
        assert str(path) in str(caught.value)
    faults = check_root(case.open(reader.root)).faults
    assert sum(str(path) in fault for fault in faults) == 1


def test_a_missing_root_is_named(case, tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*data\.root"):
        case.open(tmp_path / "nowhere")


def test_errors_cross_processes(case, tmp_path):
    with pytest.raises(DataError) as caught:
        case.open(tmp_path / "nowhere")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
