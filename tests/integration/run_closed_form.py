"""Launches or resumes the sweep of formulas in a process that a test may kill.

Usage: run_closed_form.py launch|resume HOME OPTIONS

OPTIONS is JSON: ``changes`` of the sweep, ``die_after`` ([event, n]: the process ends by SIGKILL as
soon as the journal has the n-th such event), and arguments of `launch` or `resume`.
"""

import json
import os
import signal
import sys
from typing import Any

from closed_form import EXECUTE, sweep

from kdsweep.sweep import launch, resume
from kdsweep.sweep.journal import Event, Journal


def die_after(name: str, count: int) -> None:
    """Ends this process right after an event is on the disk, before anything follows it."""
    append, seen = Journal.append, 0

    def counting(self: Journal, event: str, **fields: Any) -> Event:
        nonlocal seen
        entry = append(self, event, **fields)
        seen += event == name
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return entry

    Journal.append = counting  # type: ignore[method-assign]


if __name__ == "__main__":
    command, home, text = sys.argv[1:]
    options = json.loads(text)
    changes = {"trials": 8, "confirm": {"top": 1, "seeds": 1}, **options.pop("changes", {})}
    if "die_after" in options:
        die_after(*options.pop("die_after"))
    if command == "launch":
        launch(sweep(**changes), home=home, execute=EXECUTE, **options)
    else:
        resume("formula", home=home, execute=EXECUTE, **options)
