import numpy as np
import pytest
from reference.image_roots import colour_of, write_cars196, write_cars196_devkit
from scipy.io import savemat

from kdsweep.data.cars196 import read_cars196
from kdsweep.errors import DataError


def test_the_first_98_classes_are_learned_and_the_others_retrieved(tmp_path):
    splits = read_cars196(write_cars196(tmp_path)).splits("official")
    assert splits.train.labels == (0, 97, 97) and splits.val.labels == (98, 195)
    assert splits.val.names == ("car_ims/000004.jpg", "car_ims/000005.jpg")
    assert (splits.val.read(0) == colour_of(4)).all()


@pytest.mark.parametrize("place", ["", "devkit/"])
def test_both_parts_of_the_other_layout_are_divided_by_class(tmp_path, place):
    root = write_cars196_devkit(tmp_path, test_list=f"{place}cars_test_annos_withlabels.mat")
    splits = read_cars196(root).splits("official")
    assert splits.train.names == ("cars_train/00001.jpg", "cars_test/00001.jpg")
    assert splits.train.labels == (0, 0) and splits.val.labels == (98, 98)
    assert read_cars196(root).images.check() == []


def test_a_list_of_one_image_is_read(tmp_path):
    assert read_cars196(write_cars196(tmp_path, (5,))).images.labels == (4,)


def test_an_image_that_is_not_there_is_named_with_its_row(tmp_path):
    missing = write_cars196(tmp_path) / "car_ims" / "000003.jpg"
    missing.unlink()
    (fault,) = read_cars196(tmp_path).images.check()
    assert fault.startswith(f"{tmp_path / 'cars_annos.mat'}, row 3: {missing}: no such image")


@pytest.mark.parametrize("label", [0, 197, 2.5])
def test_a_class_out_of_range_is_named_with_its_row(tmp_path, label):
    write_cars196(tmp_path, (1, label))
    with pytest.raises(DataError, match=r"cars_annos.mat, row 2: .*000002.jpg' of class"):
        read_cars196(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cars_annos.mat: damaged MATLAB file"),
        (b"MATLAB 5.0 MAT-file" + bytes(200), "cars_annos.mat: damaged MATLAB file"),
        (b"\0" * 64, "cars_annos.mat: damaged MATLAB file"),
    ],
)
def test_a_damaged_list_is_named(tmp_path, content, message):
    (write_cars196(tmp_path) / "cars_annos.mat").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_cars196(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.03, 0.3, 0.6])
def test_a_truncated_list_is_named(tmp_path, share):
    path = write_cars196(tmp_path) / "cars_annos.mat"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"cars_annos.mat"):
        read_cars196(tmp_path)


def test_a_list_without_annotations_or_their_fields_is_named(tmp_path):
    path = write_cars196(tmp_path) / "cars_annos.mat"
    savemat(path, {"other": np.arange(3)})
    with pytest.raises(DataError, match="no variable 'annotations'"):
        read_cars196(tmp_path)
    savemat(path, {"annotations": np.arange(3)})
    with pytest.raises(DataError, match="fields 'relative_im_path' and 'class', found: none"):
        read_cars196(tmp_path)


def test_a_missing_test_list_is_named(tmp_path):
    (write_cars196_devkit(tmp_path) / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(DataError, match=r"cars_test_annos_withlabels.mat: no such list"):
        read_cars196(tmp_path)
