import errno
import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from kdsweep.errors import SweepError
from kdsweep.sweep.lock import SweepLock, is_running


def test_a_second_launch_is_refused_with_the_running_process(tmp_path):
    folder = tmp_path / "pvd"
    with SweepLock(folder):
        assert is_running(folder)
        with pytest.raises(SweepError, match=f"'pvd' is running already: process {os.getpid()} on"):
            SweepLock(folder).acquire()
    assert not is_running(folder)


def test_the_lock_is_free_after_its_process_was_killed(tmp_path):
    code = (
        "import os, signal, sys, pathlib; from kdsweep.sweep.lock import SweepLock;"
        "SweepLock(pathlib.Path(sys.argv[1])).acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "lock").exists()
    with SweepLock(tmp_path):
        assert is_running(tmp_path)


def test_who_only_looks_is_not_taken_for_a_sweep_that_runs(tmp_path):
    """Neither by others who look, nor by a launch: `kdsweep status` may be asked all the time."""
    SweepLock(tmp_path).acquire().release()
    looks = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(looks, fcntl.LOCK_SH)  # in the middle of `is_running`
    assert not is_running(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        launch = pool.submit(SweepLock(tmp_path).acquire)
        os.close(looks)
        launch.result().release()


def test_a_lock_that_a_full_disk_does_not_take_is_told_and_held_by_nobody(tmp_path, monkeypatch):
    def full(handle: int, _: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(SweepError, match=f"cannot write {tmp_path / 'lock'}: No space left"):
            SweepLock(tmp_path).acquire()
    assert not is_running(tmp_path)
