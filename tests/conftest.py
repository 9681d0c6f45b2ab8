"""Fixtures that several test packages share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes an example late, which says nothing of what is tested.
settings.register_profile("kdsweep", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kdsweep")  # `--hypothesis-profile` comes later, and so wins

_SHARED = Path(os.environ.get("KDSWEEP_SHARED", Path(__file__).parents[2] / "shared"))


_ONLY_WHERE_ASKED = {
    "hosts": "whole clusters take half an hour: run by `pytest -m hosts`, as root",
    "faults": "the slower faults take ten minutes: run by `pytest -m faults`",
}


def pytest_configure() -> None:
    """Takes away what a developer's shell says of homes and stores: tests have their own."""
    for name in ("KDSWEEP_HOME", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips what takes long unless ``-m`` asks for it."""
    for marker, why in _ONLY_WHERE_ASKED.items():
        if marker not in config.option.markexpr:
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture
def oracle():
    """Path of a file of reference numbers; skips where the files are absent."""

    def find(name: str) -> Path:
        path = _SHARED / "oracles" / name
        if not path.exists():
            pytest.skip(f"reference file {name} is not here (set KDSWEEP_SHARED)")
        return path

    return find


@pytest.fixture
def samples() -> Path:
    """Folder of real sample frames; skips where they are absent."""
    path = _SHARED / "samples"
    if not path.exists():
        pytest.skip("the real sample frames are not here (set KDSWEEP_SHARED)")
    return path
