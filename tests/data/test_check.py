from reference.native_roots import write_kitti, write_kitti_labels, write_nuscenes, write_points

from kdsweep.data.check import check_root
from kdsweep.data.nuscenes import NuScenes
from kdsweep.data.semantickitti import SemanticKitti


def test_a_sound_root_has_no_faults_and_is_read_whole(tmp_path):
    steps = []
    report = check_root(
        SemanticKitti(write_kitti(tmp_path)), progress=lambda done, of: steps.append((done, of))
    )
    assert report.faults == ()
    assert (report.num_scans, report.num_points) == (5, 60)
    assert steps == [(number, 5) for number in range(1, 6)]


def test_every_damaged_file_is_listed_once(tmp_path):
    root = write_kitti(tmp_path, {"00": 6, "08": 2})
    velodyne, labels = (root / "sequences/00" / name for name in ("velodyne", "labels"))
    (velodyne / "000000.bin").write_bytes(bytes(17))  # truncated
    write_kitti_labels(labels / "000001.label", [10] * 3)  # too few
    write_kitti_labels(labels / "000002.label", [9999] * 12)  # unknown class
    (labels / "000003.label").unlink()
    write_points(velodyne / "000004.bin", [(float("inf"), 0, 0, 0)] * 12)
    (velodyne / "000005.bin").unlink()  # its label is left over
    (root / "sequences/08/calib.txt").write_text("Tr: 1\n")
    (root / "sequences/00/poses.txt").unlink()
    report = check_root(SemanticKitti(root))
    expected = (
        "00/velodyne/000000.bin: damaged or truncated",
        "00/labels/000001.label: 3 labels",
        "00/labels/000002.label: label ids that",
        "00/labels/000003.label: no such label file",
        "00/velodyne/000004.bin: 12 of 12 points",
        "00/labels/000005.label: its scan",
        "08/calib.txt, line 1",
    )
    assert len(report.faults) == len(expected)
    for fault, part in zip(report.faults, expected, strict=True):
        assert part in fault
    assert report.num_points == 24  # of the two scans of sequence 08


def test_a_coordinate_that_cannot_be_is_found(tmp_path):
    root = write_kitti(tmp_path, {"00": 1})
    write_points(root / "sequences/00/velodyne/000000.bin", [(0, 0, 1e30, 0)] + [(1,) * 4] * 11)
    (fault,) = check_root(SemanticKitti(root)).faults
    assert "000000.bin: 1 of 12 points cannot be: point 0 has z = 1e+30" in fault


def test_a_sequence_without_scans_and_poses_is_found(tmp_path):
    root = write_kitti(tmp_path, {"00": 1, "01": 1})
    folder = root / "sequences/01"
    for path in (*folder.glob("velodyne/*"), *folder.glob("labels/*")):
        path.unlink()
    (folder / "poses.txt").write_text("\n")
    (fault,) = check_root(SemanticKitti(root)).faults
    assert fault.startswith(f"{folder / 'poses.txt'}: no pose, and {folder / 'velodyne'} holds no ")


def test_a_scan_and_its_labels_may_both_be_damaged(tmp_path):
    root = write_kitti(tmp_path, {"00": 1})
    (root / "sequences/00/velodyne/000000.bin").write_bytes(bytes(15))
    (root / "sequences/00/labels/000000.label").write_bytes(bytes(3))
    scan, label = check_root(SemanticKitti(root)).faults
    assert "000000.bin: damaged or truncated scan" in scan
    assert "000000.label: damaged or truncated label file" in label


def test_unlabelled_test_sequences_are_sound(tmp_path):
    root = write_kitti(tmp_path, {"11": 2})
    for label in (root / "sequences/11/labels").iterdir():
        label.unlink()
    (root / "sequences/11/labels").rmdir()
    assert check_root(SemanticKitti(root)).faults == ()


def test_a_nuscenes_root_is_checked_by_its_tables(tmp_path):
    root = write_nuscenes(tmp_path)
    (root / "samples/LIDAR_TOP/1.pcd.bin").unlink()
    (root / "lidarseg/v1.0-mini/key-0_lidarseg.bin").write_bytes(bytes([99] * 12))
    label, scan = check_root(NuScenes(root, version="v1.0-mini")).faults
    assert "key-0_lidarseg.bin: label ids that nuScenes-lidarseg does not have: 99" in label
    assert "1.pcd.bin: no such scan" in scan
