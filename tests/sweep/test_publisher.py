import contextlib
import json
import threading

import pytest

import kdsweep.sweep.publisher as publisher_module
from kdsweep.errors import TrackingError
from kdsweep.sweep.journal import events
from kdsweep.sweep.ledger import Ledger, Plan
from kdsweep.sweep.publisher import Publisher, unsent
from kdsweep.sweep.transcribe import Scribe
from kdsweep.tracking import MemoryTracker, TrackingUnavailable


@pytest.fixture
def tracker():
    tracker = MemoryTracker()
    yield tracker
    tracker.close()


@pytest.fixture
def folder(tmp_path):
    """A sweep's folder with the journal of one finished, one stopped and one reused trial."""
    (tmp_path / "sweep.yaml").write_text("# as written\n")
    run = tmp_path / "runs" / "t001"
    run.mkdir(parents=True)
    for name in ("student.safetensors", "student.json"):
        (run / name).write_text(name)
    with Ledger.open(tmp_path / "journal.jsonl") as ledger:
        ledger.write("sweep_started", sweep="s", spec={"name": "s"}, tags={"host": "h"})
        for trial in ("t001", "t002", "t003"):
            ledger.created(Plan(trial, "search", {"seed": 1}, trial, 1, params={"a.b": 2}))
        for trial in ("t001", "t002"):
            ledger.started(trial, slot="slot-0", node="n")
            ledger.epoch(trial, 1, {"miou": 0.5, "iou/bus": None})
        ledger.ended("t001", "finished", epoch=1, metrics={"miou": 0.6}, run_dir=str(run))
        ledger.ended("t002", "stopped", epoch=1, metrics={"miou": 0.5}, reason="poor")
        ledger.ended("t003", "reused", metrics={"miou": 0.6}, reason="same as t001")
        ledger.write("sweep_ended", state="finished", reason="")
    return tmp_path


def publish(folder, connect, notes=None, timeout_s=10.0, tracker=""):
    note = (notes if notes is not None else []).append
    with Publisher("s", folder, connect, note, tracker=tracker, wait_s=0.001) as publisher:
        return publisher.finish(timeout_s)


def states(tracker):
    return {record.trial: record.state for record in tracker.read_trials("s")}


def test_the_tracker_gets_what_the_journal_says(folder, tracker):
    assert publish(folder, lambda: tracker) == 0
    assert states(tracker) == {"t001": "finished", "t002": "stopped", "t003": "reused"}
    first = tracker.read_trials("s")[0]
    assert (first.params, first.seed, first.metrics["miou"]) == ({"a.b": 2}, 1, 0.6)
    assert tracker.read_sweep("s").sweep_yaml == "# as written\n"
    assert (tracker.fetch("s", "t001", "student") / "student.json").read_text() == "student.json"


def test_a_second_publisher_goes_on_where_the_first_ended(folder, tracker):
    publish(folder, lambda: tracker)
    writes = list(tracker.writes)
    publish(folder, lambda: tracker)
    assert tracker.writes == writes
    with Ledger.open(folder / "journal.jsonl") as ledger:
        ledger.write("sweep_started", sweep="s", spec={"name": "s"}, tags={"host": "h"})
        ledger.created(Plan("t004", "search", {}, "d"))
    publish(folder, lambda: tracker)
    assert tracker.writes[len(writes) :] == ["open_sweep", "open_trial"]


def test_another_tracker_is_told_from_the_start(folder, tracker):
    publish(folder, lambda: tracker, tracker="http://one:5000")
    assert unsent(folder, "http://one:5000") == 0
    lines = (folder / "journal.jsonl").read_text().splitlines()
    assert unsent(folder, "http://two:5000") == unsent(folder, "") == len(lines)
    other = MemoryTracker()
    with contextlib.closing(other):
        assert publish(folder, lambda: other, tracker="http://two:5000") == 0
        assert states(other) == states(tracker)
    assert unsent(folder, "http://two:5000") == 0


def test_everything_told_twice_changes_nothing(folder, tracker):
    publish(folder, lambda: tracker)
    before = (states(tracker), tracker.read_trials("s")[0].history())
    (folder / "published.json").unlink()
    publish(folder, lambda: tracker)
    assert (states(tracker), tracker.read_trials("s")[0].history()) == before


