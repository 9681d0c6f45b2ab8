"""Files are whole or not there; locks end with their holder."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kdsweep.engine import files
from kdsweep.errors import ResourceError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    files.write_json(path, {"a": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyError("broken")

    with pytest.raises(KeyError):
        files.write_file(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
    assert '"a": 1' in path.read_text()


def test_a_full_disk_is_named_before_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    desk = tmp_path / "desk"
    desk.mkdir()
    path = tmp_path / "run" / "checkpoint" / "best-0001.safetensors"
    with pytest.raises(ResourceError, match=r"the disk is full: .*best-0001.* could not"):
        files.write_file(path, lambda _: Path("/dev/full").write_bytes(b"weights"), desk)


def test_a_lock_excludes_a_second_holder_until_released(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with files.locked(tmp_path / "lock", poll_s=0.001):
            order.append("second")

    thread = threading.Thread(target=second)
    with files.locked(tmp_path / "lock"):
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from kdsweep.engine import files\n"
        "with files.locked(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code, tmp_path / "lock"], check=False)
    assert died.returncode == -9
    with files.locked(tmp_path / "lock"):
        assert os.path.exists(tmp_path / "lock")


def test_the_checksum_finds_a_changed_bit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123456789")
    assert files.checksum(path) == "cbf43926"  # the check value of CRC-32
    path.write_bytes(b"123456788")
    assert files.checksum(path) != "cbf43926"
