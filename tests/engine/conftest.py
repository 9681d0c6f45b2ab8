"""Fixtures of the engine's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch

from kdsweep import discover
from kdsweep.engine.place import Place
from kdsweep.spec.run import RunSpec


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the tiny world for one test, and keeps torch's thread count."""
    monkeypatch.setattr(discover, "names", discover.names)
    threads = torch.get_num_threads()
    tiny_world.install()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run_spec() -> Callable[..., RunSpec]:
    """A distilled run of the tiny world, with overrides by dotted key."""

    def make(**overrides: Any) -> RunSpec:
        spec = RunSpec.from_dict(
            {
                "task": "tiny",
                "teacher": {"model": "tiny", "train": {"epochs": 2, "lr": 0.02}},
                "student": {"model": "tiny", "width": 0.5},
                "method": {"name": "tiny"},
                "train": {"epochs": 3, "batch_size": 4, "lr": 0.02},
                "seed": 3,
            }
        )
        return spec.with_overrides({k.replace("__", "."): v for k, v in overrides.items()})

    return make


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., Place]:
    """A place on the CPU with one thread, below the test's folder."""

    def make(name: str = "run", **fields: Any) -> Place:
        return Place(tmp_path / "home", tmp_path / "runs" / name, device="cpu", threads=1, **fields)

    return make
