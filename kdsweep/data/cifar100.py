"""Reader of CIFAR-100 in its native layout, the "python version": two pickles, ``train``, ``test``.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A pickle is a
program; this reader runs none. It follows the pickle's own data opcodes and answers every request
for a function with one of four inert stand-ins, so that what comes out are dictionaries, lists,
bytes and numbers, whatever the file says.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from kdsweep.data.images import ImageArray, Splits
from kdsweep.errors import DataError

NUM_CLASSES = 100
SIDE = 32
_IMAGE_BYTES = 3 * SIDE * SIDE
_FOLDER = "cifar-100-python"


def read_cifar100(root: Path) -> Splits:
    """The 50,000 training and 10,000 test images, with their fine labels.

    Args:
        root: Folder that holds ``train`` and ``test``, or ``cifar-100-python``.

    Raises:
        DataError: A file is missing, damaged, or asks for what an image file has no need of.
    """
    folder = root if (root / "train").is_file() else root / _FOLDER
    if not folder.is_dir():
        raise DataError(
            f"{root}: no CIFAR-100 here. Set data.root to the folder that holds {_FOLDER!r} (the "
            "unpacked python version), or to that folder itself."
        )
    return Splits(_read(folder / "train"), _read(folder / "test"), NUM_CLASSES)


def _read(path: Path) -> ImageArray:
    held = _load(path)
    data, labels = held.get(b"data"), held.get(b"fine_labels")
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise DataError(
            f"{path}: expected an array b'data' and a list b'fine_labels', found keys "
            f"{', '.join(sorted(map(repr, held))) or 'none'}. Is this the python version?"
        )
    pixels = data.images(path)
    if len(labels) != len(pixels):
        raise DataError(f"{path}: {len(labels)} labels for {len(pixels)} images. It is damaged.")
    for label in labels:
        if type(label) is not int or not 0 <= label < NUM_CLASSES:
            raise DataError(
                f"{path}: label {label!r} is none of 0..{NUM_CLASSES - 1}. The file is damaged."
            )
    return ImageArray(pixels, labels, [f"{path.name}/{n:05d}" for n in range(len(labels))])


def _load(path: Path) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            held = _Unpickler(file, encoding="bytes").load()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Copy it to this place.") from None
    # what pickle documents for damaged files, and what the stand-ins raise
    except (
        pickle.UnpicklingError,
        OSError,
        EOFError,
        AttributeError,
        ImportError,
        LookupError,
        TypeError,
        ValueError,
        OverflowError,
        MemoryError,
    ) as error:
        raise DataError(
            f"{path}: damaged file, or not CIFAR-100's ({error}). Copy it again from its source."
        ) from error
    if not isinstance(held, dict):
        raise DataError(f"{path}: expected a dictionary, found {type(held).__name__}.")
    return held


class _Type:
    """Stands in for `numpy.dtype` and `numpy.ndarray` as names: remembers its arguments."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like; single bytes have none."""


class _Array:
    """Stands in for a NumPy array: keeps shape and bytes."""

    def __init__(self, *arguments: Any) -> None:
        self._shape: tuple[int, ...] = ()
        self._code: Any = None
        self._order = True
        self._bytes = b""

    def __setstate__(self, state: Any) -> None:
        _, self._shape, kind, self._order, self._bytes = state
        self._code = kind.arguments[0] if isinstance(kind, _Type) else None

    def images(self, path: Path) -> np.ndarray:
        """The pixels as (images, 32, 32, 3).

        Raises:
            DataError: Shape, type or number of bytes are not those of CIFAR images.
        """
        shape, held = self._shape, self._bytes
        fits = (
            self._code in ("u1", b"u1")
            and not self._order  # rows one after the other
            and isinstance(held, bytes)
            and isinstance(shape, tuple)
            and len(shape) == 2
            and shape[1] == _IMAGE_BYTES
            and shape[0] * _IMAGE_BYTES == len(held)
        )
        if not fits:
            size = len(held) if isinstance(held, bytes) else 0
            raise DataError(
                f"{path}: its array has shape {shape}, type {self._code!r} and {size} bytes, "
                f"expected (images, {_IMAGE_BYTES}) of type 'u1'. The file is damaged or foreign."
            )
        planes = np.frombuffer(held, dtype=np.uint8).reshape(-1, 3, SIDE, SIDE)
        return planes.transpose(0, 2, 3, 1)


def _text_bytes(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, by which Python 3 writes bytes in old pickles."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Type,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _text_bytes,
}


class _Unpickler(pickle.Unpickler):
    """Imports nothing and calls nothing but the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no image file needs: do not trust it"
            )
        return _STAND_INS[module, name]
