"""The exported student: weights as safetensors, what it is as JSON, and back to a module."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdsweep import discover
from kdsweep.engine import checkpoint, files
from kdsweep.errors import CheckpointError, SpecError
from kdsweep.models.base import Model
from kdsweep.types import ModelInput

WEIGHTS = "student.safetensors"
SIDECAR = "student.json"
ADAPTERS = "adapters.safetensors"


def export_student(
    run_dir: Path,
    weights: Mapping[str, Tensor],
    description: Mapping[str, Any],
    desk: Path | None = None,
) -> None:
    """Writes `student.safetensors` and, last, `student.json`.

    Args:
        run_dir: Folder of the run.
        weights: The student's state, by name.
        description: See `describe`.
        desk: See `claim`.
    """
    path = run_dir / WEIGHTS
    files.write_file(path, lambda temporary: checkpoint.save_tensors(weights, temporary), desk)
    files.write_json(run_dir / SIDECAR, {**description, "crc32": files.checksum(path)}, desk)


def describe(
    *, model: str, config: Mapping[str, Any], model_input: ModelInput, **facts: Any
) -> dict[str, Any]:
    """What `load_student` must know to build the model, and what a reader wants to know of it."""
    return {"model": model, "config": dict(config), "model_input": asdict(model_input), **facts}


def load_student(path: str | Path, device: str = "cpu") -> nn.Module:
    """Loads an exported student or teacher, ready for inference.

    Args:
        path: A run's folder, its `student.safetensors`, or any safetensors file with a `.json` of
            the same name beside it.
        device: Where the module shall be.

    Returns:
        The module in eval mode; called with a batch of the run's task, it gives its taps by name.
        Evaluated on the run's validation data it reproduces the logged metric.

    Raises:
        CheckpointError: A file is missing or damaged, or weights and description disagree.
    """
    weights = Path(path)
    if weights.is_dir():
        weights = weights / WEIGHTS
    sidecar = weights.with_suffix(".json")
    if not weights.is_file() or not sidecar.is_file():
        missing = sidecar if weights.is_file() else weights
        raise CheckpointError(f"there is no exported student at {path}: {missing} is missing")
    try:
        description = json.loads(sidecar.read_text())
        name, config = description["model"], description["config"]
        model_input = description["model_input"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{sidecar} does not describe a student: {error!r}") from error
    expected = description.get("crc32")
    if expected is not None and (found := files.checksum(weights)) != expected:
        raise CheckpointError(
            f"{weights} is damaged: its checksum is {found}, {sidecar.name} says {expected}"
        )
    try:
        student = build_model(name, config, _model_input(model_input))
    except SpecError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{sidecar} is damaged or of another version: {error!r}") from None
    checkpoint.restore(student, checkpoint.load_tensors(weights), source=weights)
    return student.to(device).eval()


def build_model(name: str, config: Any, model_input: ModelInput) -> Model:
    """Builds a model from its key and its configuration (an instance, or its plain values)."""
    module = discover.load("models", name)
    if isinstance(config, Mapping):
        config = module.Config(**config)
    model: Model = module.build(config, model_input)
    model.config = config
    return model


def _model_input(values: Mapping[str, Any]) -> ModelInput:
    return ModelInput(**{**values, "grid": tuple(values["grid"])})
