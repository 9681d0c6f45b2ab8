"""Who may write a run's folder: one process at a time, and later attempts take over.

Processes take turns by a file lock, which the system frees when its holder ends. A holder that is
frozen, or cut off the network, never ends. So a process that is known to come after it (both have
one owner, and this one the greater turn) waits for a while and then takes the folder over.

What makes that safe is a *desk*: a folder of the writer's own inside the run's folder. Whatever is
written is made on the desk and put into its place by one rename, and what is removed is first
moved onto the desk. Taking over removes the other's desk, so that each of its renames fails from
then on, whenever it wakes up: nothing is checked first and done later.
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdsweep.engine import files
from kdsweep.errors import SupersededError

PATIENCE_S = 15.0
"""So long a later attempt waits for an earlier one, which may be about to end its epoch."""
_POLL_S = 0.2
_TOLD_S = 2.0
"""A wait that is over before is not worth a word."""
_DESK = re.compile(r"\.desk-(?P<turn>\d+)-(?P<owner>.+)")


@dataclass(frozen=True)
class Turn:
    """A process's place among those that write one folder.

    Attributes:
        owner: Those of one owner come one after another; others are in no order. Empty: of nobody.
        number: Greater for later ones.
    """

    owner: str = ""
    number: int = 0


@contextlib.contextmanager
def claimed(
    folder: Path,
    turn: Turn,
    *,
    waits: Callable[[str], None] = lambda _: None,
    patience_s: float = PATIENCE_S,
) -> Iterator[Path]:
    """Waits for the right to write a folder, and holds it within the context.

    Where the file system keeps no locks (some network mounts), processes in no order do not wait.

    Args:
        folder: The run's folder.
        turn: Of this process.
        waits: Told once what is waited for, where that takes more than a moment.
        patience_s: So long a later attempt waits for an earlier one.

    Yields:
        The desk, for the ``desk`` of `files`.

    Raises:
        SupersededError: A later attempt has the folder already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, alone = _acquire(folder, turn, waits, patience_s)
    # The random part keeps apart processes that are in no order.
    desk = folder / f".desk-{turn.number:012d}-{turn.owner or secrets.token_hex(4)}"
    try:
        desk.mkdir(exist_ok=True)
        # A process that was frozen before it had a desk may have lost the lock by now.
        alone = alone and _is_at(handle, folder / "lock")
        # Of two that come at once, each having its desk by now, at least one sees the other.
        _clear_others(folder, desk, turn, alone)
        yield desk
    finally:
        shutil.rmtree(desk, ignore_errors=True)
        os.close(handle)


def _acquire(
    folder: Path, turn: Turn, waits: Callable[[str], None], patience_s: float
) -> tuple[int, bool]:
    """The open lock file, and whether nobody else can be at work.

    Not so where the file system has no locks, or where the lock was put in another's place.
    """
    path, began_s, told = folder / "lock", time.monotonic(), False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        locked = files.try_lock(handle)
        if locked is not False and _is_at(handle, path):
            return handle, bool(locked)
        os.close(handle)
        waited_s = time.monotonic() - began_s
        frozen = not _desks(folder)  # it has the lock, and does not come to its desk
        if waited_s > patience_s and (frozen or _comes_after_all(folder, turn)):
            return _replace(path), False
        if waited_s > _TOLD_S and not told:
            waits(f"waits for {_holder(folder, turn)} to leave {folder}")
            told = True
        time.sleep(_POLL_S)


def _is_at(handle: int, path: Path) -> bool:
    """Whether a lock is the one that others find; a later attempt may have put its own there."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _comes_after_all(folder: Path, turn: Turn) -> bool:
    """Whether the lock is held by an earlier attempt of this owner."""
    found = [*_desks(folder).values()]
    return bool(found) and all(_is_earlier(other, turn) for other in found)


def _holder(folder: Path, turn: Turn) -> str:
    """Names who has a folder, for people."""
    if _comes_after_all(folder, turn):
        return "an earlier attempt"
    owners = sorted(desk.owner for desk in _desks(folder).values() if desk.number)
    return owners[-1] if owners else "another process"


def _replace(path: Path) -> int:
    """Puts a lock that this process holds in place of one whose holder does not let go."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_RDWR | os.O_CREAT, 0o644)
    files.try_lock(handle)
    os.replace(fresh, path)
    return handle


def _clear_others(folder: Path, own: Path, turn: Turn, alone: bool) -> None:
    """Takes away the desks of earlier attempts and, where nobody is at work, what the dead left."""
    for desk, other in _desks(folder).items():
        if not alone and _is_earlier(turn, other):
            raise SupersededError(f"a later attempt has taken the run over: {desk} is its")
        if desk != own and (alone or _is_earlier(other, turn)):
            _take_away(desk)
    for gone in folder.glob(".gone-*"):  # what could not be removed when its desk was taken away
        shutil.rmtree(gone, ignore_errors=True)


def _take_away(desk: Path) -> None:
    """Removes a desk: under its name nothing is found any more, and behind it is no folder.

    The second matters on network file systems, where another machine may remember the first.
    """
    with contextlib.suppress(FileNotFoundError):
        gone = desk.rename(desk.with_name(f".gone-{secrets.token_hex(4)}"))
        shutil.rmtree(gone, ignore_errors=True)


def _desks(folder: Path) -> dict[Path, Turn]:
    found = {path: _DESK.fullmatch(path.name) for path in folder.glob(".desk-*")}
    return {path: Turn(m["owner"], int(m["turn"])) for path, m in found.items() if m}


def _is_earlier(other: Turn, turn: Turn) -> bool:
    return bool(turn.owner) and other.owner == turn.owner and other.number < turn.number
