"""Goes through every file of a data root and lists the damaged ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from kdsweep.data.cars196 import read_cars196
from kdsweep.data.cifar100 import read_cifar100
from kdsweep.data.cub200 import read_cub200
from kdsweep.data.image_folder import read_image_folder, read_split_folders
from kdsweep.data.images import LabelledImages
from kdsweep.data.online_products import read_online_products
from kdsweep.data.scans import ScanReader
from kdsweep.errors import DataError

ImageFormat: TypeAlias = Literal["cub200", "cars196", "online_products", "image_folder", "cifar100"]


@dataclass(frozen=True)
class CheckReport:
    """What was found under a data root.

    Attributes:
        num_scans: Scans that were read, with their labels.
        num_points: Points of the undamaged ones.
        faults: One message per fault; each names its file and what to do.
    """

    num_scans: int
    num_points: int
    faults: tuple[str, ...]


def check_root(
    reader: ScanReader, *, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Reads every scan, label file and other file of a root, whatever its split.

    Args:
        reader: Reader of the root.
        progress: Called after each scan with (scans done, scans in all).
    """
    faults: list[str] = []
    num_points = 0
    scans = reader.all_scans()
    for done, scan in enumerate(scans, 1):
        found = list(reader.faults(scan))
        faults.extend(found)
        if not found:
            num_points += reader.sizes(scan)[0]
        if progress is not None:
            progress(done, len(scans))
    faults.extend(reader.extra_faults())
    return CheckReport(len(scans), num_points, tuple(faults))


@dataclass(frozen=True)
class ImageReport:
    """What was found under a root of images.

    Attributes:
        num_images: Images that were decoded, or could not be.
        faults: One message per fault; each names its file and what to do.
    """

    num_images: int
    faults: tuple[str, ...]


def check_images(
    root: Path, layout: ImageFormat, *, progress: Callable[[int, int], None] | None = None
) -> ImageReport:
    """Decodes every image of a root, of all its splits.

    Args:
        root: Folder of the data set.
        layout: Its native layout.
        progress: Called after each image with (images done, images in all).

    Raises:
        DataError: A list or folder of the data set is missing or damaged, so that its images are
            not known.
    """
    parts = _image_parts(root, layout)
    total = sum(map(len, parts))
    faults, done = [], 0
    for images in parts:
        for index in range(len(images)):
            try:
                images.read(index)
            except DataError as error:
                faults.append(str(error))
            done += 1
            if progress is not None:
                progress(done, total)
    return ImageReport(total, tuple(faults))


def _image_parts(root: Path, layout: ImageFormat) -> Sequence[LabelledImages]:
    if layout == "cifar100":
        splits = read_cifar100(root)
        return splits.train, splits.val
    if layout == "image_folder":
        divided = read_split_folders(root)
        return (divided.train, divided.val) if divided else (read_image_folder(root),)
    read = {
        "cub200": read_cub200,
        "cars196": read_cars196,
        "online_products": read_online_products,
    }[layout]
    return (read(root).images,)
