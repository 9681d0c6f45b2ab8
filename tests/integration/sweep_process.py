"""A sweep of formulas in a process of its own, which a test may stop, kill or watch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
TIMEOUT_S = 400.0


class Driver:
    """A process that runs a sweep by `run_closed_form.py`.

    Args:
        home: Folder of everything that kdsweep writes.
        command: ``launch`` or ``resume``.
        epoch_s: Seconds of an epoch, enough to be interrupted in the middle of one.
        more: Sampled trials on top, for ``resume``.
        options: Further arguments of `launch` or `resume`, and ``changes`` of the sweep.
        **environment: Variables of the process.
    """

    def __init__(
        self,
        home: Path,
        command: str,
        *,
        epoch_s: float,
        options: dict[str, Any] | None = None,
        **environment: str,
    ) -> None:
        self.folder = home / "sweeps" / "formula"
        self.journal = self.folder / "journal.jsonl"
        script = str(_HERE / "run_closed_form.py")
        inherited = os.environ.get("PYTHONPATH")
        self.process = subprocess.Popen(
            [sys.executable, script, command, str(home), json.dumps(options or {})],
            env={
                **os.environ,
                "CLOSED_FORM_EPOCH_S": str(epoch_s),
                "PYTHONPATH": os.pathsep.join([str(_HERE), *filter(None, [inherited])]),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, event: str, count: int) -> None:
        """Waits until the journal holds so many events."""
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until and self.process.poll() is None:
            if counted(self.journal)[event] >= count:
                return
            time.sleep(0.05)  # another process is waited for
        pytest.fail(f"no {count} x {event}: {self.process.communicate()[0]}")

    def kill(self) -> None:
        """Ends the process without a chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> tuple[int, str]:
        """Waits for the end; gives the exit code and all that was printed."""
        output, _ = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, output


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
    """`kdsweep` in a process of its own; gives the exit code and all that it printed, unwrapped."""
    main = [sys.executable, "-c", "from kdsweep.cli import main; main()"]
    done = subprocess.run(
        [*main, *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())
