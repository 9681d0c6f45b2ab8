"""Whoever runs a sweep in storage without locks is known to others until it is gone."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from kdsweep.errors import SweepError
from kdsweep.sweep.lease import VALID_S, leased
from kdsweep.sweep.mirror import Mirror


@pytest.fixture
def mirror(tmp_path):
    return Mirror(f"file://{tmp_path / 'bucket'}", tmp_path / "scratch")


@pytest.fixture
def folder(mirror):
    return mirror.root / "sweeps" / "pvd"


def leave(mirror, folder, **note):
    mirror.write(folder / "lease.json", {"pid": 1, "host": "elsewhere", "since": 0.0, **note})


def test_a_second_process_is_refused_while_the_first_one_runs(mirror, folder):
    with (
        leased(mirror, folder),
        pytest.raises(SweepError, match=rf"'pvd' is running already: process {os.getpid()} on "),
        leased(mirror, folder),
    ):
        pytest.fail("two at once")


def test_the_note_ends_with_the_sweep(mirror, folder, tmp_path):
    with leased(mirror, folder):
        assert (tmp_path / "bucket" / "sweeps" / "pvd" / "lease.json").exists()
    assert mirror.read(folder / "lease.json") is None
    with leased(mirror, folder):
        pass


def date(tmp_path, ago_s):
    """Makes the note as old as if it had been written so long ago, for the storage."""
    note = tmp_path / "bucket" / "sweeps" / "pvd" / "lease.json"
    written = time.time() - ago_s
    os.utime(note, (written, written))


@pytest.mark.parametrize("wrong_by_s", [-5 * 3600.0, 0.0, 5 * 3600.0])
@pytest.mark.parametrize("ours_wrong_by_s", [0.0, 7 * 3600.0])
def test_a_note_counts_until_the_storage_says_it_is_old_whatever_the_clocks_say(
    mirror, folder, tmp_path, wrong_by_s, ours_wrong_by_s
):
    def ours():
        return time.time() + ours_wrong_by_s

    leave(mirror, folder, renewed=time.time() + wrong_by_s)
    date(tmp_path, VALID_S - 30)
    with (
        pytest.raises(SweepError, match="on elsewhere") as refused,
        leased(mirror, folder, clock=ours),
    ):
        pytest.fail("it may still run")
    ago, left = map(int, re.findall(r"(?:heard of|again in) (\d+) s", str(refused.value)))
    assert VALID_S - 30 <= ago <= VALID_S
    assert VALID_S - 1 <= ago + left <= VALID_S + 1
    date(tmp_path, VALID_S + 1)
    with leased(mirror, folder, clock=ours):
        assert mirror.read(folder / "lease.json")["pid"] == os.getpid()


def test_a_renewed_note_is_young_again(mirror, folder, tmp_path):
    for _ in range(2):
        leave(mirror, folder, renewed=0.0)
        with pytest.raises(SweepError, match="running already"), leased(mirror, folder):
            pytest.fail("it may still run")
        date(tmp_path, VALID_S + 1)
    with leased(mirror, folder):
        pass


def test_looking_at_a_note_leaves_nothing_behind(mirror, folder, tmp_path):
    leave(mirror, folder, renewed=0.0)
    with pytest.raises(SweepError), leased(mirror, folder):
        pytest.fail("it may still run")
    assert [path.name for path in (tmp_path / "bucket" / "sweeps" / "pvd").iterdir()] == [
        "lease.json"
    ]


def test_where_storage_dates_no_files_the_time_in_the_note_counts(mirror, folder, monkeypatch):
    monkeypatch.setattr(LocalFileSystem, "modified", AbstractFileSystem.modified)
    leave(mirror, folder, renewed=1000.0)
    with (
        pytest.raises(SweepError, match=r"on elsewhere, last heard of 20 s ago.*again in 70 s"),
        leased(mirror, folder, clock=lambda: 1020.0),
    ):
        pytest.fail("it may still run")
    with leased(mirror, folder, clock=lambda: 1001.0 + VALID_S):
        pass


def test_a_killed_process_of_this_machine_need_not_be_waited_for(mirror, folder, tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from kdsweep.sweep.lease import leased\n"
        "from kdsweep.sweep.mirror import Mirror\n"
        "mirror = Mirror(sys.argv[1], Path(sys.argv[2]))\n"
        "with leased(mirror, mirror.root / 'sweeps' / 'pvd'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, mirror.uri, str(mirror.root)], check=False)
    note = json.loads((tmp_path / "bucket" / "sweeps" / "pvd" / "lease.json").read_text())
    assert note["pid"] != os.getpid()
    with leased(mirror, folder):
        pass


def test_a_note_that_another_process_took_over_is_left_to_it(mirror, folder):
    with leased(mirror, folder):
        leave(mirror, folder, renewed=1000.0, id="other")
    assert mirror.read(folder / "lease.json")["id"] == "other"


def test_a_machine_of_the_same_name_is_another_one(mirror, folder):
    leave(mirror, folder, pid=2**22 + 1, host=socket.gethostname(), boot="x", renewed=1000.0)
    with (
        pytest.raises(SweepError, match="is running already"),
        leased(mirror, folder, clock=lambda: 1001.0),
    ):
        pytest.fail("it may still run")
