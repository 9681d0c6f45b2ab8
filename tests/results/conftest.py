"""Fixtures of the tests of results."""

import json

import pytest
from made_up_sweep import fill

from kdsweep.results import Sweep
from kdsweep.tracking import MemoryTracker


@pytest.fixture
def tracker():
    memory = MemoryTracker()
    yield memory
    memory.close()


@pytest.fixture
def sweep(tracker):
    return Sweep("pvd", fill(tracker))


@pytest.fixture
def student_folder(tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "student.json").write_text(json.dumps({"model": "cylinder3d"}))
    (folder / "student.safetensors").write_bytes(b"\0" * 8)
    return folder
