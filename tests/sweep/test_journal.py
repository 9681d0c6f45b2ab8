import errno
import json
import math
import os
import subprocess
import sys

import pytest

from kdsweep.errors import SweepError
from kdsweep.sweep.journal import Journal, events, read
from kdsweep.sweep.ledger import Ledger, Plan, Record


def test_events_come_back_in_order_with_their_time(tmp_path):
    path = tmp_path / "sweep" / "journal.jsonl"
    with Journal(path, clock=lambda: 12.3456) as journal:
        journal.append("one", value=1)
        journal.append("two", folder=tmp_path)
    assert events(path) == [
        {"t": 12.346, "event": "one", "value": 1},
        {"t": 12.346, "event": "two", "folder": str(tmp_path)},
    ]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_writer(tmp_path, cut):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("whole")
        journal.append("torn", text="x" * 40)
    os.truncate(path, path.stat().st_size - cut)
    assert [event["event"] for event in events(path)] == ["whole"]
    with Journal(path) as journal:
        journal.append("after")
    assert [event["event"] for event in events(path)] == ["whole", "after"]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_the_place(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"t":1,"event":"a"}\n#!?\n{"t":2,"event":"b"}\n')
    with pytest.raises(SweepError, match="damaged at byte 20"):
        events(path)


def test_reading_goes_on_from_an_offset(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("one")
        (_, offset), *_ = read(path)
        journal.append("two")
    assert [event["event"] for event, _ in read(path, offset)] == ["two"]


def test_numbers_that_are_not_finite_survive_as_nan_in_strict_json(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Ledger.open(path) as ledger:
        ledger.created(Plan("t001", "search", {}, "id"))
        ledger.epoch("t001", 1, {"miou": math.nan, "loss/total": math.inf, "lr": 0.1})
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    metrics = Record.read(path).trials["t001"].history[1]
    assert math.isnan(metrics["miou"])
    assert math.isnan(metrics["loss/total"])
    assert metrics["lr"] == 0.1


def test_a_full_disk_stops_clearly_and_leaves_whole_lines(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with journal, pytest.raises(SweepError, match=r"No space left on device.*resume"):
        journal.append("lost")
    assert [event["event"] for event in events(path)] == ["before"]


def test_a_line_that_a_full_disk_took_in_part_is_not_written_later(tmp_path):
    """In a process of its own, whose files may not grow, as on a full disk."""
    path = tmp_path / "journal.jsonl"
    script = f"""
import os, resource, signal
from pathlib import Path
from kdsweep.errors import SweepError
from kdsweep.sweep.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
path = Path({str(path)!r})
journal = Journal(path)
journal.append("before")
room(path.stat().st_size + 10)
for name in ("lost", "lost too"):
    try:
        journal.append(name)
        raise AssertionError(name)
    except SweepError:
        pass
room(resource.RLIM_INFINITY)
journal.append("after")
journal.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert [event["event"] for event in events(path)] == ["before", "after"]


def test_a_line_that_cannot_even_be_taken_back_stops_as_clearly_and_damages_nothing(
    tmp_path, monkeypatch
):
    """A disk with errors is made read-only in the middle of a line."""
    path = tmp_path / "journal.jsonl"

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with Journal(path) as journal:
        journal.append("before")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", read_only)
            patch.setattr(os, "truncate", read_only)
            for _ in range(2):
                with pytest.raises(SweepError, match=r"Read-only file system.*resume"):
                    journal.append("lost", text="x" * 40)
        journal.append("after")
    assert [event["event"] for event in events(path)] == ["before", "after"]


def test_the_record_read_back_equals_the_one_that_was_written(tmp_path):
    with Ledger.open(tmp_path / "journal.jsonl") as ledger:
        ledger.write("sweep_started", sweep="s")
        ledger.created(Plan("t001", "search", {"seed": 3}, "abc", 3, params={"a": [1, 2]}))
        ledger.started("t001", slot="slot-1", node="n")
        ledger.epoch("t001", 1, {"miou": 0.5})
        ledger.epoch("t001", 1, {"miou": 0.9})
        ledger.ended("t001", "finished", metrics={"miou": 0.6}, epoch=1)
        assert Record.read(tmp_path / "journal.jsonl") == ledger.record
        assert ledger.record.trials["t001"].history == {1: {"miou": 0.5}}


def test_a_trial_whose_process_vanished_is_interrupted_after_the_next_start(tmp_path):
    with Ledger.open(tmp_path / "journal.jsonl") as ledger:
        ledger.write("sweep_started", sweep="s")
        ledger.created(Plan("t001", "search", {}, "abc"))
        ledger.started("t001", slot="slot-1", node="n")
        assert ledger.record.trials["t001"].state == "running"
        ledger.write("sweep_started", sweep="s")
        assert ledger.record.trials["t001"].state == "interrupted"


def test_a_sweep_that_was_killed_is_seen_as_such_also_where_the_clock_was_set_back(tmp_path):
    path = tmp_path / "journal.jsonl"
    for time_s, names in (
        (2000.0, ("sweep_started", "sweep_ended")),
        (1000.0, ("sweep_started",)),
    ):
        with Journal(path, clock=lambda time_s=time_s: time_s) as journal:
            for name in names:
                journal.append(name, state="finished")
    assert Record.read(path).state == "running"


def test_a_clock_that_is_set_back_gives_no_budget_back():
    record = Record()
    record.apply({"t": 0.0, "event": "sweep_started"})
    record.apply({"t": 100.0, "event": "sweep_ended", "state": "interrupted"})
    record.apply({"t": 5000.0, "event": "sweep_started"})
    record.apply({"t": 1000.0, "event": "summary"})
    assert record.wall_s == 100.0
