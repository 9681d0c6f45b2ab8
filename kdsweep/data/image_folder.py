"""Reader of image folders: one sub-folder per class, images anywhere below it."""

import os
from pathlib import Path

from kdsweep.data.images import ImageFile, ImageFiles, Splits
from kdsweep.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_SPLIT_NAMES = (("train", "val"), ("train", "test"))


def read_image_folder(root: Path) -> ImageFiles:
    """Every image below the root; classes are numbered in the order of their names.

    Files with other suffixes, and files and folders whose name starts with a dot, are left out.

    Args:
        root: Folder that holds the class folders.

    Raises:
        DataError: The root does not exist, holds no class folder, or one of them holds no image.
    """
    return _read(root, _class_names(root))


def read_split_folders(root: Path) -> Splits | None:
    """Both splits, where the root divides its images itself: ``train`` beside ``val`` or ``test``.

    Args:
        root: Folder that may hold the two.

    Returns:
        The splits, or None where the root is divided in no such way.

    Raises:
        DataError: The two do not hold the same classes, or a class holds no image.
    """
    for train_name, val_name in _SPLIT_NAMES:
        train, val = root / train_name, root / val_name
        if not (train.is_dir() and val.is_dir()):
            continue
        names = _class_names(train)
        if differing := sorted(set(names) ^ set(_class_names(val))):
            raise DataError(
                f"{root}: class {differing[0]!r} is in only one of {train_name!r} and "
                f"{val_name!r} ({len(differing)} such); both must hold the same classes"
            )
        return Splits(_read(train, names), _read(val, names), len(names))
    return None


def _class_names(root: Path) -> list[str]:
    if not root.is_dir():
        raise DataError(f"{root}: this image folder does not exist. Set data.root to it.")
    names = sorted(
        entry.name
        for entry in os.scandir(root)
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise DataError(f"{root}: no class folder here. Expected one sub-folder per class.")
    return names


def _read(root: Path, names: list[str]) -> ImageFiles:
    files = []
    for label, class_name in enumerate(names):
        found = sorted(
            path
            for path in (root / class_name).rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        )
        if not found:
            raise DataError(
                f"{root / class_name}: no image in this class folder. Read are files that end in "
                f"{', '.join(SUFFIXES)}; remove the folder if it is no class."
            )
        files += [ImageFile(path.relative_to(root).as_posix(), path, label) for path in found]
    return ImageFiles(files)
