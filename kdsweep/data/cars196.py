"""Reader of Cars 196 (Stanford Cars) in both of its native layouts.

* ``cars_annos.mat`` with ``car_ims/``: all 16,185 images in one numbering;
* ``devkit/cars_train_annos.mat`` and ``cars_test_annos_withlabels.mat`` with ``cars_train/`` and
  ``cars_test/``: the same images in two. The second list may be in ``devkit`` or in the root.

Source: Krause et al., "3D Object Representations for Fine-Grained Categorization", 3dRR 2013;
zero-shot split of Oh Song et al., CVPR 2016: of the 196 classes the first 98 are learned, the last
98 retrieved, whichever part an image belongs to.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdsweep.data.images import ImageFile, ImageFiles, inside
from kdsweep.data.zero_shot import ZeroShot
from kdsweep.errors import DataError

NUM_CLASSES = 196
_TRAIN_CLASSES = 98
_TEST_LIST = "cars_test_annos_withlabels.mat"


def read_cars196(root: Path) -> ZeroShot:
    """All images that the lists name; does not look at the images themselves.

    Args:
        root: Folder that holds ``cars_annos.mat`` or ``devkit``.

    Raises:
        DataError: A list is missing or damaged.
    """
    if (root / "cars_annos.mat").is_file():
        files = list(_files(root / "cars_annos.mat", root, "relative_im_path"))
    elif (root / "devkit" / "cars_train_annos.mat").is_file():
        test = root / _TEST_LIST
        if not test.is_file():
            test = root / "devkit" / _TEST_LIST
        files = [
            *_files(root / "devkit" / "cars_train_annos.mat", root / "cars_train", "fname"),
            *_files(test, root / "cars_test", "fname"),
        ]
    else:
        found = "does not exist" if not root.is_dir() else "holds neither"
        raise DataError(
            f"{root}: this Cars 196 root {found}. Expected 'cars_annos.mat' beside 'car_ims', or "
            "'devkit/cars_train_annos.mat' beside 'cars_train' and 'cars_test'; set data.root to "
            "the folder that holds them."
        )
    return ZeroShot(ImageFiles(files), frozenset(range(_TRAIN_CLASSES)), str(root))


def _files(path: Path, folder: Path, field: str) -> Iterator[ImageFile]:
    rows = _annotations(path)
    if rows.dtype.names is None or not {field, "class"} <= set(rows.dtype.names):
        fields = ", ".join(rows.dtype.names or ()) or "none"
        raise DataError(
            f"{path}: its annotations need the fields {field!r} and 'class', found: {fields}."
        )
    for number, row in enumerate(rows, 1):
        listed = f"{path}, row {number}"
        name, label = row[field], row["class"]
        if not isinstance(name, str) or not _is_class(label):
            raise DataError(
                f"{listed}: found image {name!r} of class {label!r}, expected a name and a class "
                f"from 1 to {NUM_CLASSES}. The list is damaged or foreign."
            )
        # test and train images have the same names in the second layout
        identity = name if "/" in name else f"{folder.name}/{name}"
        yield ImageFile(identity, inside(folder, name, listed=listed), int(label) - 1, listed)


def _annotations(path: Path) -> np.ndarray:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with path.open("rb") as file:
            held = loadmat(file, squeeze_me=True, variable_names=["annotations"])
    except FileNotFoundError:
        raise DataError(f"{path}: no such list. Copy it to this place.") from None
    # all that SciPy raises on damaged files; none of it runs code from the file
    except (
        MatReadError,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        NameError,
        NotImplementedError,
        MemoryError,
        zlib.error,
    ) as error:
        raise DataError(f"{path}: damaged MATLAB file ({error}). Copy it again.") from error
    if "annotations" not in held:
        raise DataError(f"{path}: this MATLAB file has no variable 'annotations'.")
    return np.atleast_1d(held["annotations"])


def _is_class(value: Any) -> bool:
    return isinstance(value, int | np.integer) and 1 <= int(value) <= NUM_CLASSES
