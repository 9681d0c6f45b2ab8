import os
import subprocess
import sys

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
