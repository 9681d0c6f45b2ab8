"""A small valid run, sweep file and a toy task, method and model that no other change can touch."""

import sys
from types import ModuleType
from typing import Any

import pytest

from kdsweep import discover
from kdsweep.config import Config, Weight
from kdsweep.methods.base import Method, MethodConfig
from kdsweep.models.base import ModelConfig
from kdsweep.tasks.base import Task


@pytest.fixture
def run_values() -> dict[str, Any]:
    """A run as a sweep file gives it."""
    return {
        "task": "lidar_seg",
        "data": {"synth": {"scenes": 4}, "grid": [32, 32, 8]},
        "teacher": {"model": "cylinder3d", "width": 0.5, "train": {"epochs": 2}},
        "student": {"model": "cylinder3d", "width": 0.25},
        "method": {"name": "pvd"},
        "train": {"epochs": 4},
    }


FILE = """\
run:
  task: lidar_seg
  data: {synth: {scenes: 4}, grid: [32, 32, 8]}
  teacher: {model: cylinder3d, width: 0.5, train: {epochs: 2}}
  student: {model: cylinder3d, width: 0.25}
  method: {name: pvd}
  train: {epochs: 4, batch_size: 2}
sweep:
  name: small
  objectives: {miou: max, macs: min}
  constraints: {params_ratio: ">= 2"}
  trials: 4
space:
  method.point_output: {log_uniform: [0.01, 10]}
  student.width: {choice: [0.125, 0.25]}
"""


@pytest.fixture
def file() -> str:
    """Text of a valid sweep file; its lines are numbered from ``run:`` = 1."""
    return FILE


class ToyData(Config):
    root: str = "here"
    size: int = 4


class ToyLoss(Config):
    ce: Weight = 1.0


class ToyTask(Task):
    Data = ToyData
    Loss = ToyLoss
    metrics = {"score": "max"}  # noqa: RUF012


class ToyModelConfig(ModelConfig):
    depth: int = 2


class ToyMethodConfig(MethodConfig):
    soft: Weight = 0.5
    temperature: float = 1.0


class ToyMethod(Method):
    Config = ToyMethodConfig


class OtherMethodConfig(MethodConfig):
    hard: Weight = 2.0
    temperature: float = 4.0


class OtherMethod(Method):
    Config = OtherMethodConfig


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds the task ``toy``, the model ``toy`` and the methods ``toy`` and ``other``."""
    made = {
        ("tasks", "toy"): {"Toy": ToyTask},
        ("models", "toy"): {"Config": ToyModelConfig},
        ("methods", "toy"): {"Toy": ToyMethod},
        ("methods", "other"): {"Other": OtherMethod},
    }
    for (kind, name), members in made.items():
        module = ModuleType(f"kdsweep.{kind}.{name}")
        for member, value in members.items():
            monkeypatch.setattr(value, "__module__", module.__name__)
            setattr(module, member, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    known = discover.names
    monkeypatch.setattr(
        discover, "names", lambda kind: sorted([*known(kind), *(n for k, n in made if k == kind)])
    )


@pytest.fixture
def toy_values() -> dict[str, Any]:
    """A run of the toys."""
    return {
        "task": "toy",
        "teacher": {"model": "toy", "checkpoint": "teacher.safetensors"},
        "student": {"model": "toy", "width": 0.5},
        "method": {"name": "toy"},
    }
