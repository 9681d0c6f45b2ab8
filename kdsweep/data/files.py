"""Opens binary data files as memory-mapped arrays; a damaged file gives an error that names it."""

import errno
import os
from pathlib import Path

import numpy as np

from kdsweep.errors import DataError


def file_size(path: Path, *, kind: str) -> int:
    """Bytes of a file.

    Args:
        path: The file.
        kind: What it is, for the message ("scan", "label file").

    Raises:
        DataError: There is no such file, or it cannot be read.
    """
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        raise DataError(f"{path}: no such {kind}. Copy it to this place.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read this {kind}: {error.strerror}.") from error


def num_records(path: Path, *, record_bytes: int, kind: str, unit: str) -> int:
    """Records in a file, judged by its size; reads nothing.

    Args:
        path: The file.
        record_bytes: Bytes of one record.
        kind: What the file is, for messages.
        unit: What a record is, for messages ("point", "label").

    Raises:
        DataError: The file is missing, empty, or not a whole number of records long.
    """
    size = file_size(path, kind=kind)
    if size == 0:
        raise DataError(f"{path}: this {kind} is empty (0 bytes). Copy it again from its source.")
    if size % record_bytes:
        whole = size // record_bytes
        raise DataError(
            f"{path}: damaged or truncated {kind}: {size} bytes found, expected a multiple of "
            f"{record_bytes} (bytes per {unit}), such as {whole * record_bytes} for {whole} or "
            f"{(whole + 1) * record_bytes} for {whole + 1} {unit}s. Copy it again from its source."
        )
    return size // record_bytes


def map_records(path: Path, dtype: str, columns: int, *, kind: str, unit: str) -> np.ndarray:
    """Maps a file of equal records into memory, read-only.

    Args:
        path: The file.
        dtype: Little-endian NumPy type of a value, for example ``<f4``.
        columns: Values per record; 1 gives an array of one axis.
        kind: What the file is, for messages.
        unit: What a record is, for messages.

    Raises:
        DataError: As `num_records`, or the file cannot be opened.
        MemoryError: There is no memory left to map it into.
    """
    record_bytes = np.dtype(dtype).itemsize * columns
    records = num_records(path, record_bytes=record_bytes, kind=kind, unit=unit)
    shape = (records,) if columns == 1 else (records, columns)
    try:
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)
    except OSError as error:
        if error.errno == errno.ENOMEM:  # nothing is wrong with the file
            raise MemoryError(f"{path}: {error.strerror}") from error
        raise DataError(f"{path}: cannot read this {kind}: {error.strerror}.") from error
