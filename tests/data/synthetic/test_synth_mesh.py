"""Solids and soups that synthetic scenes are made of."""

import numpy as np
import pytest

from kdsweep.data.synthetic import people, vehicles
from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.materials import MATERIALS, Material, surface_table
from kdsweep.data.synthetic.mesh import blob, box, ellipsoid, merge, paint, quads, tube


def _area(triangles):
    cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return np.linalg.norm(cross, axis=1).sum() / 2


def test_box_has_the_surface_of_a_box():
    assert _area(box(0, 2, 0, 3, -1, 3)) == pytest.approx(2 * (2 * 3 + 2 * 4 + 3 * 4))


def test_tube_of_many_sides_has_the_surface_of_a_cylinder():
    triangles = tube((1, 2, 3), (1, 5, 7), 0.5, 0.5, sides=200, caps=True)
    assert _area(triangles) == pytest.approx(2 * np.pi * 0.5 * (5 + 0.5), rel=1e-3)


def test_tube_narrows_from_its_start_to_its_end():
    corners = tube((0, 0, 0), (0, 0, 2), 1.0, 0.25).reshape(-1, 3)
    radius = np.linalg.norm(corners[:, :2], axis=1)
    np.testing.assert_allclose(radius, np.where(corners[:, 2] > 1, 0.25, 1.0))


def test_ellipsoid_corners_lie_on_the_ellipsoid():
    corners = ellipsoid((1, 2, 3), (0.5, 1, 2), subdivisions=2).reshape(-1, 3)
    value = (((corners - (1, 2, 3)) / (0.5, 1, 2)) ** 2).sum(1)
    np.testing.assert_allclose(value, 1.0)


def test_quads_split_every_quadrilateral_into_two_triangles_of_its_area():
    a, b, c, d = np.array([[0, 0, 0]]), np.array([[2, 0, 0]]), np.array([[2, 1, 0]]), [[0, 1, 0]]
    triangles = quads(a, b, c, d)
    assert triangles.shape == (2, 3, 3)
    assert _area(triangles) == pytest.approx(2.0)


def test_no_two_blobs_are_alike_but_a_seed_repeats_one():
    def draw(seed):
        return blob(np.random.default_rng(seed), (0, 0, 0), (1, 1, 1))

    np.testing.assert_array_equal(draw(1), draw(1))
    assert np.abs(draw(1) - draw(2)).max() > 0.05


def test_placing_turns_tilts_and_moves():
    soup = paint(np.random.default_rng(0), np.array([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]]),
                 Material.WALL)  # fmt: skip
    moved = soup.placed((10, 20, 30), np.pi / 2, tilt=(0.5, 0.0)).triangles[0]
    np.testing.assert_allclose(moved, [[10, 21, 30.5], [9, 20, 30], [10, 20, 31]], atol=1e-12)


def test_labels_hold_the_class_below_and_the_instance_above():
    soup = paint(np.random.default_rng(0), box(0, 1, 0, 1, 0, 1), Material.PAINT)
    labels = soup.labelled(Raw.CAR, 7).label
    assert set(labels & 0xFFFF) == {10}
    assert set(labels >> 16) == {7}


def test_merging_nothing_gives_an_empty_soup():
    soup = merge([])
    assert soup.triangles.shape == (0, 3, 3)
    assert len(soup.label) == len(soup.material) == len(soup.albedo) == 0


def test_every_material_has_values_in_range():
    assert list(MATERIALS) == list(Material)
    for field in ("albedo", "loss"):
        assert ((surface_table(field) >= 0) & (surface_table(field) <= 1)).all()


@pytest.mark.parametrize(
    ("maker", "length", "width", "height"),
    [
        (vehicles.car, (3.5, 5.5), (1.6, 2.2), (1.35, 2.15)),
        (vehicles.truck, (5.8, 8.6), (2.0, 2.6), (2.3, 3.5)),
        (vehicles.bus, (10.4, 12.6), (2.4, 2.6), (2.8, 3.3)),
        (vehicles.trailer, (3.4, 7.0), (1.9, 2.4), (1.8, 2.7)),
        (vehicles.bicycle, (1.5, 2.0), (0.4, 0.7), (0.9, 1.2)),
        (vehicles.motorcycle, (1.7, 2.3), (0.5, 0.9), (1.0, 1.4)),
        (people.person, (0.2, 0.8), (0.3, 0.8), (1.45, 2.0)),
        (people.bicyclist, (1.5, 2.1), (0.4, 0.8), (1.5, 2.1)),
        (people.motorcyclist, (1.7, 2.3), (0.5, 0.9), (1.4, 2.0)),
    ],
)
def test_things_have_the_size_of_the_real_thing_and_stand_on_the_ground(
    maker, length, width, height
):
    for seed in range(5):
        corners = maker(np.random.default_rng(seed)).triangles.reshape(-1, 3)
        size = corners.max(0) - corners.min(0)
        for value, (low, high) in zip(size, (length, width, height), strict=True):
            assert low <= value <= high
        assert -0.05 <= corners[:, 2].min() <= 0.2
