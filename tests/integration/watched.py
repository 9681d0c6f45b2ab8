"""A sweep in a thread of the test's own process, so that the test may watch and harm its Ray."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from closed_form import computed
from sweep_process import TIMEOUT_S, events

from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep import launch
from kdsweep.sweep.tuner import Finished


class Watched:
    """Launches a sweep on entering and waits for its end on leaving.

    Args:
        spec: The sweep.
        home: Folder of everything that it writes.
        **options: Further arguments of `launch`.

    Attributes:
        finished: What the launch gave, once it has ended.
        error: What it raised instead.
    """

    def __init__(self, spec: SweepSpec, home: Path, **options: Any) -> None:
        self.folder = home / "sweeps" / spec.name
        self.journal = self.folder / "journal.jsonl"
        self.finished: Finished | None = None
        self.error: Exception | None = None
        self._call = lambda: launch(spec, home=home, quiet=True, **options)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.finished = self._call()
        except Exception as error:  # for the test to look at
            self.error = error

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "the sweep does not end"

    def wait_until(self, what: str, ready: Callable[[], Any]) -> Any:
        """Waits for something to become true while the sweep runs; gives its value."""
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until and self._thread.is_alive():
            if found := ready():
                return found
            time.sleep(0.05)  # other processes are waited for
        state = self.finished.state if self.finished else repr(self.error)
        pytest.fail(f"{what}: not while the sweep ran, which ended: {state}")

    def training(self) -> dict[str, int]:
        """Sampled trials that have a slot, with the last epoch that was computed."""
        found = set()
        for event in events(self.journal):
            if event["event"] == "trial_started" and event["trial"].startswith("t0"):
                found.add(event["trial"])
            if event["event"] == "trial_ended":
                found.discard(event["trial"])
        return {trial: max(computed(self.log(trial)), default=0) for trial in found}

    def log(self, trial: str) -> Path:
        """Where `closed_form` notes the epochs of a trial."""
        return self.folder / "runs" / trial / "epochs-0"
