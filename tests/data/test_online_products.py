import pytest
from reference.image_roots import colour_of, write_online_products

from kdsweep.data.online_products import read_online_products
from kdsweep.errors import DataError


def test_each_list_is_a_split(tmp_path):
    splits = read_online_products(write_online_products(tmp_path)).splits("official")
    assert splits.train.labels == (0, 0, 1) and splits.val.labels == (11318, 11318, 11319)
    assert splits.val.names[0] == "chair_final/11319_4.JPG"
    assert (splits.val.read(0) == colour_of(4)).all()


def test_the_folder_that_the_archive_unpacks_to_is_found(tmp_path):
    write_online_products(tmp_path / "Stanford_Online_Products")
    assert len(read_online_products(tmp_path).images) == 6


def test_an_image_that_is_not_there_is_named_with_its_line(tmp_path):
    missing = write_online_products(tmp_path) / "chair_final" / "11320_6.JPG"
    missing.unlink()
    (fault,) = read_online_products(tmp_path).images.check()
    assert fault.startswith(f"{tmp_path / 'Ebay_test.txt'}:4: {missing}: no such image")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("image_id", "id"), r"Ebay_test.txt: expected 'image_id class_id .* found 'id class_id"),
        (("4 11319", "4 1"), r"Ebay_test.txt:2: class 1 is in Ebay_train.txt too"),
        (("4 11319", "4 22635"), r"Ebay_test.txt:2: field 2 is '22635', .* from 1 to 22634"),
        (("4 11319 1", "4"), r"Ebay_test.txt:2: 2 fields found, expected 4"),
    ],
)
def test_a_damaged_list_is_named_with_its_line(tmp_path, change, message):
    path = write_online_products(tmp_path) / "Ebay_test.txt"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(DataError, match=message):
        read_online_products(tmp_path)


def test_an_empty_list_is_named(tmp_path):
    (write_online_products(tmp_path) / "Ebay_train.txt").write_text("")
    with pytest.raises(DataError, match=r"Ebay_train.txt: expected .* found nothing"):
        read_online_products(tmp_path)


def test_a_missing_test_list_is_named(tmp_path):
    (write_online_products(tmp_path) / "Ebay_test.txt").unlink()
    with pytest.raises(DataError, match=r"Ebay_test.txt: no such list"):
        read_online_products(tmp_path)
