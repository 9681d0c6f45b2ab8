"""Virtual hosts only where they are asked for and possible, and the figures that they give."""

import sys
from pathlib import Path
from typing import Any

import pytest
from virtual_hosts import missing

sys.path.append(str(Path(__file__).parents[1] / "integration"))

_HERE = Path(__file__).parent
_ROWS = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips hosts that cannot be made here, where they are asked for."""
    why = missing() if "hosts" in config.option.markexpr else None
    if why is not None:
        for item in items:
            if item.path.is_relative_to(_HERE):
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed after the tests."""
    return pytestconfig.stash.setdefault(_ROWS, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints what the sweeps over several hosts took."""
    if rows := config.stash.get(_ROWS, []):
        terminalreporter.section("sweeps over several hosts")
        for row in rows:
            terminalreporter.write_line(row)