def test_a_line_that_was_told_and_then_taken_back_hides_none_that_follow(folder, tracker):
    """A disk may refuse a line only when it is flushed, after the publisher has read it."""
    publish(folder, lambda: tracker)
    path = folder / "journal.jsonl"
    with path.open("a") as file:
        file.write('{"t":1,"event":"something_of_no_interest","reason":"' + "x" * 500 + '"}\n')
    publish(folder, lambda: tracker)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert unsent(folder, "") == len(lines) - 1
    with Ledger.open(path) as ledger:
        for trial in ("t004", "t005", "t006"):
            ledger.created(Plan(trial, "search", {}, trial))
    assert publish(folder, lambda: tracker) == 0
    assert {"t004", "t005", "t006"} <= states(tracker).keys()


def test_an_outage_loses_nothing_and_is_told_once(folder, tracker):
    failures, notes = iter(range(5)), []

    def connect():
        if next(failures, None) is not None:
            raise TrackingUnavailable("connection refused")
        return tracker

    assert publish(folder, connect, notes) == 0
    assert states(tracker) == {"t001": "finished", "t002": "stopped", "t003": "reused"}
    assert notes == [
        "Tracking is away, training goes on: connection refused",
        "Tracking answers again; everything is being sent.",
    ]


def test_a_tracker_that_is_back_shortly_before_the_end_is_not_missed(folder, tracker):
    failures = iter(range(15))  # with pauses that double all along this takes five minutes

    def connect():
        if next(failures, None) is not None:
            raise TrackingUnavailable("connection refused")
        return tracker

    with Publisher("s", folder, connect, lambda _: None, wait_s=0.01) as publisher:
        assert publisher.finish(60.0) == 0
    assert states(tracker) == {"t001": "finished", "t002": "stopped", "t003": "reused"}


def test_what_could_not_be_sent_is_said_and_sent_by_the_next_process(folder, tracker):
    notes = []

    def away():
        raise TrackingUnavailable("connection refused")

    unsent = publish(folder, away, notes, timeout_s=0.05)
    assert unsent == len((folder / "journal.jsonl").read_text().splitlines())
    assert f"has not got {unsent} of the sweep's events" in notes[-1]
    assert "kdsweep resume s" in notes[-1]
    assert publish(folder, lambda: tracker) == 0
    assert len(states(tracker)) == 3


def test_an_event_that_the_tracker_refuses_does_not_hold_up_the_others(folder, tracker):
    class Strict(MemoryTracker):
        def log_epoch(self, sweep, trial, epoch, metrics):
            raise TrackingError("no such metric")

    strict, notes = Strict(), []
    assert publish(folder, lambda: strict, notes) == 0
    assert set(states(strict).values()) == {"finished", "stopped", "reused"}
    assert notes[0] == "Tracking refuses epoch t001: no such metric"
    strict.close()


class Closed(MemoryTracker):
    """Refuses the sweep as a whole while it is closed."""

    closed = True

    def _check(self):
        if self.closed:
            raise TrackingError("the sweep was deleted.")

    def open_sweep(self, info):
        self._check()
        super().open_sweep(info)

    def log_epoch(self, *args):
        self._check()
        super().log_epoch(*args)


def test_a_sweep_that_is_refused_is_told_once_and_sent_by_the_next_process(folder):
    with contextlib.closing(Closed()) as tracker:
        notes = []
        lines = len(events(folder / "journal.jsonl"))
        assert publish(folder, lambda: tracker, notes) == unsent(folder, "") == lines
        assert len(notes) == 2
        assert "Tracking refuses the sweep. Nothing more is sent, training goes on" in notes[0]
        assert "`kdsweep resume s` sends everything. Refused: the sweep was deleted." in notes[0]
        assert "kdsweep resume s" in notes[1]
        tracker.closed = False
        assert publish(folder, lambda: tracker) == 0
        assert states(tracker) == {"t001": "finished", "t002": "stopped", "t003": "reused"}


