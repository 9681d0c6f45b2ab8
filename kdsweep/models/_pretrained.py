"""Weights from elsewhere: read without running code, named by their digest, matched strictly."""

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdsweep.errors import CheckpointError

_DIGEST = re.compile(r"-([0-9a-f]{8,64})$")
_SHOWN = 6


def _carries_digest(path: str) -> str:
    if path and not _DIGEST.search(Path(path).stem):
        raise ValueError(
            f"{Path(path).name!r} does not end with '-' and 8 or more digits of its SHA-256, as in "
            f"torchvision's resnet50-0676ba61.pth. Rename the file (sha256sum {path}): the name "
            "tells runs with different weights apart"
        )
    return path


PretrainedPath = Annotated[str, AfterValidator(_carries_digest)]
"""Path of a file of weights, .pth or .safetensors; empty = none. As torch.hub asks for, its name
ends with the first digits of its SHA-256, so that name alone says which weights these are: of the
path, only the name counts in a run's identity."""


def load_pretrained(backbone: nn.Module, path: str, *, ignore: str) -> None:
    """Loads weights into a network; every name and every shape must match.

    Args:
        backbone: The network, changed in place.
        path: A `PretrainedPath` that is not empty.
        ignore: Names that begin so are left out: the head of the other task.

    Raises:
        CheckpointError: The file is missing, damaged, or of another network; the message names
            the tensors that do not fit. Nothing is loaded then.
    """
    given = {
        name: tensor for name, tensor in _read(Path(path)).items() if not name.startswith(ignore)
    }
    own = backbone.state_dict()
    # Files from before torch 0.4.1 lack these counters, which no forward pass reads.
    counters = {name for name in own if name.endswith(".num_batches_tracked")}
    problems = [f"{name} is missing" for name in own if name not in given and name not in counters]
    problems += [f"{name} is unknown" for name in given if name not in own]
    problems += [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"pretrained weights {path} do not fit {type(backbone).__name__}: "
            + "; ".join(problems[:_SHOWN])
            + more
            + ". Check depth, width, stem and the number of image channels."
        )
    backbone.load_state_dict({**own, **given})


def _read(path: Path) -> Mapping[str, Tensor]:
    """Named tensors of a file whose name tells its digest."""
    path = path.expanduser()
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointError(f"pretrained weights {path}: {error.strerror}") from error
    found = _DIGEST.search(path.stem)
    if found is None or not digest.hexdigest().startswith(found.group(1)):
        raise CheckpointError(
            f"pretrained weights {path} are damaged or not what the name says: their SHA-256 "
            f"begins with {digest.hexdigest()[:8]}, the name must end with those digits."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: tensors and plain containers, nothing that could run code.
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"pretrained weights {path} cannot be read as a file of tensors: {reason}"
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(
            f"pretrained weights {path} are no mapping of names to tensors: save "
            "model.state_dict() alone, with torchvision's names."
        )
    return tensors
