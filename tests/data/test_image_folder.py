import pytest
from reference.image_roots import colour_of, write_image, write_image_folder

from kdsweep.data.image_folder import read_image_folder, read_split_folders
from kdsweep.errors import DataError


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path):
    images = read_image_folder(write_image_folder(tmp_path, {"bee": 2, "ant": 1}))
    assert images.names == ("ant/more/0.png", "bee/1.png", "bee/more/0.png")
    assert images.labels == (0, 1, 1)
    assert (images.read(1) == colour_of(1)).all()


def test_other_files_and_hidden_ones_are_left_out(tmp_path):
    write_image_folder(tmp_path, {"ant": 1})
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / "ant" / "notes.txt").write_text("x")
    write_image(tmp_path / "ant" / "._0.png", (1, 2, 3))
    write_image(tmp_path / ".cache" / "0.png", (1, 2, 3))
    assert read_image_folder(tmp_path).names == ("ant/more/0.png",)


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".webp"])
def test_suffixes_of_images_are_known_in_any_case(tmp_path, suffix):
    write_image(tmp_path / "ant" / f"0{suffix}", (1, 2, 3))
    assert len(read_image_folder(tmp_path)) == 1


def test_a_root_that_holds_no_classes_is_named(tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path}: no class folder"):
        read_image_folder(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: this image folder does not exist"):
        read_image_folder(tmp_path / "nowhere")


def test_a_class_without_images_is_named(tmp_path):
    (write_image_folder(tmp_path) / "dog").mkdir()
    with pytest.raises(DataError, match=r"dog: no image in this class folder"):
        read_image_folder(tmp_path)


@pytest.mark.parametrize("val", ["val", "test"])
def test_a_root_may_be_split_already(tmp_path, val):
    write_image_folder(tmp_path / "train", {"ant": 2, "bee": 3})
    write_image_folder(tmp_path / val, {"ant": 1, "bee": 1})
    splits = read_split_folders(tmp_path)
    assert splits.train.labels == (0, 0, 1, 1, 1) and splits.val.labels == (0, 1)
    assert splits.num_classes == 2


def test_a_root_of_classes_only_is_not_split(tmp_path):
    assert read_split_folders(write_image_folder(tmp_path)) is None


def test_both_sides_of_a_split_must_hold_the_same_classes(tmp_path):
    write_image_folder(tmp_path / "train", {"ant": 1, "bee": 1})
    write_image_folder(tmp_path / "val", {"ant": 1})
    with pytest.raises(DataError, match=r"class 'bee' is in only one of 'train' and 'val'"):
        read_split_folders(tmp_path)