def test_a_sweep_that_is_refused_half_way_is_sent_from_its_start(folder):
    with contextlib.closing(Closed()) as tracker, contextlib.closing(MemoryTracker()) as anew:
        tracker.closed = False
        opened, notes = tracker.open_trial, []

        def close_after(info):
            opened(info)
            tracker.closed |= info.trial == "t003"

        tracker.open_trial = close_after
        lines = len(events(folder / "journal.jsonl"))
        assert publish(folder, lambda: tracker, notes) == lines
        assert [note for note in notes if "refuses" in note] == notes[:1]
        assert publish(folder, lambda: anew) == 0
        assert states(anew) == {"t001": "finished", "t002": "stopped", "t003": "reused"}


def test_a_store_that_cannot_be_opened_at_all_loses_nothing(folder, tracker):
    def refuse():
        raise TrackingError("no such driver")

    assert publish(folder, refuse) == unsent(folder, "") > 0
    assert publish(folder, lambda: tracker) == 0


def test_weights_that_are_pruned_while_they_are_sent_are_left_out(folder):
    class Slow(MemoryTracker):
        def end_trial(self, sweep, trial, state, *args):
            (folder / "runs" / "t001" / "student.safetensors").unlink(missing_ok=True)
            super().end_trial(sweep, trial, state, *args)

    with contextlib.closing(Slow()) as tracker:
        notes = []
        assert publish(folder, lambda: tracker, notes) == 0
        assert notes == [] and states(tracker)["t001"] == "finished"
        with pytest.raises(TrackingError, match="has no file 'student'"):
            tracker.fetch("s", "t001", "student")


def test_the_offset_is_only_moved_behind_what_was_told(folder):
    told = threading.Event()

    class Half(MemoryTracker):
        def end_trial(self, *args, **kwargs):
            told.set()
            raise TrackingUnavailable("gone")

    half = Half()
    silent = Publisher("s", folder, lambda: half, lambda _: None, wait_s=0.001)
    with contextlib.closing(half), silent as publisher:
        assert told.wait(10.0)
        publisher.finish(timeout_s=0.0)
    offset = json.loads((folder / "published.json").read_text())["offset"]
    rest = (folder / "journal.jsonl").read_bytes()[offset:]
    assert rest.startswith(b'{"t":')
    assert b'"event":"trial_ended","trial":"t001"' in rest.split(b"\n")[0]


def test_a_scribe_that_recalls_earlier_events_can_tell_later_ones(folder, tracker):
    lines = events(folder / "journal.jsonl")
    first = Scribe("s", tracker)
    for event in lines[:4]:
        first.tell(event)
    second = Scribe("s", tracker)
    second.recall(lines[:4])
    for event in lines[4:]:
        second.tell(event)
    assert states(tracker)["t001"] == "finished"


def test_whoever_waits_for_the_end_of_the_process_shortens_the_wait_for_an_absent_tracker(
    folder, monkeypatch
):
    monkeypatch.setattr(publisher_module, "HURRIED_S", 0.0)
    asked, notes = threading.Event(), []

    def away():
        asked.set()
        raise TrackingUnavailable("no route to host")

    with Publisher("s", folder, away, notes.append, wait_s=0.001) as publisher:
        assert asked.wait(10.0)
        stop = threading.Timer(0.0, publisher.hurry)
        stop.start()
        assert publisher.finish(timeout_s=3600.0) > 0
    assert "None is lost" in notes[-1]


def test_a_fault_within_the_publisher_is_told_in_a_line_and_sent_by_the_next(
    folder, tracker, monkeypatch
):
    def faulty(*_args, **_kwargs):
        raise KeyError("nobody expects this")

    notes = []
    with monkeypatch.context() as patch:
        patch.setattr(MemoryTracker, "end_trial", faulty)
        with Publisher("s", folder, lambda: tracker, notes.append) as first:
            assert first.finish() > 0
    assert "Tracking has stopped (KeyError" in notes[0] and "kdsweep resume s" in notes[0]
    with Publisher("s", folder, lambda: tracker, notes.append) as second:
        assert second.finish() == 0
    assert states(tracker)["t001"] == "finished"
