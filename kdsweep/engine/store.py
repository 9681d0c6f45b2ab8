"""Tensors on disk, one file per sample and tap, written once and shared by all processes."""

import hashlib
import os
import shutil
import threading
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kdsweep.engine import files

_LARGEST = 32768.0
_TENSOR = "tap"
_RESCAN_SHARE = 32


def pack(tensor: Tensor) -> tuple[Tensor, float]:
    """Rounds to float16 after a scaling by a power of two that keeps large values in range.

    Returns:
        The float16 tensor and the scale s: ``tensor ~ s * packed`` with an absolute error of at
        most ``max(2^-11 |x|, 2^-25 s)`` for each finite element x; s is 1 up to |x| = 32768.
        Infinite and NaN elements stay what they are.
    """
    tensor = tensor.float()
    magnitude = tensor.abs()
    largest = (
        torch.where(magnitude.isfinite(), magnitude, 0).max().item() if tensor.numel() else 0.0
    )
    scale = 1.0
    while largest / scale > _LARGEST:
        scale *= 2.0
    return (tensor / scale).half(), scale


def unpack(packed: Tensor, scale: float) -> Tensor:
    """Undoes `pack` in float32; exact, since the scale is a power of two."""
    return packed.float() if scale == 1.0 else packed.float() * scale


class TapStore:
    """A folder of packed tensors, safe to fill and read from any number of processes.

    A file appears by one rename when it is whole; whoever comes second replaces it by the same
    bytes. Its checksum is verified when this process first reads it; a damaged file counts as
    missing and is written anew. Reading maps the file, so processes share the page cache.

    Not synced to the disk: after a power failure a file may be cut, which the checksum finds.

    Attributes:
        folder: Where the files are.
        full: Whether the size cap, or the disk's end, has been reached.
    """

    def __init__(self, folder: Path, *, counted: Path, cap_bytes: int) -> None:
        """Opens or makes the folder.

        Args:
            folder: Holds this store's files.
            counted: Folder whose whole content counts towards the cap; holds `folder`.
            cap_bytes: Size at which nothing more is written. Other processes' writes are noticed
                each time this one has added a 32nd of the cap, so n processes may exceed it by
                up to n/32.
        """
        self.folder = folder
        self._counted = counted
        self._cap = cap_bytes
        self._used = folder_bytes(counted)
        self._added = 0
        self._verified: set[Path] = set()
        self.full = self._used >= cap_bytes

    def path(self, tap: str, sample: str) -> Path:
        """File of one tap of one sample."""
        digest = hashlib.blake2b(sample.encode(), digest_size=16).hexdigest()
        return self.folder / tap / digest[:2] / f"{digest[2:]}.safetensors"

    def read(self, tap: str, sample: str) -> tuple[Tensor, float] | None:
        """The packed tensor and its scale; None where it is missing or damaged."""
        path = self.path(tap, sample)
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                packed = file.get_tensor(_TENSOR)
            if path not in self._verified:
                if facts["crc32"] != _crc32(packed) or facts["sample"] != sample:
                    return None
                self._verified.add(path)
            return packed, float(facts["scale"])
        except (OSError, SafetensorError, KeyError, ValueError):
            self._verified.discard(path)
            return None

    def write(self, tap: str, sample: str, packed: Tensor, scale: float) -> None:
        """Stores a tensor of the CPU, or does nothing once the store is full."""
        if self.full:
            return
        path = self.path(tap, sample)
        facts = {"crc32": _crc32(packed), "sample": sample, "scale": repr(scale)}
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({_TENSOR: packed.contiguous()}, temporary, facts)
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            if not files.is_disk_full(error):
                raise
            self.full = True  # the teacher answers live; a checkpoint needs the room more
            return
        self._verified.discard(path)
        self._count(packed.nbytes)

    def _count(self, num_bytes: int) -> None:
        self._used += num_bytes
        self._added += num_bytes
        if self._added * _RESCAN_SHARE > self._cap:
            self._used, self._added = folder_bytes(self._counted), 0
        self.full = self._used >= self._cap


def _crc32(tensor: Tensor) -> str:
    array: np.ndarray = tensor.contiguous().numpy()
    return f"{zlib.crc32(array.data):08x}"


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue  # another process has just renamed or removed it
    return total


def clear(home: Path) -> None:
    """Removes all stored knowledge; runs that use it compute it anew."""
    shutil.rmtree(home / "knowledge", ignore_errors=True)
