"""Sweeps of this machine: which of them run, and how to stop one."""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path

from kdsweep.errors import SweepError, did_you_mean
from kdsweep.sweep.lock import holder, is_running
from kdsweep.tracking import where


def print_status(home: Path, name: str | None) -> None:
    """Prints the sweeps of a home folder, or one of them."""
    names = [_known(home, name)] if name else sorted(_names(home))
    if not names:
        print(f"No sweeps in {home}. On a cluster: add --cluster FILE.")
        return
    for each in names:
        folder = home / "sweeps" / each
        state = f"running: {holder(folder)}" if is_running(folder) else "not running"
        print(f"{each:30} {state}")
    print(f"Next:  {where(home).command('show', names[0])}")


def stop(home: Path, name: str, *, timeout_s: float = 120.0) -> None:
    """Asks the process of a sweep to stop, and waits until it has.

    Raises:
        SweepError: There is no such sweep, it does not run, or it runs on another host.
    """
    folder = home / "sweeps" / _known(home, name)
    if not is_running(folder):
        raise SweepError(
            f"sweep {name!r} does not run on this machine. On a cluster: --cluster FILE."
        )
    try:
        info = json.loads((folder / "lock").read_text())
        host, pid = info["host"], int(info["pid"])
    except (ValueError, KeyError, TypeError):  # it has taken the lock in this instant
        raise SweepError(f"sweep {name!r} starts just now. Try again in a second.") from None
    if host != socket.gethostname():
        raise SweepError(
            f"sweep {name!r} runs on {host}, not here: {holder(folder)}. Stop it there, or "
            "add --cluster FILE."
        )
    print(f"Stopping sweep {name}: trials keep their last epoch.", flush=True)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    until = time.monotonic() + timeout_s
    while is_running(folder):
        if time.monotonic() > until:
            raise SweepError(
                f"sweep {name!r} has not stopped within {timeout_s:.0f} s: {holder(folder)}."
            )
        time.sleep(0.2)
    print(f"Stopped.\nNext:  {where(home).command('resume', name)}")


def _names(home: Path) -> list[str]:
    return [path.parent.name for path in (home / "sweeps").glob("*/lock")]


def _known(home: Path, name: str) -> str:
    names = _names(home)
    if name not in names:
        raise SweepError(f"there is no sweep {name!r} in {home}. {did_you_mean(name, names)}")
    return name
