import pytest
from reference.image_roots import (
    write_cars196,
    write_cifar100,
    write_cub200,
    write_image_folder,
    write_online_products,
)

from kdsweep.data.check import check_images
from kdsweep.errors import DataError

ROOTS = {
    "cub200": (write_cub200, 6),
    "cars196": (write_cars196, 5),
    "online_products": (write_online_products, 6),
    "image_folder": (write_image_folder, 13),
    "cifar100": (write_cifar100, 5),
}


@pytest.mark.parametrize("layout", ROOTS)
def test_every_image_of_a_sound_root_is_decoded(tmp_path, layout):
    write, count = ROOTS[layout]
    seen = []
    report = check_images(
        write(tmp_path), layout, progress=lambda done, total: seen.append((done, total))
    )
    assert (report.num_images, report.faults) == (count, ())
    assert seen == [(done, count) for done in range(1, count + 1)]


def test_both_sides_of_a_split_folder_are_read(tmp_path):
    write_image_folder(tmp_path / "train", {"ant": 2})
    write_image_folder(tmp_path / "val", {"ant": 3})
    assert check_images(tmp_path, "image_folder").num_images == 5


@pytest.mark.parametrize("layout", ["cub200", "cars196", "online_products", "image_folder"])
def test_truncated_and_empty_images_are_named_each_once(tmp_path, layout):
    root = ROOTS[layout][0](tmp_path)
    images = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".JPG", ".png"))
    images[0].write_bytes(images[0].read_bytes()[:-100])
    images[2].write_bytes(b"")
    faults = check_images(root, layout).faults
    assert len(faults) == 2
    for path in (images[0], images[2]):
        assert sum(str(path) in fault for fault in faults) == 1


def test_without_its_list_a_root_cannot_be_checked(tmp_path):
    (write_cub200(tmp_path) / "image_class_labels.txt").unlink()
    with pytest.raises(DataError, match=r"image_class_labels.txt: no such list"):
        check_images(tmp_path, "cub200")
