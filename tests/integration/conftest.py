"""One Ray for the tests of whole sweeps that do not end it, and the table of what faults did."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_HERE = str(Path(__file__).parent)

_COLUMNS = ("asked", "finished", "repeated", "lost", "duplicates")
"""Trials asked for and finished, epochs computed twice, results lost, superfluous MLflow runs."""

_ROWS = pytest.StashKey[list[tuple[str, ...]]]()

FaultTable = Callable[..., None]


@pytest.fixture(scope="session")
def fault_table(pytestconfig: pytest.Config) -> FaultTable:
    """Adds a row to the table of faults that is printed after the tests.

    Called as ``fault_table(what was done, asked=, finished=, repeated=, lost=, duplicates=)``.
    """
    rows = pytestconfig.stash.setdefault(_ROWS, [])

    def add(fault: str, **counts: int) -> None:
        assert counts.keys() == set(_COLUMNS)
        rows.append((fault, *(str(counts[name]) for name in _COLUMNS)))

    return add


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints what every fault that the tests made happen did to its sweep."""
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    table = [("fault", *_COLUMNS), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("faults made to happen in whole sweeps")
    for fault, *counts in table:
        cells = [word.rjust(width) for word, width in zip(counts, widths[1:], strict=True)]
        terminalreporter.write_line("  ".join([fault.ljust(widths[0]), *cells]))


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Gives what was printed so far, with its lines joined."""
    words: list[str] = []

    def text() -> str:
        words.extend(capsys.readouterr().out.split())
        return " ".join(words)

    return text


@pytest.fixture(scope="session")
def worker_path() -> Iterator[str]:
    """Lets Ray's processes import the modules beside the tests."""
    patch = pytest.MonkeyPatch()
    paths = [_HERE, *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))
    patch.setattr(sys, "path", [_HERE, *sys.path])
    yield _HERE
    patch.undo()


@pytest.fixture(scope="session")
def ray_cluster(worker_path: str) -> Iterator[None]:
    """Two CPU cores, whatever the machine has."""
    import ray

    from kdsweep.sweep import connection

    connection.set_environment()
    connection.connect(None, {"CPU": 2.0, "GPU": 0.0})
    yield
    ray.shutdown()
