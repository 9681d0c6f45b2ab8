"""The drive through a street: sensor poses, and KITTI's files that describe them."""

from collections.abc import Sequence

import numpy as np

from kdsweep.data.synthetic.mesh import Array

TR = np.array(
    [
        [4.276802385584e-04, -9.999672484946e-01, -8.084491683471e-03, -1.198459927713e-02],
        [-7.210626507497e-03, 8.081198471645e-03, -9.999413164504e-01, -5.403984729748e-02],
        [9.999738645903e-01, 4.859485810390e-04, -7.206933692422e-03, -2.921968648686e-01],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""LiDAR to left grey camera, 4x4: the ``Tr`` of KITTI odometry sequence 00."""

_FOCAL_PX, _CENTRE_PX = 718.856, (607.1928, 185.2157)
_BASELINES = (0.0, -386.1448, 45.38225, -337.2877)


def sensor_pose(position: Array, yaw_rad: float, pitch_rad: float, roll_rad: float) -> Array:
    """Sensor to world, 4x4; positive pitch lifts the nose, positive roll the left side."""
    cy, sy = np.cos(yaw_rad), np.sin(yaw_rad)
    cp, sp = np.cos(-pitch_rad), np.sin(-pitch_rad)
    cr, sr = np.cos(roll_rad), np.sin(roll_rad)
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pose = np.eye(4)
    pose[:3, :3] = yaw @ pitch @ roll
    pose[:3, 3] = position
    return pose


def calib_text() -> str:
    """``calib.txt``: four projections (3x4) and Tr, as in KITTI odometry."""
    lines = []
    for index, shift in enumerate(_BASELINES):
        matrix = np.zeros((3, 4))
        matrix[0, 0] = matrix[1, 1] = _FOCAL_PX
        matrix[0, 2], matrix[1, 2], matrix[2, 2] = *_CENTRE_PX, 1.0
        matrix[0, 3] = shift
        lines.append(f"P{index}: {_row(matrix)}")
    return "\n".join([*lines, f"Tr: {_row(TR[:3])}"]) + "\n"


def poses_text(poses: Sequence[Array]) -> str:
    """``poses.txt``: camera poses in the frame of the first camera.

    With T the sensor's pose, the row of scan i is ``Tr inv(T_0) T_i inv(Tr)``, so that
    ``inv(Tr) P_i Tr`` moves points of scan i into the LiDAR frame of scan 0.
    """
    if not poses:
        return ""
    first, back = np.linalg.inv(poses[0]), np.linalg.inv(TR)
    return "".join(f"{_row((TR @ first @ pose @ back)[:3])}\n" for pose in poses)


def times_text(times_s: Sequence[float]) -> str:
    """``times.txt``: seconds since the first scan of the sequence."""
    return "".join(f"{time:.6e}\n" for time in times_s)


def _row(matrix: Array) -> str:
    # Adding 0.0 turns a negative zero into a positive one.
    return " ".join(f"{value + 0.0:.12e}" for value in np.round(matrix, 12).reshape(-1))
