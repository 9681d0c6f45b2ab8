import io
import pickle

import numpy as np
import pytest
from PIL import Image
from reference.image_roots import colour_of, write_image

from kdsweep.data.images import (
    ImageArray,
    ImageFile,
    ImageFiles,
    Splits,
    check_files,
    inside,
)
from kdsweep.errors import DataError


@pytest.fixture
def files(tmp_path):
    listed = []
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg", colour_of(number))
        listed.append(ImageFile(f"{number}", tmp_path / f"{number}.jpg", number, f"list:{number}"))
    return ImageFiles(listed)


def _array(count=5, side=8):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return ImageArray(pixels, list(range(count)), [f"im{n}" for n in range(count)])


def test_files_are_read_as_rgb_whatever_they_hold(files, tmp_path):
    assert files.read(1).shape == (9, 12, 3)
    assert (files.read(1) == colour_of(1)).all()
    Image.new("L", (4, 4), 7).save(tmp_path / "0.jpg", "PNG")
    assert (files.read(0) == 7).all() and files.read(0).shape == (4, 4, 3)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    palette.save(tmp_path / "2.jpg", "GIF")
    assert (files.read(2) == (10, 20, 30)).all()


def test_a_jpeg_is_read(tmp_path):
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "a.jpg", quality=95)
    pixels = ImageFiles([ImageFile("a", tmp_path / "a.jpg", 0)]).read(0)
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_a_damaged_image_is_named(files, tmp_path, damage):
    path = tmp_path / "1.jpg"
    if damage == "missing":
        path.unlink()
    else:
        content = {"empty": b"", "truncated": path.read_bytes()[:-40], "text": b"no image"}
        path.write_bytes(content[damage])
    with pytest.raises(DataError) as caught:
        files.read(1)
    assert str(path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_truncated_jpeg_and_png_are_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG"):
        held = io.BytesIO()
        Image.fromarray(noise).save(held, kind)
        path = tmp_path / kind
        path.write_bytes(held.getvalue()[:2000])
        with pytest.raises(DataError, match=rf"{kind}: damaged image"):
            ImageFiles([ImageFile("a", path, 0)]).read(0)


def test_a_decompression_bomb_is_refused(files, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # 12 x 9 is more, but less than twice that
    with pytest.raises(DataError, match=r"damaged image.*decompression bomb"):
        files.read(1)


def test_formats_that_start_programs_are_not_read(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(DataError, match="no known format"):
        ImageFiles([ImageFile("a", path, 0)]).read(0)


def test_checking_names_missing_and_empty_files_and_where_they_are_listed(files, tmp_path):
    (tmp_path / "0.jpg").unlink()
    (tmp_path / "2.jpg").write_bytes(b"")
    faults = files.check()
    assert len(faults) == 2
    assert faults[0].startswith("list:0: ") and str(tmp_path / "0.jpg") in faults[0]
    assert str(tmp_path / "2.jpg") in faults[1] and "0 bytes" in faults[1]


def test_faults_of_both_splits_are_listed_up_to_a_limit(tmp_path):
    missing = ImageFiles(ImageFile(f"{n}", tmp_path / f"{n}.jpg", 0) for n in range(4))
    with pytest.raises(DataError, match=r"8 missing or empty images(.|\n)*and 3 more"):
        check_files(tmp_path, Splits(missing, missing, 1))


def test_the_digest_follows_names_classes_and_sizes_but_not_the_place(tmp_path):
    def digest(folder, name="a", label=0, width=12):
        write_image(tmp_path / folder / "x.jpg", (1, 2, 3), width=width)
        return ImageFiles([ImageFile(name, tmp_path / folder / "x.jpg", label)]).digest()

    assert digest("here") == digest("there")
    others = {digest("b", name="b"), digest("c", label=1), digest("d", width=13)}
    assert len(others | {digest("here")}) == 4


def test_the_digest_of_an_array_follows_its_pixels():
    one, other = _array(), _array()
    assert one.digest() == other.digest()
    other.read(2)[0, 0, 0] ^= 1
    assert one.digest() != other.digest()


def test_some_images_of_an_array_keep_their_names_and_classes():
    some = _array().only([3, 1])
    assert some.names == ("im3", "im1") and some.labels == (3, 1) and len(some) == 2
    np.testing.assert_array_equal(some.read(0), _array().read(3))


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../b.jpg", "/etc/passwd"])
def test_a_list_cannot_lead_out_of_its_folder(tmp_path, name):
    with pytest.raises(DataError, match=r"list:7: .* leads out of"):
        inside(tmp_path, name, listed="list:7")
