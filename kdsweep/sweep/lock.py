"""One sweep of a name runs at a time: a file lock that says who holds it and ends with it."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from kdsweep.errors import SweepError

_TRIES, _PAUSE_S = 20, 0.01


class SweepLock:
    """Holds the lock of a sweep's folder while the sweep runs.

    The operating system frees it when the process ends, however it ends, so that a sweep can be
    resumed after a crash without tidying up.

    Args:
        folder: The sweep's folder; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._handle: int | None = None

    def acquire(self) -> "SweepLock":
        """Takes the lock.

        Raises:
            SweepError: Another process holds it; the message names process and host.
                Or the disk is full; nobody holds it then.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _taken(handle):
            os.close(handle)
            name = self.path.parent.name
            raise SweepError(
                f"sweep {name!r} is running already: {holder(self.path.parent)}. Wait for it, stop "
                "it, or launch under another name (sweep.name=...)."
            )
        try:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(_this_process()).encode())
        except OSError as error:
            os.close(handle)
            raise SweepError(f"cannot write {self.path}: {error.strerror}.") from error
        self._handle = handle
        return self

    def release(self) -> None:
        """Frees the lock; freeing it twice is allowed."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> "SweepLock":
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _taken(handle: int) -> bool:
    """Takes the lock; tries again for a moment, because who only looks holds it for an instant."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_PAUSE_S)
    return False


def is_running(folder: Path) -> bool:
    """Whether some process holds the lock of a sweep's folder."""
    path = folder / "lock"
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDWR)
    try:
        # Shared: who looks does not take another one who looks for a sweep that runs.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def holder(folder: Path) -> str:
    """Names the process that took the lock last, for people."""
    try:
        info = json.loads((folder / "lock").read_text())
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info["since"]))
        return f"process {info['pid']} on {info['host']}, since {since}"
    except (OSError, ValueError, KeyError):
        return "by an unknown process"


def _this_process() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
