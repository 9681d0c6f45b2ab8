import numpy as np
import pytest
from PIL import Image

from kdsweep.data.image_transforms import Augment, Cut, Layout, draw, draw_centre
from kdsweep.data.transforms import generator_for

PLAIN = Layout(resize=6, crop=4, mean=(0.0,), std=(1.0,))


def _ramp(side=6):
    """Pixel value = 10 x row + column."""
    return (10 * np.arange(side)[:, None] + np.arange(side)).astype(np.uint8)[..., None]


def _values(image):
    return np.round(image[0] * 255).astype(int)


def test_a_cut_takes_its_rows_and_columns():
    image = Cut(1, 2, False).apply(_ramp(), PLAIN)
    assert image.dtype == np.float32 and image.shape == (1, 4, 4)
    np.testing.assert_array_equal(_values(image), _ramp()[1:5, 2:6, 0])


def test_mirroring_changes_left_and_right():
    plain, mirrored = (Cut(0, 0, flip).apply(_ramp(), PLAIN) for flip in (False, True))
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])


@pytest.mark.parametrize("corner", [(-2, -1), (-2, 3), (4, -1), (4, 3)])
def test_beyond_the_image_it_is_black(corner):
    image = Cut(*corner, False).apply(_ramp() + 1, PLAIN)
    padded = np.pad(_ramp()[..., 0] + 1, 4)
    top, left = corner[0] + 4, corner[1] + 4
    np.testing.assert_array_equal(_values(image), padded[top : top + 4, left : left + 4])


def test_channels_are_normalised_each_by_its_own_mean_and_std():
    layout = Layout(resize=2, crop=2, mean=(0.5, 0.0, 1.0), std=(0.5, 2.0, 1.0))
    pixels = np.full((2, 2, 3), 255, dtype=np.uint8)
    image = draw_centre(layout).apply(pixels, layout)
    np.testing.assert_allclose(image[:, 0, 0], [1.0, 0.5, 0.0])


def test_other_sizes_are_resized_as_pillow_does_it():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 31, 3), dtype=np.uint8)
    layout = Layout(resize=16, crop=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    image = draw_centre(layout).apply(pixels, layout)
    expected = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(image.transpose(1, 2, 0) * 255, np.asarray(expected), atol=1e-4)


def test_the_centre_is_the_centre():
    assert draw_centre(Layout(256, 224, (0.0,), (1.0,))) == Cut(16, 16, False)


def _draws(augment, layout, count=400):
    return [draw(augment, layout, generator_for(0, number)) for number in range(count)]


def test_every_place_within_the_padding_is_drawn_and_none_beyond():
    draws = _draws(Augment(padding=1), PLAIN)  # 6 + 2 - 4 + 1 = 5 places
    assert {cut.top for cut in draws} == {cut.left for cut in draws} == set(range(-1, 4))
    assert len({(cut.top, cut.left) for cut in draws}) == 25


def test_half_of_the_images_are_mirrored_or_none():
    share = np.mean([cut.mirrored for cut in _draws(Augment(flip=True), PLAIN)])
    assert 0.4 < share < 0.6
    assert not any(cut.mirrored for cut in _draws(Augment(flip=False), PLAIN))


def test_what_the_augmentation_leaves_open_is_up_to_the_layout():
    layout = Layout(resize=6, crop=6, mean=(0.0,), std=(1.0,), padding=2, flip=False)
    draws = _draws(Augment(), layout)
    assert {cut.top for cut in draws} == set(range(-2, 3))
    assert not any(cut.mirrored for cut in draws)
    assert {cut.top for cut in _draws(Augment(padding=0), layout)} == {0}


def test_switching_the_mirror_off_keeps_the_places():
    on, off = (_draws(Augment(flip=flip), PLAIN, 20) for flip in (True, False))
    assert [(cut.top, cut.left) for cut in on] == [(cut.top, cut.left) for cut in off]
