"""Checkpoints as safetensors and JSON: whole or not there, and nothing in them can run code.

Layout of a checkpoint folder::

    epoch-0003/state.safetensors   student/..., method/..., optimizer/<parameter>/<name>
    epoch-0003/state.json          facts: epoch, identity, best epoch, metrics, seconds, checksum
    best-0002.safetensors          student/... and method/... after the best epoch so far

A folder appears by one rename after everything in it is on the disk, and the one before it goes
away afterwards, so a crash at any moment leaves a checkpoint that is whole.

A worker that was cut off may come back while another one goes on with its run. It is kept from
writing by the loss of its desk (see `claim`). Even two that write at once, which know nothing of
each other where the file system has no locks, do no harm: what they write for an epoch is equal,
and what belongs to later epochs is left alone.
"""

import contextlib
import errno
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdsweep.engine import files
from kdsweep.errors import CheckpointError

_EPOCH = re.compile(r"epoch-(\d+)")
_ANY = re.compile(r"\.?(epoch|best)-(\d+)\b.*")


def save(
    folder: Path,
    epoch: int,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    *,
    best_epoch: int,
    best: Mapping[str, Tensor] | None,
    desk: Path | None = None,
) -> None:
    """Adds the checkpoint of an epoch and then drops the older ones.

    Args:
        folder: The checkpoint folder of a run.
        epoch: Epochs done.
        tensors: Everything that training needs to go on.
        facts: What JSON can hold of it.
        best_epoch: The best epoch so far.
        best: The weights of student and method where this epoch is the best one, else None.
        desk: See `claim`.

    Raises:
        ResourceError: The disk is full; the previous checkpoint is untouched.
        SupersededError: A later attempt has taken the run over; nothing is touched.
    """
    if best is not None:
        files.write_file(_best(folder, best_epoch), lambda path: save_tensors(best, path), desk)

    def fill(temporary: Path) -> None:
        save_tensors(tensors, temporary / "state.safetensors")
        recorded = {**facts, "epoch": epoch, "best_epoch": best_epoch}
        recorded["crc32"] = files.checksum(temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps(recorded, indent=1, sort_keys=True))

    current = folder / f"epoch-{epoch:04d}"
    files.remove(current, desk)  # only a damaged or abandoned one can be in the way
    with _there_by_another():
        files.write_folder(current, fill, desk)
    for path in folder.iterdir():
        found = _ANY.fullmatch(path.name)
        limit = best_epoch if found and found[1] == "best" else epoch
        if found and int(found[2]) >= limit:
            continue
        files.remove(path, desk)


@contextlib.contextmanager
def _there_by_another() -> Iterator[None]:
    """Another process may have put the same epoch into its place a moment ago."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint of a folder: its tensors (on the CPU) and facts; None without one.

    Raises:
        CheckpointError: The newest checkpoint is damaged.
    """
    found = [path for path in folder.glob("epoch-*") if _EPOCH.fullmatch(path.name)]
    if not found:
        return None
    newest = max(found, key=lambda path: int(path.name.split("-")[1]))
    try:
        facts = json.loads((newest / "state.json").read_text())
        expected = facts["crc32"]
        found_crc = files.checksum(newest / "state.safetensors")
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint {newest} is damaged: {error!r}. Remove it.") from error
    if found_crc != expected:
        raise CheckpointError(
            f"checkpoint {newest / 'state.safetensors'} is damaged: its checksum is {found_crc}, "
            f"state.json says {expected}. Remove {newest} to start that run again."
        )
    return load_tensors(newest / "state.safetensors"), facts


def load_best(folder: Path, best_epoch: int) -> dict[str, Tensor]:
    """The weights of student and method after the best epoch, prefixed.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    return load_tensors(_best(folder, best_epoch))


def _best(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch:04d}.safetensors"


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes tensors of any device as one safetensors file (not durable by itself)."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file to the CPU.

    Raises:
        CheckpointError: The file is missing, or is no whole safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no weight file {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a whole safetensors file: {error}. "
            "Other formats (.pt, .pth) are not read, because unpickling them can run code."
        ) from error


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts a prefix before every name."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name has the prefix, without it."""
    start = f"{prefix}/"
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state (moments, step counts) as named tensors."""
    return {
        f"{index}/{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undoes `optimizer_tensors`; hyper-parameters stay those of the run's spec."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def restore(model: nn.Module, tensors: Mapping[str, Tensor], *, source: Path | str) -> None:
    """Loads weights into a model of exactly the same shape.

    Args:
        model: The model, on any device.
        tensors: Its weights by name.
        source: Where the weights come from; a `.json` file of the same name beside it, if there is
            one, tells the width in the message.

    Raises:
        CheckpointError: A tensor is missing, left over or of another shape; the message names the
            first one, with both shapes and both widths.
    """
    own = model.state_dict()
    for name, tensor in own.items():
        given = tensors.get(name)
        if given is not None and given.shape == tensor.shape:
            continue
        what = (
            f"it has no tensor {name!r} {tuple(tensor.shape)}"
            if given is None
            else f"tensor {name!r} is {tuple(given.shape)} in the file, {tuple(tensor.shape)} in "
            "the model"
        )
        raise CheckpointError(f"{source} does not fit {_asked(model)}: {what}.{_recorded(source)}")
    for name, tensor in tensors.items():
        if name not in own:
            raise CheckpointError(
                f"{source} does not fit {_asked(model)}: its tensor {name!r} {tuple(tensor.shape)} "
                f"is not in the model.{_recorded(source)}"
            )
    model.load_state_dict(dict(tensors))


def _asked(model: nn.Module) -> str:
    name = type(model).__module__.rsplit(".", 1)[-1]
    width = getattr(getattr(model, "config", None), "width", None)
    return f"model {name!r}" + (f" of width {width}" if width is not None else "")


def _recorded(source: Path | str) -> str:
    if Path(source).suffix != ".safetensors":
        return ""
    sidecar = Path(source).with_suffix(".json")
    try:
        record = json.loads(sidecar.read_text())
        return f" {sidecar.name} says: {record['model']} of width {record['config']['width']}."
    except (OSError, ValueError, KeyError, TypeError):
        return f" (There is no readable {sidecar.name} beside it that tells what it holds.)"
