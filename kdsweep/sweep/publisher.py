"""Sends the journal to the tracker, in a thread of the driver, however long the tracker is away.

How far it has come is kept in a file beside the journal. A sweep therefore never waits for its
tracker, and what could not be sent is sent by the next process that runs the sweep.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from kdsweep.engine import files
from kdsweep.errors import ResourceError, TrackingError
from kdsweep.sweep import journal
from kdsweep.sweep.journal import Event
from kdsweep.sweep.transcribe import Scribe
from kdsweep.tracking import Tracker, TrackingUnavailable, Where

_POLL_S = 0.3
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
HURRIED_S = 5.0
"""So long at most is a tracker waited for by a process that shall end."""

_DEFAULT = Where()

STATE = "published.json"

Connect = Callable[[], Tracker]


class Publisher:
    """Tails a sweep's journal into a tracker while it is used as a context.

    Args:
        sweep: Name of the sweep.
        folder: The sweep's folder, which holds the journal.
        connect: Opens the tracker; called in the publisher's thread.
        note: Shows one line to the user.
        where: What a later command has to say to find the sweep.
        tracker: Tells this tracker from others; one that the folder does not name is told all.
        wait_s: First pause after a failure; doubles up to 30 s, until `finish` is called.
    """

    def __init__(
        self,
        sweep: str,
        folder: Path,
        connect: Connect,
        note: Callable[[str], None],
        where: Where = _DEFAULT,
        tracker: str = "",
        wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        self._sweep = sweep
        self._journal = folder / "journal.jsonl"
        self._yaml = folder / "sweep.yaml"
        self._state = folder / STATE
        self._connect = connect
        self._note = note
        self._resume = where.command("resume", sweep)
        self._wait_s = wait_s
        self._tracker = tracker
        self._offset = _read_offset(folder, tracker)
        self._scribe: Scribe | None = None
        self._deadline: float | None = None
        self._finished = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def __enter__(self) -> "Publisher":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(timeout_s=HURRIED_S if error else 60.0)

    def finish(self, timeout_s: float = 60.0) -> int:
        """Sends what is left, for at most some time.

        Returns:
            Events that could not be sent; the user is told.
        """
        if not self._finished:
            self._finished = True
            if not self._begun():  # refused before its first trial: nothing that anybody misses
                timeout_s = 0.0
            self._end_within(timeout_s)
            self._thread.join(timeout_s)
            if (left := self._left()) and self._begun():
                self._note(
                    f"Tracking has not got {left} of the sweep's events. None is lost: they are "
                    f"in {self._journal} and are sent by `{self._resume}`."
                )
        return self._left()

    def hurry(self) -> None:
        """Shortens `finish`, which another thread is in: somebody waits for the process to end."""
        self._end_within(HURRIED_S)

    def _end_within(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self._deadline = end_s if self._deadline is None else min(self._deadline, end_s)
        self._wake.set()

    def _begun(self) -> bool:
        return any(event["event"] == "trial_created" for event in journal.events(self._journal))

    def _left(self) -> int:
        return sum(1 for _ in journal.read(self._journal, self._offset))

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # a fault of ours must not be a traceback in the live table
            self._note(
                f"Tracking has stopped ({type(error).__name__}: {error}), training goes on. What "
                f"it has not got is sent by `{self._resume}`."
            )

    def _follow(self) -> None:
        while not self._too_late():
            last = self._deadline is not None
            if not journal.follows_a_line(self._journal, self._offset):
                self._offset = 0  # told again, which changes nothing
            for event, offset in journal.read(self._journal, self._offset):
                if not self._send(event):
                    return
                self._move(offset)
            if last:
                return
            self._wake.wait(_POLL_S)

    def _send(self, event: Event) -> bool:
        """Tells one event, again and again while the tracker is away.

        Returns:
            Whether the next one may be told: no time may be left, or the whole sweep be refused.
        """
        wait_s, warned = self._wait_s, False
        while True:
            try:
                self._tell(event)
                if warned:
                    self._note("Tracking answers again; everything is being sent.")
                return True
            except TrackingUnavailable as error:
                if not warned:
                    self._note(f"Tracking is away, training goes on: {error}")
                warned = True
            except TrackingError as error:
                self._note(
                    "Tracking refuses the sweep. Nothing more is sent, training goes on; once that "
                    f"is mended, `{self._resume}` sends everything. Refused: {error}"
                )
                self._move(0)  # a sweep that is made anew has none of the earlier events either
                return False
            if self._too_late():
                return False
            # Of the little time that is left at the end no long pause is to take the most.
            self._wake.wait(wait_s if self._deadline is None else self._wait_s)
            self._wake.clear()
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _tell(self, event: Event) -> None:
        """Tells one event; one that is refused by itself holds up no other.

        Raises:
            TrackingUnavailable: The tracker is away.
            TrackingError: It refuses the sweep as a whole.
        """
        scribe = self._open()
        try:
            scribe.tell(event)
        except TrackingUnavailable:
            raise
        except TrackingError as error:
            scribe.check_sweep()
            what = f"{event['event']} {event.get('trial', '')}".strip()
            self._note(f"Tracking refuses {what}: {error}")

    def _move(self, offset: int) -> None:
        self._offset = offset
        # On a full disk the next process tells some events again, which changes nothing.
        with contextlib.suppress(ResourceError):
            files.write_json(self._state, {"offset": offset, "tracker": self._tracker})

    def _open(self) -> Scribe:
        if self._scribe is None:
            yaml = self._yaml.read_text(encoding="utf-8") if self._yaml.is_file() else ""
            scribe = Scribe(self._sweep, self._connect(), sweep_yaml=yaml)
            scribe.recall(
                event for event, end in journal.read(self._journal) if end <= self._offset
            )
            self._scribe = scribe
        return self._scribe

    def _too_late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline


def unsent(folder: Path, tracker: str) -> int:
    """Events of a sweep that nobody runs, which a tracker has not got."""
    return sum(1 for _ in journal.read(folder / "journal.jsonl", _read_offset(folder, tracker)))


def _read_offset(folder: Path, tracker: str) -> int:
    """How much of the journal was told; 0 of another journal, and 0 where another was told it."""
    try:
        state = json.loads((folder / STATE).read_text())
        if state.get("tracker", "") != tracker:
            return 0
        offset = int(state["offset"])
        return offset if journal.follows_a_line(folder / "journal.jsonl", offset) else 0
    except (OSError, ValueError, KeyError):
        return 0
