import pytest
from reference.image_roots import colour_of, write_cub200

from kdsweep.data.cub200 import read_cub200
from kdsweep.errors import DataError


def test_the_first_hundred_classes_are_learned_and_the_others_retrieved(tmp_path):
    splits = read_cub200(write_cub200(tmp_path)).splits("official")
    assert splits.train.labels == (0, 0, 1)
    assert splits.val.labels == (100, 100, 199)
    assert splits.train.names[2] == "002.Bird/Bird_0003_77.jpg"
    assert (splits.val.read(1) == colour_of(5)).all()


def test_the_order_of_the_class_list_does_not_matter(tmp_path):
    path = write_cub200(tmp_path) / "image_class_labels.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    assert read_cub200(tmp_path).images.labels == (0, 0, 1, 100, 100, 199)


def test_the_folder_that_the_archive_unpacks_to_is_found(tmp_path):
    write_cub200(tmp_path / "CUB_200_2011")
    assert len(read_cub200(tmp_path).images) == 6


def test_an_image_that_is_not_there_is_named_with_its_line(tmp_path):
    write_cub200(tmp_path)
    missing = tmp_path / "images" / "002.Bird" / "Bird_0003_77.jpg"
    missing.unlink()
    (fault,) = read_cub200(tmp_path).images.check()
    assert fault.startswith(f"{tmp_path / 'images.txt'}:3: {missing}: no such image")


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("image_class_labels.txt", "1 201", r"labels.txt:7: field 2 is '201', .* from 1 to 200"),
        ("image_class_labels.txt", "1 0", r"labels.txt:7: field 2 is '0'"),
        ("image_class_labels.txt", "1 x", r"labels.txt:7: field 2 is 'x'"),
        ("image_class_labels.txt", "1", r"labels.txt:7: 1 fields found, expected 2"),
        ("image_class_labels.txt", "9 1", r"labels.txt: image 9 is not in images.txt"),
        ("images.txt", "7 a.jpg", r"images.txt:7: image 7 has no class in image_class_labels.txt"),
        ("images.txt", "3 a.jpg", r"images.txt:7: image 3 is listed twice"),
        ("images.txt", "8", r"images.txt:7: 1 fields found"),
    ],
)
def test_a_damaged_list_is_named_with_its_line(tmp_path, name, line, message):
    path = write_cub200(tmp_path) / name
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=message):
        read_cub200(tmp_path)


def test_a_line_that_leads_elsewhere_is_refused(tmp_path):
    path = write_cub200(tmp_path) / "images.txt"
    path.write_text(path.read_text().replace("001.Bird/Bird_0001_77.jpg", "../../x.jpg"))
    with pytest.raises(DataError, match=r"images.txt:1: '../../x.jpg' leads out"):
        read_cub200(tmp_path)


def test_a_missing_list_is_named(tmp_path):
    (write_cub200(tmp_path) / "image_class_labels.txt").unlink()
    with pytest.raises(DataError, match=r"image_class_labels.txt: no such list"):
        read_cub200(tmp_path)


def test_a_list_that_is_no_text_is_named(tmp_path):
    (write_cub200(tmp_path) / "images.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"images.txt: cannot read this list"):
        read_cub200(tmp_path)
