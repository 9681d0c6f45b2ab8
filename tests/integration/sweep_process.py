"""Sweeps in processes of their own, which a test may stop, kill or watch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
TIMEOUT_S = 400.0


class Process:
    """`kdsweep` in a process of its own, which a test may signal.

    Args:
        *words: The words of the command line.
        **environment: Variables of the process.
    """

    def __init__(self, *words: str | Path, **environment: str) -> None:
        main = "from kdsweep.cli import main; main()"
        self._start([sys.executable, "-c", main, *map(str, words)], environment)

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until(self, what: str, ready: Callable[[], bool]) -> None:
        """Waits for something to become true while the process runs."""
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until and self.process.poll() is None:
            if ready():
                return
            time.sleep(0.05)  # another process is waited for
        pytest.fail(f"{what}: not while the process ran: {self.process.communicate()[0]}")

    def kill(self) -> None:
        """Ends the process without a chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> tuple[int, str]:
        """Waits for the end; gives the exit code and all that was printed."""
        try:
            output, _ = self.process.communicate(timeout=TIMEOUT_S)
        finally:
            self.process.kill()  # an interrupted test leaves nothing behind
        return self.process.returncode, output


class Driver(Process):
    """A process that runs the sweep of formulas by `run_closed_form.py`.

    Args:
        home: Folder of everything that kdsweep writes.
        command: ``launch`` or ``resume``.
        epoch_s: Seconds of an epoch, enough to be interrupted in the middle of one.
        options: Further arguments of `launch` or `resume`, and ``changes`` of the sweep.
        storage: URI that the home stands for.
        **environment: Variables of the process.
    """

    def __init__(
        self,
        home: Path,
        command: str,
        *,
        epoch_s: float,
        options: dict[str, Any] | None = None,
        storage: str = "",
        **environment: str,
    ) -> None:
        self.folder = home / "sweeps" / "formula"
        self.journal = self.folder / "journal.jsonl"
        script = str(_HERE / "run_closed_form.py")
        path = [str(_HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._start(
            [sys.executable, script, command, storage or str(home), json.dumps(options or {})],
            {
                "CLOSED_FORM_EPOCH_S": str(epoch_s),
                "PYTHONPATH": os.pathsep.join(path),
                **environment,
            },
        )

    def wait_for(self, event: str, count: int) -> None:
        """Waits until the journal holds so many events."""
        self.wait_until(f"{count} x {event}", lambda: counted(self.journal)[event] >= count)


def events(journal: Path) -> list[dict[str, Any]]:
    """Whole events of a journal that somebody may be writing."""
    if not journal.exists():
        return []
    lines = journal.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def counted(journal: Path) -> Counter[str]:
    """How many events of each kind a journal holds."""
    return Counter(found["event"] for found in events(journal))


def command_line(*words: str | Path, **environment: str) -> tuple[int, str]:
    """Runs `kdsweep` to its end; gives the exit code and all that it printed, unwrapped."""
    code, output = Process(*words, **environment).end()
    return code, " ".join(output.split())
