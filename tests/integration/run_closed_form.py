"""Launches or resumes the sweep of formulas in a process that a test may kill.

Usage: run_closed_form.py launch|resume HOME [MORE]
"""

import sys

from closed_form import EXECUTE, sweep

from kdsweep.sweep import launch, resume

if __name__ == "__main__":
    command, home, *more = sys.argv[1:]
    if command == "launch":
        launch(sweep(trials=8, confirm={"top": 1, "seeds": 1}), home=home, execute=EXECUTE)
    else:
        resume("formula", home=home, more=int(more[0]) if more else 0, execute=EXECUTE)
