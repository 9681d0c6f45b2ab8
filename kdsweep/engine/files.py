"""Files that are either whole or not there (temporary name, fsync, rename), and locks."""

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

from kdsweep.errors import ResourceError

_FULL = "the disk is full"


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file, then puts it in place durably.

    Raises:
        ResourceError: The disk is full; what was at `path` before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with full_disk_named(path):
            write(temporary)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Lets `fill` fill a temporary folder, then puts it in place durably; `path` must be new.

    Raises:
        ResourceError: The disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        with full_disk_named(path):
            fill(temporary)
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            os.rename(temporary, path)
            sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A name that no other process uses, on any node: containers often have equal process ids."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON durably; see `write_file`."""
    text = json.dumps(value, indent=1, sort_keys=True)
    write_file(path, lambda temporary: temporary.write_text(text))


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
        free_mb = shutil.disk_usage(path.parent).free / 1e6
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
        while not _lock(handle):
            time.sleep(poll_s)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True
