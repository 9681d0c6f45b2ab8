"""Labelled images of one split, in files or in memory."""

import hashlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kdsweep.data.files import file_size
from kdsweep.errors import DataError

Pixels: TypeAlias = UInt8[np.ndarray, "height width channels"]

_LISTED = 5
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""What Pillow may decode; some of its other formats start programs (EPS) or are rarely tested."""


@dataclass(frozen=True)
class ImageFile:
    """One image on disk.

    Attributes:
        name: Identity within the data set.
        path: Its file.
        label: Its class.
        listed: The list that names it, and where in it; empty where the folder itself is the list.
    """

    name: str
    path: Path
    label: int
    listed: str = ""


class LabelledImages(ABC):
    """Images of one split with their classes.

    Attributes:
        names: Identity of each image within the data set.
        labels: Class of each image, numbered from 0 within the data set.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def read(self, index: int) -> Pixels:
        """Pixels of an image.

        Raises:
            DataError: Its file is missing or damaged; the message names it.
        """

    @abstractmethod
    def check(self) -> list[str]:
        """Looks at every file without decoding it; one message per missing or empty file."""

    @abstractmethod
    def digest(self) -> str:
        """Digest of which images these are: names, classes and sizes, not the path to them.

        Raises:
            DataError: A file is missing or empty.
        """

    @abstractmethod
    def only(self, rows: Sequence[int]) -> "LabelledImages":
        """Some of the images, in the given order."""


class ImageFiles(LabelledImages):
    """Images in files, read as RGB whatever they hold."""

    def __init__(self, files: Iterable[ImageFile]) -> None:
        self._files = tuple(files)
        self.names = tuple(file.name for file in self._files)
        self.labels = tuple(file.label for file in self._files)

    def read(self, index: int) -> Pixels:
        file = self._files[index]
        self._bytes(file)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
                with Image.open(file.path, formats=_FORMATS) as image:
                    return np.asarray(image.convert("RGB"))
        except (
            OSError,  # Pillow's own errors derive from it
            SyntaxError,
            ValueError,
            EOFError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            raise DataError(
                f"{file.path}: damaged image, or of no known format ({error}). Copy it again from "
                f"its source. Read are {', '.join(_FORMATS)}."
            ) from error

    def check(self) -> list[str]:
        faults = []
        for file in self._files:
            try:
                self._bytes(file)
            except DataError as error:
                faults.append(str(error))
        return faults

    def digest(self) -> str:
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(repr((file.name, file.label, self._bytes(file))).encode())
        return digest.hexdigest()[:16]

    def only(self, rows: Sequence[int]) -> "ImageFiles":
        return ImageFiles(self._files[row] for row in rows)

    def _bytes(self, file: ImageFile) -> int:
        try:
            size = file_size(file.path, kind="image")
        except DataError as error:
            raise DataError(f"{file.listed}: {error}" if file.listed else str(error)) from error
        if size == 0:
            raise DataError(f"{file.path}: this image is empty (0 bytes). Copy it again.")
        return size


class ImageArray(LabelledImages):
    """Images of one size, held in memory."""

    def __init__(
        self,
        pixels: UInt8[np.ndarray, "images height width channels"],
        labels: Sequence[int],
        names: Sequence[str],
    ) -> None:
        assert len(pixels) == len(labels) == len(names)
        self._pixels = pixels
        self.labels = tuple(labels)
        self.names = tuple(names)

    def read(self, index: int) -> Pixels:
        return self._pixels[index]

    def check(self) -> list[str]:
        return []

    def digest(self) -> str:
        digest = hashlib.sha256(repr((self.names, self.labels, self._pixels.shape)).encode())
        digest.update(np.ascontiguousarray(self._pixels).tobytes())
        return digest.hexdigest()[:16]

    def only(self, rows: Sequence[int]) -> "ImageArray":
        return ImageArray(
            self._pixels[list(rows)],
            [self.labels[row] for row in rows],
            [self.names[row] for row in rows],
        )


@dataclass(frozen=True)
class Splits:
    """Training and validation images of a data set.

    Attributes:
        train: Images to learn from.
        val: Images to evaluate on.
        num_classes: Classes of the whole data set.
    """

    train: LabelledImages
    val: LabelledImages
    num_classes: int


def check_files(root: Path | None, splits: Splits) -> None:
    """Looks at every file of both splits.

    Raises:
        DataError: Files are missing or empty; the message lists the first ones.
    """
    faults = [*splits.train.check(), *splits.val.check()]
    if faults:
        more = len(faults) - _LISTED
        rest = f"\n  and {more} more" if more > 0 else ""
        raise DataError(
            f"{root}: {len(faults)} missing or empty images:\n  "
            + "\n  ".join(faults[:_LISTED])
            + rest
        )


def inside(root: Path, name: str, *, listed: str) -> Path:
    """The file that a list of a data set names by a path relative to its root.

    Raises:
        DataError: The name leads out of the root; lists come with downloads and may be foreign.
    """
    if os.path.isabs(name) or ".." in Path(name).parts:
        raise DataError(f"{listed}: {name!r} leads out of {root}. The list is damaged or foreign.")
    return root / name
