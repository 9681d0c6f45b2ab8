import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdsweep.data.transforms import Augment, Transform, draw, generator_for

OFF = Augment(rotation_deg=0, flip=False, scale=0, translation_std_m=0)
XYZ = np.array([[1.0, 2.0, 3.0], [-4.0, 0.5, -1.0]], dtype=np.float32)


def test_steps_follow_in_the_published_order_by_hand():
    transform = Transform(np.pi / 2, flip=(-1, 1), scale=2.0, shift_m=(10.0, 20.0, 30.0))
    # (1, 2, 3) -> rotated (-2, 1, 3) -> flipped (2, 1, 3) -> scaled (4, 2, 3) -> shifted
    np.testing.assert_allclose(transform.apply(XYZ)[0], [14.0, 22.0, 33.0], atol=1e-5)


def test_rotation_is_the_published_matrix():
    angle = 0.3
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = Transform(angle, (1, 1), 1.0, (0.0, 0.0, 0.0)).apply(XYZ)
    np.testing.assert_allclose(moved[:, :2], XYZ[:, :2] @ matrix, atol=1e-6)


def test_switched_off_it_changes_nothing_and_never_touches_its_input():
    before = XYZ.copy()
    np.testing.assert_array_equal(draw(OFF, generator_for(1), rotation_deg=45.0).apply(XYZ), XYZ)
    draw(Augment(), generator_for(1), rotation_deg=45.0).apply(XYZ)
    np.testing.assert_array_equal(XYZ, before)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31), name=st.text(max_size=8), view=st.integers(0, 100))
def test_the_draw_depends_on_its_identity_only(seed, name, view):
    first = draw(Augment(), generator_for(seed, name, view), rotation_deg=45.0)
    generator_for(seed + 1, name, view).random(10)  # other work in between
    assert draw(Augment(), generator_for(seed, name, view), rotation_deg=45.0) == first
    for other in ((seed + 1, name, view), (seed, name + "x", view), (seed, name, view + 1)):
        assert draw(Augment(), generator_for(*other), rotation_deg=45.0) != first


def test_the_draw_never_changes_from_one_release_to_the_next():
    # stored knowledge belongs to these numbers
    found = draw(Augment(), generator_for(0, "08/000000", 3), rotation_deg=45.0)
    assert found == Transform(
        rotation_rad=-0.46855933551310547,
        flip=(1, -1),
        scale=0.9795956840029302,
        shift_m=(-0.05072363757553751, -0.020424627032005663, -0.10229450055742778),
    )


def test_draws_stay_in_their_ranges_and_use_all_of_them():
    config = Augment(scale=0.1, translation_std_m=0.5)
    found = [draw(config, generator_for(number), rotation_deg=180.0) for number in range(2000)]
    angles = np.array([transform.rotation_rad for transform in found])
    scales = np.array([transform.scale for transform in found])
    shifts = np.array([transform.shift_m for transform in found])
    assert np.abs(angles).max() <= np.pi and np.abs(angles).max() > 3.1
    assert 0.9 <= scales.min() < 0.91 and 1.09 < scales.max() <= 1.1
    np.testing.assert_allclose(shifts.std(axis=0), 0.5, rtol=0.06)
    flips, counts = np.unique([transform.flip for transform in found], axis=0, return_counts=True)
    assert len(flips) == 4 and counts.min() > 400


def test_switching_one_range_off_leaves_the_other_draws_as_they_are():
    full = draw(Augment(), generator_for(5), rotation_deg=45.0)
    still = draw(Augment(rotation_deg=0, flip=False), generator_for(5), rotation_deg=45.0)
    assert still.rotation_rad == 0.0 and still.flip == (1, 1)
    assert (still.scale, still.shift_m) == (full.scale, full.shift_m)


def test_the_data_set_sets_the_rotation_unless_the_configuration_does():
    by_default = draw(Augment(), generator_for(2), rotation_deg=180.0)
    chosen = draw(Augment(rotation_deg=45), generator_for(2), rotation_deg=180.0)
    assert by_default.rotation_rad == pytest.approx(4 * chosen.rotation_rad)


@pytest.mark.parametrize(
    "wrong", [{"rotation_deg": 181}, {"scale": 1.0}, {"translation_std_m": -0.1}, {"flips": True}]
)
def test_ranges_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        Augment(**wrong)
