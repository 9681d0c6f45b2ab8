"""The sweep's own record: one JSON event per line, appended and flushed to the disk.

The journal is the truth from which everything else is rebuilt on every start: the searcher, the
scheduler's rungs, what still has to run, and what the tracker has not heard yet. A crash can tear
its last line only; readers leave a torn line out, and the next writer cuts it off.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdsweep.errors import SweepError

Event = dict[str, Any]


def jsonable(value: Any) -> Any:
    """Makes a value fit for strict JSON: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # numpy and torch scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Journal:
    """Appends events to one file. Only one process may write at a time (see `lock`).

    Args:
        path: The file; it and its folder are made where they are missing. A torn last line of an
            earlier writer is cut off.
        clock: Seconds since 1970; replaced in tests.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would keep what a full disk did not take, and write it later, torn.
        self._file = path.open("ab", buffering=0)
        whole = _whole_bytes(path)
        if whole < self._file.tell():
            self._file.truncate(whole)
        self._torn: int | None = None
        """Where a line begins that is not whole and could not be taken back."""

    def append(self, event: str, **fields: Any) -> Event:
        """Writes one event and returns it once the disk has it.

        Raises:
            SweepError: The disk is full or cannot be written; what was written before stays whole.
        """
        entry: Event = {"t": round(self._clock(), 3), "event": event, **jsonable(fields)}
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END) if self._torn is None else self._torn
        try:
            self._take_back()
            while line:  # a disk that is nearly full takes a part of it
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._torn = end
            with contextlib.suppress(OSError):  # a disk that is read-only now; tried again later
                self._take_back()
            raise SweepError(
                f"cannot write {self.path}: {error.strerror}. The sweep stops here; everything "
                "recorded before is whole. Make room, then resume it."
            ) from error
        return entry

    def _take_back(self) -> None:
        if self._torn is not None:
            os.truncate(self.path, self._torn)
            self._torn = None

    def close(self) -> None:
        """Closes the file; closing twice is allowed."""
        if not self._file.closed:
            self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Reads whole events from a byte offset on.

    Args:
        path: The journal; a missing file has no events.
        offset: Where to begin: 0, or an offset that this function gave before.

    Yields:
        The event, and the offset behind it. A torn last line is left out.

    Raises:
        SweepError: A line in the middle is not JSON: the file was damaged by something else.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start, offset = offset, offset + len(line)
            try:
                event = json.loads(line)
            except ValueError:
                raise SweepError(
                    f"{path} is damaged at byte {start}: {line[:60]!r} is not an event."
                ) from None
            yield event, offset


def events(path: Path) -> list[Event]:
    """All whole events of a journal, in order."""
    return [event for event, _ in read(path)]


def follows_a_line(path: Path, offset: int) -> bool:
    """Whether an offset is still the end of a line of the journal, or its beginning.

    It is not where a line was taken back that a full disk did not keep.
    """
    if offset == 0:
        return True
    with path.open("rb") as file:
        file.seek(offset - 1)
        return file.read(1) == b"\n"


def _whole_bytes(path: Path) -> int:
    """Length of the file up to and with its last line break."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        block = 1 << 16
        while end > 0:
            begin = max(0, end - block)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0
