"""Ctrl-C and SIGTERM ask a sweep to stop, from its first to its last moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdsweep.sweep.interrupt import Interrupt, keeping_handlers, on_signals


def test_the_first_signal_asks_and_the_second_ends():
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGTERM)
    with on_signals(interrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.raised and interrupt.reason == "stopped by SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_handlers_that_something_else_puts_in_place_are_taken_away_again():
    interrupt = Interrupt()
    with on_signals(interrupt):
        with keeping_handlers():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.raised


@pytest.mark.ray
@pytest.mark.slow
def test_rays_own_handlers_end_nothing_while_it_runs_and_after_it(tmp_path: Path) -> None:
    """They would end the process at once: during the search, the summary, the last sending."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from kdsweep.sweep import connection\n"
        "from kdsweep.sweep.interrupt import Interrupt, on_signals\n"
        "during, after = Interrupt(), Interrupt()\n"
        "connection.set_environment()\n"
        "node = {'CPU': 1.0, 'GPU': 0.0}\n"
        "with on_signals(during), connection.connected(None, node, Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "with on_signals(after):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(during.reason, after.reason)\n"
    )
    program = [sys.executable, "-c", code, str(tmp_path / "ray.log")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.stdout == "stopped by SIGTERM stopped by SIGTERM\n", done.stderr
