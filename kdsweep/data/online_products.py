"""Reader of Stanford Online Products in its native layout.

``Ebay_train.txt`` and ``Ebay_test.txt`` (image_id, class_id, super_class_id, path). Source: Oh Song
et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016: 59,551 images of
11,318 classes are learned, 60,502 of 11,316 others retrieved.
"""

from collections.abc import Iterator
from pathlib import Path

from kdsweep.data.image_lists import read_rows, root_with
from kdsweep.data.images import ImageFile, ImageFiles, inside
from kdsweep.data.zero_shot import ZeroShot
from kdsweep.errors import DataError

NUM_CLASSES = 22_634
_HEADER = "image_id class_id super_class_id path"


def read_online_products(root: Path) -> ZeroShot:
    """All images that both lists name; does not look at the images themselves.

    Args:
        root: Folder that holds ``Ebay_train.txt``, or ``Stanford_Online_Products``.

    Raises:
        DataError: A list is missing or damaged, or the two share a class.
    """
    folder = root_with(
        root,
        "Ebay_train.txt",
        within="Stanford_Online_Products",
        dataset="Stanford Online Products",
    )
    train = list(_files(folder, "Ebay_train.txt"))
    test = list(_files(folder, "Ebay_test.txt"))
    classes = frozenset(file.label for file in train)
    for file in test:
        if file.label in classes:
            raise DataError(
                f"{file.listed}: class {file.label + 1} is in Ebay_train.txt too, but the split is "
                "by class. One of the two lists is damaged: copy both again."
            )
    return ZeroShot(ImageFiles([*train, *test]), classes, str(folder))


def _files(folder: Path, name: str) -> Iterator[ImageFile]:
    for row in read_rows(folder / name, num_fields=4, header=_HEADER):
        label = row.number(1, low=1, high=NUM_CLASSES) - 1
        path = row.fields[3]
        yield ImageFile(path, inside(folder, path, listed=row.where), label, row.where)
