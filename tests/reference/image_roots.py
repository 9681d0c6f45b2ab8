"""Small image data sets in their native layouts, written without the package's own code."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

Colour = tuple[int, int, int]


def write_image(path: Path, colour: Colour, *, width: int = 12, height: int = 9) -> None:
    """A bitmap of one colour: BMP, 24 bits, rows padded to four bytes, whatever its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = bytes(reversed(colour)) * width
    rows = (row + b"\0" * (-len(row) % 4)) * height
    header = struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(rows), 0, 0, 0, 0)
    path.write_bytes(header + info + rows)


def colour_of(number: int) -> Colour:
    """A colour that tells images apart."""
    return (20 * number % 256, 100, 255 - 20 * number % 256)


def write_cub200(root: Path, labels: Sequence[int] = (1, 1, 2, 101, 101, 200)) -> Path:
    """One image per label, in that order."""
    listed, classes = [], []
    for number, label in enumerate(labels, 1):
        name = f"{label:03d}.Bird/Bird_{number:04d}_77.jpg"
        write_image(root / "images" / name, colour_of(number))
        listed.append(f"{number} {name}\n")
        classes.append(f"{number} {label}\n")
    (root / "images.txt").write_text("".join(listed))
    (root / "image_class_labels.txt").write_text("".join(classes))
    return root


def write_cars196(root: Path, labels: Sequence[int] = (1, 98, 98, 99, 196)) -> Path:
    """The layout of one numbering."""
    rows = []
    for number, label in enumerate(labels, 1):
        name = f"car_ims/{number:06d}.jpg"
        write_image(root / name, colour_of(number))
        rows.append((name, 1, 1, 5, 5, label, 0))
    fields = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    _write_annotations(root / "cars_annos.mat", fields, rows)
    return root


def write_cars196_devkit(root: Path, *, test_list: str = "cars_test_annos_withlabels.mat") -> Path:
    """The layout of two numberings: labels 1 and 99 in each, images of the same name."""
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    for part, listed in (("train", "devkit/cars_train_annos.mat"), ("test", test_list)):
        rows = []
        for number, label in enumerate((1, 99), 1):
            write_image(root / f"cars_{part}" / f"{number:05d}.jpg", colour_of(number))
            rows.append((1, 1, 5, 5, label, f"{number:05d}.jpg"))
        _write_annotations(root / listed, fields, rows)
    return root


def _write_annotations(path: Path, fields: Sequence[str], rows: Sequence[tuple]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.zeros((1, len(rows)), dtype=[(name, object) for name in fields])
    for column, row in enumerate(rows):
        for name, value in zip(fields, row, strict=True):
            table[0, column][name] = value
    savemat(
        path,
        {"annotations": table, "class_names": np.array(["a car"], dtype=object)},
        do_compression=True,
    )


def write_online_products(root: Path, splits: Mapping[str, Sequence[int]] | None = None) -> Path:
    """One image per class id and list."""
    number = 0
    for split, labels in (splits or {"train": (1, 1, 2), "test": (11319, 11319, 11320)}).items():
        lines = ["image_id class_id super_class_id path\n"]
        for label in labels:
            number += 1
            name = f"chair_final/{label}_{number}.JPG"
            write_image(root / name, colour_of(number))
            lines.append(f"{number} {label} 1 {name}\n")
        (root / f"Ebay_{split}.txt").write_text("".join(lines))
    return root


def write_image_folder(root: Path, counts: Mapping[str, int] | None = None) -> Path:
    """Some images per class, the first one in a folder of its own."""
    for label, (name, count) in enumerate((counts or {"ant": 4, "bee": 5, "cow": 4}).items()):
        for number in range(count):
            folder = root / name / "more" if number == 0 else root / name
            write_image(folder / f"{number}.png", colour_of(5 * label + number))
    return root


def cifar100_bytes(pixels: bytes, labels: Sequence[int], *, shape: tuple[int, int]) -> bytes:
    """A pickle as Python 2 and its NumPy wrote it: protocol 2, byte strings, no memo."""

    def string(value: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(value)) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = b"cnumpy\ndtype\n(" + string(b"u1") + number(0) + number(1) + b"tR"
    dtype += b"(" + number(3) + string(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t"
    array += string(b"b") + b"tR(" + number(1) + b"(" + number(shape[0]) + number(shape[1]) + b"t"
    array += dtype + b"\x89" + string(pixels) + b"tb"
    fine = b"](" + b"".join(map(number, labels)) + b"e"
    items = string(b"data") + array + string(b"fine_labels") + fine
    items += string(b"batch_label") + string(b"training batch 1 of 1")
    return b"\x80\x02}(" + items + b"u."


def write_cifar100(root: Path, labels: Mapping[str, Sequence[int]] | None = None) -> Path:
    """One image per label; image n is red = n, green = 50 + n, blue = its column."""
    for name, given in (labels or {"train": (0, 99, 7), "test": (7, 1)}).items():
        pixels = b""
        for number in range(len(given)):
            pixels += bytes([number]) * 1024 + bytes([50 + number]) * 1024 + bytes(range(32)) * 32
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cifar100_bytes(pixels, given, shape=(len(given), 3072)))
    return root
