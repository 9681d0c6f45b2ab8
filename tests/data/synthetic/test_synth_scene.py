"""Streets, their ground, and what moves along them."""

import numpy as np
import pytest

from kdsweep.data.synthetic.labels import MOVING, Raw
from kdsweep.data.synthetic.plan import RARE, draw_plan
from kdsweep.data.synthetic.scene import build_scene


def _plan(seed, index=0, drive_m=10.0):
    return draw_plan(np.random.default_rng(seed), index, drive_m, 60.0)


@pytest.fixture(scope="module")
def scene():
    return build_scene(np.random.default_rng(4), 1, 20.0, 60.0)


def test_any_three_consecutive_scenes_force_every_rare_class():
    forced = [_plan(0, index).forced for index in range(3)]
    assert frozenset.union(*forced) == set(RARE)
    assert all(forced[i] == _plan(1, i + 3).forced for i in range(3))


def test_the_road_is_in_the_middle_and_a_kerb_rises_to_the_pavement():
    plans = [_plan(seed) for seed in range(12)]
    checked = 0
    for plan in plans:
        street = plan.street
        assert street.raw_at(0.0, 0.3) == Raw.ROAD
        strip = street.left
        if strip.walk > strip.verge and plan.crossing is None:
            lat = (strip.walk + strip.verge) / 2
            if street.raw_at(3.0, lat) == Raw.SIDEWALK:
                step = street.height(3.0, lat) - street.relief(3.0, lat)
                assert step == pytest.approx(0.12)
                checked += 1
    assert checked > 0


def test_street_coordinates_keep_distances_across_the_street():
    street = _plan(2).street
    s = np.linspace(-50, 50, 21)
    left, right = street.to_world(s, 5.0, 0.0), street.to_world(s, -5.0, 0.0)
    np.testing.assert_allclose(np.linalg.norm(left - right, axis=1), 10.0)


def test_the_centre_line_starts_at_the_origin_along_x():
    street = _plan(3).street
    np.testing.assert_allclose(street.to_world(0.0, 0.0, 0.0), 0.0, atol=1e-9)
    assert float(street.heading(0.0)) == pytest.approx(0.0, abs=1e-12)


def test_every_ground_triangle_lies_at_the_height_of_the_street():
    street = _plan(5).street
    soup = street.ground(np.random.default_rng(0))
    assert len(soup.triangles) > 1000
    raws = set(np.unique(soup.label))
    assert {Raw.ROAD, Raw.TERRAIN} <= raws
    road = soup.triangles[soup.label == Raw.ROAD].reshape(-1, 3)
    near = road[(np.abs(road[:, 0]) < 20) & (np.abs(road[:, 1]) < 2)]
    assert np.abs(near[:, 2]).max() < 0.6


def test_scene_building_follows_the_generator_alone(scene):
    again = build_scene(np.random.default_rng(4), 1, 20.0, 60.0)
    assert again.static.triangles.tobytes() == scene.static.triangles.tobytes()
    assert again.static.albedo.tobytes() == scene.static.albedo.tobytes()
    assert again.moved(1.0).triangles.tobytes() == scene.moved(1.0).triangles.tobytes()


def test_movers_have_moving_ids_and_travel_at_their_speed(scene):
    assert scene.movers
    for mover in scene.movers:
        assert set(mover.soup.label & 0xFFFF) <= set(MOVING.values())
    start, end = scene.moved(0.0), scene.moved(0.5)
    shift = np.linalg.norm((end.triangles - start.triangles).mean(1), axis=1)
    speeds = np.concatenate([np.full(len(m.soup.label), abs(m.speed_m_s)) for m in scene.movers])
    np.testing.assert_allclose(shift, 0.5 * speeds, rtol=0.1)


def test_static_things_have_no_moving_ids(scene):
    assert not set(np.unique(scene.static.label & 0xFFFF)) & set(MOVING.values())


def test_nothing_static_stands_on_the_drive(scene):
    corners = scene.static.triangles.reshape(-1, 3)
    labels = np.repeat(scene.static.label & 0xFFFF, 3)
    for s in np.linspace(0, 20, 6):
        position, _, _ = scene.sensor_position(s, 1.73)
        close = np.linalg.norm(corners - position, axis=1) < 0.9
        assert close.sum() == 0, set(labels[close])
