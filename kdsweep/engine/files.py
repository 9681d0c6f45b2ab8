"""Files that are either whole or not there (temporary name, fsync, rename), and locks.

Where a function takes a `desk`, its work is done in that folder, and it fails once somebody has
removed it: see `claim`.
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdsweep.errors import ResourceError, SupersededError

_FULL = "the disk is full"


def write_file(path: Path, write: Callable[[Path], object], desk: Path | None = None) -> None:
    """Lets `write` fill a temporary file, then puts it in place durably.

    Raises:
        ResourceError: The disk is full; what was at `path` before is untouched.
        SupersededError: The desk is gone; `path` is untouched.
    """
    temporary = _temporary(path, desk)
    try:
        with full_disk_named(path), _at_desk(desk, path):
            write(temporary)
            sync(temporary)
            _put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_folder(path: Path, fill: Callable[[Path], object], desk: Path | None = None) -> None:
    """Lets `fill` fill a temporary folder, then puts it in place durably; `path` must be new.

    Raises:
        ResourceError: The disk is full.
        SupersededError: The desk is gone; `path` is untouched.
    """
    temporary = _temporary(path, desk)
    try:
        with full_disk_named(path), _at_desk(desk, path):
            temporary.mkdir()
            fill(temporary)
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            _put(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any, desk: Path | None = None) -> None:
    """Writes JSON durably; see `write_file`."""
    text = json.dumps(value, indent=1, sort_keys=True)
    write_file(path, lambda temporary: temporary.write_text(text), desk)


def remove(path: Path, desk: Path | None = None) -> None:
    """Removes a file or a folder with all that is in it, if it is there.

    Raises:
        SupersededError: The desk is gone; what is at `path` is untouched.
    """
    if desk is not None:
        taken = _temporary(path, desk)
        with _at_desk(desk, path):
            try:
                os.rename(path, taken)
            except FileNotFoundError:
                if not desk.is_dir():
                    raise
                return
        path = taken
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _temporary(path: Path, desk: Path | None) -> Path:
    """A name that no other process uses, on any node: containers often have equal process ids."""
    name = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    if desk is not None:
        return desk / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(name)


def _put(temporary: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.rename(temporary, path)  # on the systems that have flock, over what is there
    sync(path.parent)


@contextmanager
def _at_desk(desk: Path | None, path: Path) -> Iterator[None]:
    """Says of an error that the desk is gone, where that is its cause; libraries have their own."""
    try:
        yield
    except Exception as error:
        if desk is None or desk.is_dir():
            raise
        raise SupersededError(f"{path} is another process's now: it has taken over") from error


def sync(path: Path) -> None:
    """Forces a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """CRC-32 of a file as 8 hex digits: finds damage, not forgery."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it follows from, says that a disk or quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # safetensors raises its own class: only the text tells.
        if "No space left" in str(error) or str(error).startswith(_FULL):
            return True
        error = error.__cause__
    return False


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turns "no space left" into an error that names the file.

    Raises:
        ResourceError: The disk or the quota is full.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        # A desk lies elsewhere: the folder of `path` may not have been made yet.
        there = next(folder for folder in path.absolute().parents if folder.is_dir())
        free_mb = shutil.disk_usage(there).free / 1e6
        raise ResourceError(
            f"{_FULL}: {path} could not be written ({free_mb:.0f} MB free). "
            "Earlier checkpoints and results are whole; free some space and resume."
        ) from error


@contextmanager
def locked(path: Path, *, poll_s: float = 0.2) -> Iterator[None]:
    """Waits for a lock that the system releases when its holder ends, however it ends.

    Where the file system keeps no locks (some network mounts), nothing is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while try_lock(handle) is False:
            time.sleep(poll_s)
        yield
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool | None:
    """Locks an open file; False: another process holds the lock, None: there are no locks here."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        return None
    return True
