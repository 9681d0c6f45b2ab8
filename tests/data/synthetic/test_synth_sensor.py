"""Ray casting, occlusion, noise and drop-out of the synthetic sensor, on hand-made scenes."""

import numpy as np
import pytest

from kdsweep.data.synthetic import SynthConfig, vehicles
from kdsweep.data.synthetic.drive import sensor_pose
from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.materials import Material
from kdsweep.data.synthetic.mesh import box, merge, paint
from kdsweep.data.synthetic.sensor import RayCaster, Sensor, beam_elevations

POSE = sensor_pose(np.array([0.0, 0.0, 1.73]), 0.0, 0.0, 0.0)
RNG = np.random.default_rng(0)
GROUND = paint(RNG, box(-60, 60, -60, 60, -1, 0), Material.ASPHALT, 0.3).labelled(Raw.ROAD)
WALL = paint(RNG, box(6, 6.2, -4, 4, 0, 5), Material.WALL, 0.3).labelled(Raw.BUILDING)
CAR = vehicles.car(RNG).labelled(Raw.CAR, 3).placed((12.0, 0.0, 0.0))


def _config(**changes):
    return SynthConfig(**{"beams": 32, "columns": 720, **changes})


def _labels(*soups, config=None):
    sensor = Sensor(config or _config())
    return sensor.cast([RayCaster(soup) for soup in soups], POSE).label & 0xFFFF


def test_beams_span_the_elevations_of_an_hdl64e():
    degrees = np.degrees(beam_elevations(64))
    assert degrees[0] == pytest.approx(2.0)
    assert degrees[-1] == pytest.approx(-24.8)
    assert (np.diff(degrees) < 0).all()
    assert np.degrees(beam_elevations(16)).min() > -24.8
    assert len(beam_elevations(16)) == 16


def test_car_is_seen_in_the_open():
    assert (_labels(merge([GROUND, CAR])) == Raw.CAR).sum() > 50


def test_wall_hides_the_car_behind_it():
    labels = _labels(merge([GROUND, CAR, WALL]))
    assert (labels == Raw.CAR).sum() == 0
    assert (labels == Raw.BUILDING).sum() > 50


def test_wall_hides_a_moving_car_that_is_cast_apart():
    assert (_labels(GROUND, CAR) == Raw.CAR).sum() > 50
    assert (_labels(merge([GROUND, WALL]), CAR) == Raw.CAR).sum() == 0


def test_casting_apart_or_together_gives_the_same_hits():
    sensor = Sensor(_config())
    together = sensor.cast([RayCaster(merge([GROUND, CAR]))], POSE)
    apart = sensor.cast([RayCaster(GROUND), RayCaster(CAR)], POSE)
    np.testing.assert_array_equal(together.ray, apart.ray)
    np.testing.assert_array_equal(together.range_m, apart.range_m)
    np.testing.assert_array_equal(together.label, apart.label)


@pytest.mark.parametrize("beams", [16, 64])
def test_leaving_out_what_is_above_all_rays_changes_no_hit(beams):
    rng = np.random.default_rng(3)
    corners = rng.uniform(-40, 40, (4000, 1, 3)) * (1, 1, 0.4) + rng.normal(size=(4000, 3, 3))
    soup = merge([GROUND, paint(rng, corners, Material.LEAF)])
    poses = [POSE, sensor_pose(np.array([5.0, 1.0, 1.8]), 0.4, 0.03, -0.02)]
    sensor = Sensor(_config(beams=beams))
    seen = sensor.below_sky(soup, poses)
    assert len(seen.label) < 0.7 * len(soup.label)
    for pose in poses:
        whole, part = sensor.cast([RayCaster(soup)], pose), sensor.cast([RayCaster(seen)], pose)
        np.testing.assert_array_equal(whole.ray, part.ray)
        np.testing.assert_allclose(whole.range_m, part.range_m, atol=1e-4)


def test_an_empty_scene_gives_no_points():
    sensor = Sensor(_config())
    scan = sensor.measure(sensor.cast([RayCaster(merge([]))], POSE), np.random.default_rng(0))
    assert scan.points.shape == (0, 4)
    assert scan.labels.shape == (0,)


