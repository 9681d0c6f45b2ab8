import numpy as np

from kdsweep.geometry.poses import homogeneous, lidar_poses, move_points


def test_poses_and_moved_points_equal_the_published_code(oracle):
    data = np.load(oracle("pvd_labels_and_poses.npz"))
    poses = lidar_poses(homogeneous(data["pose_lines"]), data["calib_Tr"])
    np.testing.assert_allclose(poses, data["velo_poses"], rtol=1e-9, atol=1e-12)
    xyz = data["scan_points"][:, :3]
    # scans 1 and 0 in the frame of scan 2
    for source, name in ((1, "fused_prev1"), (0, "fused_prev2")):
        moved = move_points(xyz, source=poses[source], target=poses[2])
        np.testing.assert_allclose(moved, data[f"{name}_f64"][:, :3], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(moved, data[name][:, :3], rtol=1e-4, atol=1e-4)


def test_twelve_numbers_are_a_matrix_in_row_major_order():
    found = homogeneous(np.arange(12.0))
    np.testing.assert_array_equal(found, [*np.arange(12.0).reshape(3, 4), [0, 0, 0, 1]])


def test_a_point_moves_by_hand():
    # the source stands at (10, 0, 0), turned 90 degrees left; the target at the origin
    source = homogeneous(np.array([0, -1, 0, 10, 1, 0, 0, 0, 0, 0, 1, 0.0]))
    moved = move_points(np.array([[2.0, 0.0, 1.0]]), source=source, target=np.eye(4))
    np.testing.assert_allclose(moved, [[10.0, 2.0, 1.0]], atol=1e-12)


def test_moving_to_another_frame_and_back_changes_nothing():
    generator = np.random.default_rng(1)
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    pose = homogeneous(np.concatenate([turn, generator.normal(size=(3, 1))], axis=1).ravel())
    xyz = generator.normal(size=(20, 3))
    there = move_points(xyz, source=pose, target=np.eye(4))
    np.testing.assert_allclose(move_points(there, source=np.eye(4), target=pose), xyz, atol=1e-12)
