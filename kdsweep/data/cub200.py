"""Reader of Caltech-UCSD Birds-200-2011 in its native layout.

``images.txt`` (id, path below ``images/``), ``image_class_labels.txt`` (id, class 1..200). Source:
Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011; zero-shot split of Oh Song et al.,
CVPR 2016: the first 100 classes are learned, the last 100 retrieved.
"""

from pathlib import Path

from kdsweep.data.image_lists import read_rows, root_with
from kdsweep.data.images import ImageFile, ImageFiles, inside
from kdsweep.data.zero_shot import ZeroShot
from kdsweep.errors import DataError

NUM_CLASSES = 200
_TRAIN_CLASSES = 100


def read_cub200(root: Path) -> ZeroShot:
    """All images that the lists name; does not look at the images themselves.

    Args:
        root: Folder that holds ``images.txt``, or ``CUB_200_2011``.

    Raises:
        DataError: A list is missing or damaged, or the two do not name the same images.
    """
    folder = root_with(root, "images.txt", within="CUB_200_2011", dataset="CUB-200-2011")
    labels: dict[str, int] = {}
    for row in read_rows(folder / "image_class_labels.txt", num_fields=2):
        labels[row.fields[0]] = row.number(1, low=1, high=NUM_CLASSES) - 1
    files: dict[str, ImageFile] = {}
    for row in read_rows(folder / "images.txt", num_fields=2):
        identity, name = row.fields
        if identity in files:
            raise DataError(f"{row.where}: image {identity} is listed twice. The list is damaged.")
        if identity not in labels:
            raise DataError(
                f"{row.where}: image {identity} has no class in image_class_labels.txt. One of the "
                "two lists is damaged: copy both again."
            )
        path = inside(folder / "images", name, listed=row.where)
        files[identity] = ImageFile(name, path, labels[identity], row.where)
    if unknown := [identity for identity in labels if identity not in files]:
        raise DataError(
            f"{folder / 'image_class_labels.txt'}: image {unknown[0]} is not in images.txt "
            f"({len(unknown)} such). One of the two lists is damaged: copy both again."
        )
    return ZeroShot(ImageFiles(files.values()), frozenset(range(_TRAIN_CLASSES)), str(folder))
