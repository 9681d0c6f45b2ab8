"""What a sweep leaves in its folder: tables, the report, and one line that says how it went.

Everything is computed from the journal alone, so that it is there also while tracking is away.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdsweep import results
from kdsweep.results import Sweep
from kdsweep.results.summary import Summary
from kdsweep.sweep import journal
from kdsweep.sweep.transcribe import Scribe
from kdsweep.tracking import MemoryTracker, Where

_DEFAULT = Where()


@contextmanager
def results_of(name: str, path: Path, where: Where = _DEFAULT) -> Iterator[Sweep]:
    """A sweep's results as `kdsweep.open_sweep` gives them, read from its journal."""
    tracker = MemoryTracker()
    try:
        scribe = Scribe(name, tracker, files=False)
        for event in journal.events(path):
            scribe.tell(event)
        yield Sweep(name, tracker, where)
    finally:
        tracker.close()


def summarise(name: str, folder: Path) -> Summary:
    """Writes the tables and the report of a sweep into ``folder/summary``."""
    with results_of(name, folder / "journal.jsonl") as sweep:
        return results.summarise(sweep, folder / "summary")
