import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdsweep.geometry.cylindrical import PI, CylinderGrid, majority_labels, partition, to_polar

KITTI = CylinderGrid((480, 360, 32), (0.0, -PI, -4.0), (50.0, PI, 2.0))

CASES = [
    "pvd_cylpart_kitti_a.npz",
    "pvd_cylpart_noint.npz",
    "pvd_cylpart_nusc_a.npz",
    "pvd_cylpart_smallgrid.npz",
]


@pytest.mark.parametrize("case", CASES)
def test_partition_equals_the_published_code(oracle, case):
    data = np.load(oracle(case))
    grid = CylinderGrid(
        tuple(data["grid_size"].tolist()),
        tuple(data["min_volume_space"].tolist()),
        tuple(data["max_volume_space"].tolist()),
    )
    intensity = data.get("remission")  # the case "noint" has none
    cells = partition(data["xyz"], intensity, grid)
    np.testing.assert_array_equal(grid.index(to_polar(data["xyz"])), data["grid_ind"])
    np.testing.assert_allclose(cells.features, data["features"], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(cells.voxel_coords, data["voxel_coords"])
    np.testing.assert_array_equal(cells.point_to_voxel, data["point2voxel"])
    labels = majority_labels(
        data["labels"],
        cells.point_to_voxel,
        num_voxels=len(cells.voxel_coords),
        num_classes=int(data["num_classes"]),
    )
    np.testing.assert_array_equal(labels, data["voxel_label"])
    np.testing.assert_allclose(
        grid.corners_xyz(data["voxpos_idx"]), data["voxpos_xyz"], rtol=1e-9, atol=1e-12
    )


def test_a_point_gets_its_cell_and_features_by_hand():
    grid = CylinderGrid((11, 5, 4), (0.0, -2.0, 0.0), (10.0, 2.0, 3.0))  # steps 1 m, 1 rad, 1 m
    xyz = np.array([[3.0, 4.0, 1.25]], dtype=np.float32)  # rho 5, phi 0.9273
    cells = partition(xyz, np.array([0.5], dtype=np.float32), grid)
    np.testing.assert_array_equal(cells.voxel_coords, [[5, 2, 1]])
    phi = np.arctan2(4, 3)
    expected = [5 - 5.5, phi - 0.5, 1.25 - 1.5, 5.0, phi, 1.25, 3.0, 4.0, 0.5]
    np.testing.assert_allclose(cells.features[0], expected, atol=1e-6)


def test_points_outside_the_bounds_stay_in_border_cells_with_their_true_coordinates():
    xyz = np.array([[80.0, 0.0, 5.0], [0.1, 0.0, -9.0]], dtype=np.float32)
    cells = partition(xyz, None, KITTI)
    np.testing.assert_array_equal(cells.voxel_coords[cells.point_to_voxel, 0], [479, 0])
    np.testing.assert_array_equal(cells.voxel_coords[cells.point_to_voxel, 2], [31, 0])
    np.testing.assert_allclose(cells.features[0, 3:6], [80.0, 0.0, 5.0])
    assert cells.features[0, 0] > 29.0  # the offset is not clipped


coordinates = st.floats(-120, 120, width=32)
clouds = hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=coordinates)


@settings(max_examples=60)
@given(xyz=clouds, cells=st.tuples(*[st.integers(2, 60)] * 3))
def test_every_point_lies_in_its_cell_after_clipping(xyz, cells):
    grid = CylinderGrid(cells, KITTI.lower, KITTI.upper)
    found = partition(xyz, None, grid)
    index = found.voxel_coords[found.point_to_voxel]
    assert (index >= 0).all() and (index < np.array(cells)).all()
    clipped = np.clip(to_polar(xyz).astype(np.float64), grid.lower, grid.upper)
    assert (np.abs(clipped - grid.centres(index)) <= grid.step / 2 + 1e-9).all()


@settings(max_examples=60)
@given(xyz=clouds, cells=st.tuples(*[st.integers(2, 20)] * 3))
def test_cells_are_unique_sorted_and_all_occupied(xyz, cells):
    found = partition(xyz, None, CylinderGrid(cells, KITTI.lower, KITTI.upper))
    rows = [tuple(row) for row in found.voxel_coords.tolist()]
    assert rows == sorted(set(rows))
    assert set(found.point_to_voxel.tolist()) == set(range(len(rows)))


def test_the_order_of_the_points_does_not_change_the_cells():
    generator = np.random.default_rng(0)
    xyz = generator.normal(0, 20, (500, 3)).astype(np.float32)
    order = generator.permutation(500)
    first, second = partition(xyz, None, KITTI), partition(xyz[order], None, KITTI)
    np.testing.assert_array_equal(first.voxel_coords, second.voxel_coords)
    np.testing.assert_array_equal(first.point_to_voxel[order], second.point_to_voxel)
    np.testing.assert_array_equal(first.features[order], second.features)


def test_majority_counts_label_0_and_breaks_ties_towards_the_smallest_id():
    labels = np.array([3, 3, 5, 0, 0, 7, 2, 9, 9, 2], dtype=np.uint8)
    voxels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    found = majority_labels(labels, voxels, num_voxels=4, num_classes=20)
    np.testing.assert_array_equal(found, [3, 0, 2, 0])  # the last cell has no points


@settings(max_examples=60)
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=60))
def test_majority_equals_a_loop_over_cells(pairs):
    voxels, labels = np.array(pairs).T
    found = majority_labels(labels, voxels, num_voxels=5, num_classes=7)
    for voxel in range(5):
        inside = labels[voxels == voxel].tolist()
        best = max(range(7), key=lambda label: (inside.count(label), -label))
        assert found[voxel] == (best if inside else 0)