def test_without_noise_flat_ground_is_exactly_below_the_sensor():
    config = _config(range_noise_m=0.0, drop_out=0.0)
    sensor = Sensor(config)
    hits = sensor.cast([RayCaster(GROUND)], POSE)
    z = sensor.directions[hits.ray, 2] * hits.range_m
    np.testing.assert_allclose(z, -1.73, atol=1e-6)
    np.testing.assert_allclose(hits.cosine, -sensor.directions[hits.ray, 2], atol=1e-9)


def test_ranges_agree_with_a_hand_computed_wall():
    sensor = Sensor(_config())
    hits = sensor.cast([RayCaster(WALL)], POSE)
    np.testing.assert_allclose(hits.range_m * sensor.directions[hits.ray, 0], 6.0, atol=1e-9)


def test_points_keep_within_range_and_remission_within_one():
    config = _config(max_range_m=25.0)
    sensor = Sensor(config)
    scan = sensor.measure(sensor.cast([RayCaster(GROUND)], POSE), np.random.default_rng(0))
    assert np.linalg.norm(scan.points[:, :3], axis=1).max() < 25.01
    assert scan.points[:, 3].min() >= 0.0
    assert scan.points[:, 3].max() < 1.0


def test_noise_follows_the_seed_of_the_scan():
    sensor = Sensor(_config())
    hits = sensor.cast([RayCaster(GROUND)], POSE)
    first, again, other = (sensor.measure(hits, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.points.tobytes() == again.points.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert first.points.tobytes() != other.points.tobytes()


def test_drop_out_grows_with_range_and_can_be_switched_off():
    kept = {}
    for strength in (0.0, 1.0):
        sensor = Sensor(_config(drop_out=strength))
        hits = sensor.cast([RayCaster(GROUND)], POSE)
        scan = sensor.measure(hits, np.random.default_rng(0))
        edges = [0, 15, 30, 60]
        seen = np.histogram(np.linalg.norm(scan.points[:, :3], axis=1), edges)[0]
        kept[strength] = seen / np.histogram(hits.range_m, edges)[0]
    assert (kept[0.0] > 0.97).all()
    assert kept[1.0][0] > 0.9
    assert kept[1.0][0] > kept[1.0][1] + 0.01 > kept[1.0][2] + 0.1


def test_glass_mostly_gives_no_return():
    pane = paint(RNG, box(6, 6.2, -4, 4, 0, 5), Material.GLASS, 0.06).labelled(Raw.BUILDING)
    sensor = Sensor(_config())
    share = []
    for soup in (WALL, pane):
        hits = sensor.cast([RayCaster(soup)], POSE)
        share.append(len(sensor.measure(hits, np.random.default_rng(0)).labels) / len(hits.ray))
    assert share[0] > 0.9
    assert share[1] < 0.25


def test_remission_falls_with_incidence_on_paint_and_is_high_on_signs():
    sensor = Sensor(_config())
    means = []
    for material, turn in ((Material.PAINT, 0.0), (Material.PAINT, 1.3), (Material.RETRO, 0.0)):
        soup = paint(RNG, box(0, 0.1, -3, 3, 0, 3), material, 0.5 if material < 13 else 0.85)
        hits = sensor.cast([RayCaster(soup.placed((8.0, 0.0, 0.0), turn))], POSE)
        means.append(sensor.measure(hits, np.random.default_rng(0)).points[:, 3].mean())
    assert means[1] < means[0] - 0.1 < means[2] - 0.2


def test_outliers_and_far_points_have_no_class():
    sensor = Sensor(_config(columns=2048, max_range_m=80.0))
    far = paint(RNG, box(-78, 78, -78, 78, -30, 30), Material.WALL, 0.9).labelled(Raw.BUILDING)
    scan = sensor.measure(sensor.cast([RayCaster(far)], POSE), np.random.default_rng(0))
    labels = scan.labels & 0xFFFF
    assert 0.0002 < (labels == Raw.OUTLIER).mean() < 0.002
    distance = np.linalg.norm(scan.points[:, :3], axis=1)
    assert (labels[distance > 70] == Raw.UNLABELED).mean() > 0.9
