import numpy as np
import pytest

from kdsweep.data.digits import read_digits
from kdsweep.data.images import ImageArray
from kdsweep.data.zero_shot import ZeroShot, by_share
from kdsweep.errors import DataError


def _images(labels):
    pixels = np.zeros((len(labels), 2, 2, 1), dtype=np.uint8)
    return ImageArray(pixels, labels, [f"{n}" for n in range(len(labels))])


def _classes(splits):
    return sorted(set(splits.train.labels)), sorted(set(splits.val.labels))


def test_no_class_is_on_both_sides_and_no_image_is_lost():
    images = _images([0, 3, 1, 3, 2, 0])
    splits = ZeroShot(images, frozenset({0, 1}), "x").splits("official")
    assert splits.train.names == ("0", "2", "5") and splits.val.names == ("1", "3", "4")


@pytest.mark.parametrize(("classes", "held"), [(100, 20), (98, 19), (5, 1), (2, 1)])
def test_development_holds_out_the_last_fifth_of_the_training_classes(classes, held):
    images = _images(list(range(2 * classes)))
    splits = ZeroShot(images, frozenset(range(classes)), "x").splits("development")
    assert _classes(splits) == (
        list(range(classes - held)),
        list(range(classes - held, classes)),
    )


@pytest.mark.parametrize(
    ("labels", "protocol", "side"),
    [
        ([7, 8], "official", "training"),
        ([0, 1], "official", "validation"),
        ([0, 7], "development", "training"),
    ],
)
def test_a_side_without_images_is_named(labels, protocol, side):
    zero_shot = ZeroShot(_images(labels), frozenset({0, 1}), "some/root")
    with pytest.raises(DataError, match=rf"some/root: no image of a {side} class"):
        zero_shot.splits(protocol)


@pytest.mark.parametrize(("share", "learned"), [(0.5, 2), (0.01, 1), (0.99, 3), (0.7, 3)])
def test_a_share_of_the_classes_is_learned_and_at_least_one_on_each_side(share, learned):
    splits = by_share(_images([4, 5, 6, 7, 4]), share, source="x").splits("official")
    assert _classes(splits) == ([4, 5, 6, 7][:learned], [4, 5, 6, 7][learned:])


def test_one_class_cannot_be_divided():
    with pytest.raises(DataError, match="x: 1 classes have images, at least 2"):
        by_share(_images([1, 1]), 0.5, source="x")


def test_the_digits_are_all_there_with_their_grey_levels():
    digits = read_digits()
    assert len(digits) == 1797 and digits.read(0).shape == (8, 8, 1)
    assert digits.labels[:10] == tuple(range(10))
    levels = {int(value) for row in range(50) for value in digits.read(row).ravel()}
    assert levels <= {round(level * 255 / 16) for level in range(17)} and max(levels) == 255
    splits = by_share(digits, 0.5, source="digits").splits("official")
    assert (len(splits.train), len(splits.val)) == (901, 896)
