import threading

import pytest
from reference.native_roots import write_kitti

from kdsweep.data import prepare
from kdsweep.data.prepare import scan_sizes, synthetic_root, write_synthetic
from kdsweep.data.semantickitti import SemanticKitti
from kdsweep.data.synthetic import SynthConfig
from kdsweep.errors import DataError

CONFIG = SynthConfig(scenes=2, seed=7)


@pytest.fixture
def writes(monkeypatch):
    calls = []

    def write(config, out, progress=None):
        calls.append(out)
        write_kitti(out)

    monkeypatch.setattr(prepare, "write_semantickitti", write)
    return calls


def test_scans_are_written_once_under_the_name_of_their_configuration(tmp_path, writes):
    root = write_synthetic(CONFIG, tmp_path)
    assert root == synthetic_root(CONFIG, tmp_path) == write_synthetic(CONFIG, tmp_path)
    assert root.parent == tmp_path / "data"
    assert len(SemanticKitti(root).all_scans()) == 5
    assert len(writes) == 1
    assert synthetic_root(SynthConfig(scenes=2, seed=8), tmp_path) != root


def test_an_interrupted_writer_leaves_nothing_that_is_taken_for_data(tmp_path, monkeypatch, writes):
    whole = prepare.write_semantickitti

    def interrupted(config, out, progress=None):
        whole(config, out)
        (out / "sequences/00/velodyne/999999.bin").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "write_semantickitti", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(CONFIG, tmp_path)
    assert not synthetic_root(CONFIG, tmp_path).exists()
    monkeypatch.setattr(prepare, "write_semantickitti", whole)
    root = write_synthetic(CONFIG, tmp_path)
    assert not (root / "sequences/00/velodyne/999999.bin").exists()
    assert [path.name for path in root.parent.iterdir() if path.is_dir()] == [root.name]


def test_whoever_comes_second_waits_and_writes_nothing(tmp_path, monkeypatch, writes):
    whole = prepare.write_semantickitti
    started, finish = threading.Event(), threading.Event()

    def slow(config, out, progress=None):
        started.set()
        assert finish.wait(30)
        whole(config, out)

    monkeypatch.setattr(prepare, "write_semantickitti", slow)
    roots = []
    threads = [
        threading.Thread(target=lambda: roots.append(write_synthetic(CONFIG, tmp_path)))
        for _ in range(2)
    ]
    threads[0].start()
    assert started.wait(30)
    threads[1].start()
    finish.set()
    for thread in threads:
        thread.join(30)
    assert roots == [synthetic_root(CONFIG, tmp_path)] * 2
    assert len(writes) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(config, out, progress=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare, "write_semantickitti", full)
    with pytest.raises(
        DataError, match=r"cannot write the synthetic scans: No space left.*KDSWEEP_H"
    ):
        write_synthetic(CONFIG, tmp_path)


def test_sizes_need_no_reading(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path, {"00": 2}))
    found = scan_sizes(reader, reader.scans("train"))
    assert found == [("00/000000", 12, 12), ("00/000001", 12, 12)]


def test_the_first_faults_are_listed_and_the_others_counted(tmp_path):
    reader = SemanticKitti(write_kitti(tmp_path, {"00": 9}))
    scans = reader.scans("train")
    for scan in scans[:7]:
        scan.points.write_bytes(bytes(17))
    with pytest.raises(DataError) as caught:
        scan_sizes(reader, scans)
    message = str(caught.value)
    assert "7 damaged or missing files ('kdsweep data check' lists all):" in message
    assert "000000.bin: damaged or truncated scan: 17 bytes" in message
    assert message.count(".bin:") == 5 and message.endswith("and 2 more")
