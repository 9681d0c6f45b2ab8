"""The teacher of a run: given as a file, or trained once per home by a run of its own."""

import hashlib
import json
from pathlib import Path
from typing import Any

from kdsweep.engine import checkpoint
from kdsweep.engine.load import WEIGHTS
from kdsweep.errors import CheckpointError
from kdsweep.models.base import Model
from kdsweep.spec.choices import ModelChoice
from kdsweep.spec.run import BY_NAME, RunSpec


def teacher_dir(spec: RunSpec, home: Path) -> Path:
    """Folder of the run that trains the teacher of `spec`; the same for all runs that share it.

    Raises:
        SpecError: The run has no teacher that is trained.
    """
    return home / "teachers" / spec.teacher_run().identity()


def teacher_weights(spec: RunSpec, home: Path) -> Path:
    """File of the teacher's weights, whether it is there yet or not."""
    assert spec.teacher is not None
    if spec.teacher.checkpoint is None:
        return teacher_dir(spec, home) / WEIGHTS
    path = Path(spec.teacher.checkpoint).expanduser()
    return path / WEIGHTS if path.is_dir() else path


def network_of(choice: ModelChoice) -> dict[str, Any]:
    """What the network computes, given its weights: its model and configuration, as JSON values.

    Without where it started from, which its weights have in them.
    """
    config = choice.config.model_dump(mode="json")
    fields = {key: value for key, value in config.items() if f"teacher.{key}" not in BY_NAME}
    return {"model": choice.model, **fields}


def load_teacher(model: Model, choice: ModelChoice, weights: Path, *, fingerprint: str) -> str:
    """Loads the weights into the built network.

    Args:
        model: The teacher's network.
        choice: What it was built from.
        weights: Its safetensors file.
        fingerprint: Of the data that the run's teacher learns from (`Task.teacher_data`); one that
            kdsweep trained must have seen the same.

    Returns:
        Digest of the weight file.

    Raises:
        CheckpointError: The file is damaged, of another network, or was trained on other data.
    """
    restore_teacher(model, choice, weights)
    record = weights.parent / "metrics.json"
    if weights.parent.parent.name == "teachers" and record.is_file():
        trained_on = json.loads(record.read_text())["data"]
        if trained_on != fingerprint:
            raise CheckpointError(
                f"the teacher in {weights.parent} was trained on other data (fingerprint "
                f"{trained_on}, the run's data has {fingerprint}). Use another home, or remove "
                "that folder to train the teacher again."
            )
    return weights_digest(weights)


def restore_teacher(model: Model, choice: ModelChoice, weights: Path) -> None:
    """Fills the built network.

    Raises:
        CheckpointError: The file is missing or damaged, or of another network, by the shapes of its
            tensors or by the description beside it.
    """
    if not weights.is_file():
        raise CheckpointError(f"run.teacher.checkpoint: there is no file {weights}")
    tensors = checkpoint.load_tensors(weights)
    try:
        checkpoint.restore(model, tensors, source=weights)
    except CheckpointError as error:
        raise CheckpointError(
            f"run.teacher: {error} Set run.teacher.model and its fields to those of the file, or "
            "name another file in run.teacher.checkpoint."
        ) from None
    _check_described(choice, weights)


def _check_described(choice: ModelChoice, weights: Path) -> None:
    """Weights of equal shapes may be of a network that computes something else from them."""
    sidecar = weights.with_suffix(".json")
    try:
        description = json.loads(sidecar.read_text())
        name, config = description["model"], description["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # none is there, or it is somebody else's: the shapes must do
    wanted, given = network_of(choice), {"model": name}
    if name == choice.model:
        try:  # a field that the description lacks had its default, as for `load_student`
            given = network_of(ModelChoice(model=name, config=type(choice.config)(**config)))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"{sidecar} is damaged or of another version: {error!r}"
            ) from None
    other = [key for key, value in given.items() if wanted[key] != value]
    if other:
        what = ", ".join(
            f"{key} {json.dumps(given[key])} (run.teacher.{key} is {json.dumps(wanted[key])})"
            for key in other
        )
        raise CheckpointError(
            f"run.teacher: {weights} is of another network: {sidecar.name} beside it says {what}. "
            f"Set {' and '.join(f'run.teacher.{key}: {json.dumps(given[key])}' for key in other)}, "
            "or name another file in run.teacher.checkpoint."
        )


def weights_digest(weights: Path) -> str:
    """Digest of a weight file: what the teacher is, wherever it lies."""
    digest = hashlib.blake2b(digest_size=16)
    with weights.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
