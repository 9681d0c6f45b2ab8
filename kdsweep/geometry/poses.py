"""Rigid poses of a LiDAR, as 4x4 matrices that move points from its frame to another one."""

import numpy as np
from jaxtyping import Float, Float64

Pose = Float64[np.ndarray, "4 4"]


def homogeneous(rows: Float[np.ndarray, "*poses 12"]) -> Float64[np.ndarray, "*poses 4 4"]:
    """Completes 3x4 matrices, given as 12 numbers in row-major order, to 4x4."""
    matrices = np.zeros((*rows.shape[:-1], 4, 4))
    matrices[..., :3, :] = rows.reshape(*rows.shape[:-1], 3, 4)
    matrices[..., 3, 3] = 1.0
    return matrices


def lidar_poses(
    camera_poses: Float64[np.ndarray, "scans 4 4"], lidar_to_camera: Pose
) -> Float64[np.ndarray, "scans 4 4"]:
    """Poses of the LiDAR from those of the camera: ``Tr^-1 P Tr`` (SemanticKITTI development kit).

    Args:
        camera_poses: Camera frame of each scan -> camera frame of the first one.
        lidar_to_camera: `Tr` of calib.txt.

    Returns:
        LiDAR frame of each scan -> LiDAR frame of the first one.
    """
    return np.linalg.inv(lidar_to_camera) @ camera_poses @ lidar_to_camera


def move_points(
    xyz: Float[np.ndarray, "points 3"], *, source: Pose, target: Pose
) -> Float64[np.ndarray, "points 3"]:
    """Moves points from one scan's frame to another's: ``R0^T (Ri x + ti - t0)``.

    Args:
        xyz: Points in the source scan's LiDAR frame, metres.
        source: LiDAR pose of the scan that the points belong to (Ri, ti).
        target: LiDAR pose of the scan whose frame is wanted (R0, t0).
    """
    common = xyz.astype(np.float64) @ source[:3, :3].T + source[:3, 3]
    return (common - target[:3, 3]) @ target[:3, :3]
