"""One sweep of a name runs at a time, also where its home is storage that keeps no locks.

The process that runs a sweep leaves a note in the storage and renews it. A note that was not
renewed for a while belongs to a process that is gone. How long ago that was, the storage says: it
dates the note and a file that is written at the moment, so that the clocks of the machines do not
matter. Clocks have to agree to within a minute only where storage dates no files, so that the time
that is written in the note counts, and where the writing machine dates them (some FUSE mounts).
Two launches within the same second are not told apart: storage of this kind has no "write only if
it is not there" that all kinds share.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kdsweep.errors import StorageError, SweepError
from kdsweep.sweep.mirror import Mirror

VALID_S = 90.0
"""So long a note counts after it was renewed."""


@contextlib.contextmanager
def leased(mirror: Mirror, folder: Path, clock: Callable[[], float] = time.time) -> Iterator[None]:
    """Holds the note of a sweep's folder within the context.

    Args:
        mirror: The storage.
        folder: The sweep's folder.
        clock: Seconds since 1970 on this machine; replaced in tests.

    Raises:
        SweepError: Another process renewed its note a short time ago.
        StorageError: The storage does not answer.
    """
    path = folder / "lease.json"
    mine = {**_this_process(), "id": secrets.token_hex(8), "since": clock()}
    found = mirror.read(path)
    if found is not None and not _gone(found, ago_s := _ago_s(mirror, path, found, clock)):
        raise SweepError(
            f"sweep {folder.name!r} is running already: process {found['pid']} on "
            f"{found['host']}, last heard of {ago_s:.0f} s ago. Wait for it, stop it, or launch "
            f"under another name (sweep.name=...). If it was killed, try again in "
            f"{VALID_S - ago_s:.0f} s."
        )
    done = threading.Event()

    def is_mine() -> bool:
        return (mirror.read(path) or {}).get("id") == mine["id"]

    def renew() -> None:
        while not done.wait(VALID_S / 4):
            with contextlib.suppress(StorageError):  # tried again; the sweep itself will notice
                if not is_mine():  # cut off for so long that another process took over
                    return
                mirror.write(path, {**mine, "renewed": clock()})

    mirror.write(path, {**mine, "renewed": clock()})
    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(StorageError):  # it then ends by itself
            if is_mine():
                mirror.write(path, None)


def _this_process() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "boot": _boot()}


def _boot() -> str:
    """Tells machines of one host name apart; empty where the system has no such id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _ago_s(
    mirror: Mirror, path: Path, note: Mapping[str, object], clock: Callable[[], float]
) -> float:
    """Seconds since a note, that was read just now, was renewed."""
    # The reading comes first: a network file system, which remembers dates for a while, has looked
    # the note's up again, and a renewal in between only makes it younger.
    ago_s = mirror.age_s(path)
    return clock() - float(str(note["renewed"])) if ago_s is None else ago_s


def _gone(note: Mapping[str, object], ago_s: float) -> bool:
    """Whether the writer of a note has ended: known on its own host, elsewhere after a while."""
    if ago_s > VALID_S:
        return True
    if (note["host"], note.get("boot")) != (socket.gethostname(), _boot()):
        return False
    try:
        os.kill(int(str(note["pid"])), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
