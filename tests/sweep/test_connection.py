"""What a process that is connected to Ray says, whatever becomes of the log of Ray's own words."""

import pytest

from kdsweep.errors import SweepError
from kdsweep.sweep.connection import connected


def test_a_log_that_a_full_disk_does_not_take_hides_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    log = tmp_path / "ray.log"
    log.symlink_to("/dev/full")
    with pytest.raises(SweepError, match="resume"), connected(None, None, log):
        print("8 PYTHON worker processes have been started")
        raise SweepError("cannot write the journal. Make room, then resume it.")
