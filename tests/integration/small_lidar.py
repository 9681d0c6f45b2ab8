"""A sweep of real runs that take seconds: LiDAR segmentation on a SemanticKITTI root of noise."""

from pathlib import Path

import numpy as np

SMALL = """
run:
  task: lidar_seg
  data: {root: ROOT, grid: [12, 12, 4], train_sequences: ["00"], val_sequences: ["08"]}
  teacher: {model: cylinder3d, width: 0.125, slim_encoder: true, train: {epochs: 1}}
  student: {model: cylinder3d, width: 0.0625, slim_encoder: true}
  method: {name: pvd}
  train: {epochs: 1, batch_size: 1}
sweep: {name: small, objectives: {miou: max}, trials: 1}
space: {method.point_output: {log_uniform: [0.01, 10]}}
"""


def write_root(root: Path, *, scans: int = 1, points: int = 400) -> Path:
    """A training and a validation sequence in the native layout."""
    for sequence in ("00", "08"):
        folder = root / "sequences" / sequence
        (folder / "velodyne").mkdir(parents=True)
        (folder / "labels").mkdir()
        for scan in range(scans):
            noise = np.random.default_rng(scan).uniform(-10, 10, (points, 4)).astype("<f4")
            noise.tofile(folder / "velodyne" / f"{scan:06d}.bin")
            labels = np.where(noise[:, 0] > 0, 40, 70).astype("<u4")  # road and vegetation
            labels.tofile(folder / "labels" / f"{scan:06d}.label")
    return root


def write_sweep(folder: Path, root: Path) -> Path:
    """The sweep file of one trial of one epoch; tests override what they need."""
    path = folder / "small.yaml"
    path.write_text(SMALL.replace("ROOT", str(root)))
    return path
