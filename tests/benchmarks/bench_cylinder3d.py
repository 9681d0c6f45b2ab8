"""How long does a training step of Cylinder3D take on a CPU, and what is spent on index pairs?

    python tests/benchmarks/bench_cylinder3d.py [FILE.bin]

FILE.bin is a scan in the SemanticKITTI layout; without one, a made-up ring of walls and ground is
used. Times are CPU seconds of one thread, the fastest of several. "first" finds the index pairs of
the scan too; "step" (forward and backward) finds them ready, as a student does after its teacher.

On one thread of a 2-core Intel Xeon CPU, spconv-cu120 2.3.6, torch 2.13, a real scan thinned to the
given number of points, while other work ran beside it. Step of the last two rows: 2.3 and 3.4 GiB.

    grid           points    cells  width, encoder |   MMAC | first forward, forward, step: s
    (64, 48, 16)     10000    2831  0.125  slim    |    165 | 0.042  0.030  0.081
    (64, 48, 16)     10000    2831  0.25   slim    |    644 | 0.060  0.041  0.113
    (64, 48, 16)     10000    2831  0.25   whole   |   1651 | 0.074  0.061  0.186
    (64, 48, 16)     10000    2831  0.5    slim    |   2544 | 0.093  0.082  0.234
    (96, 72, 16)     20000    5337  0.125  slim    |    347 | 0.055  0.038  0.095
    (96, 72, 16)     20000    5337  0.25   slim    |   1357 | 0.081  0.064  0.177
    (96, 72, 16)     20000    5337  0.25   whole   |   3370 | 0.137  0.111  0.335
    (96, 72, 16)     20000    5337  0.5    slim    |   5366 | 0.171  0.145  0.434
    (480, 360, 32)  123389   46952  0.5    whole   | 116809 | 3.1    3.0    9.1
    (480, 360, 32)  123389   46952  1.0    whole   | 426126 | 9.0    8.5   26.1
"""

import sys
import time

import numpy as np
import torch

from kdsweep.geometry.cylindrical import PI, CylinderGrid, partition
from kdsweep.models.cylinder3d import Config, build
from kdsweep.types import LidarSegBatch, ModelInput

CASES = [
    ((64, 48, 16), 10_000, {"width": 0.125, "slim_encoder": True}),
    ((64, 48, 16), 10_000, {"width": 0.25, "slim_encoder": True}),
    ((64, 48, 16), 10_000, {"width": 0.25}),
    ((64, 48, 16), 10_000, {"width": 0.5, "slim_encoder": True}),
    ((96, 72, 16), 20_000, {"width": 0.125, "slim_encoder": True}),
    ((96, 72, 16), 20_000, {"width": 0.25, "slim_encoder": True}),
    ((96, 72, 16), 20_000, {"width": 0.25}),
    ((96, 72, 16), 20_000, {"width": 0.5, "slim_encoder": True}),
    ((480, 360, 32), 0, {"width": 0.5}),
    ((480, 360, 32), 0, {"width": 1.0}),
]


def scan(path):
    """Points (x, y, z, intensity), shuffled."""
    rng = np.random.default_rng(0)
    if path is not None:
        points = np.fromfile(path, dtype=np.float32).reshape(-1, 4)
    else:
        phi = rng.uniform(-np.pi, np.pi, 120_000)
        pitch = rng.uniform(-0.4, 0.05, 120_000)
        rho = np.minimum(1.7 / np.maximum(-np.tan(pitch), 1e-3), 12 + 6 * np.sin(7 * phi))
        columns = (rho * np.cos(phi), rho * np.sin(phi), rho * np.tan(pitch), rng.random(120_000))
        points = np.stack(columns, axis=1).astype(np.float32)
    return rng.permutation(points)


def batch_of(points, grid):
    cut = partition(
        points[:, :3], points[:, 3], CylinderGrid(grid, (0.0, -PI, -4.0), (50.0, PI, 2.0))
    )
    coords = torch.from_numpy(np.pad(cut.voxel_coords, ((0, 0), (1, 0))))
    return LidarSegBatch(
        points=torch.from_numpy(cut.features).float(),
        voxel_coords=coords.int(),
        point_to_voxel=torch.from_numpy(cut.point_to_voxel),
        point_labels=torch.zeros(len(points), dtype=torch.long),
        voxel_labels=torch.randint(0, 20, (len(coords),)),
        grid=grid,
        point_counts=(len(points),),
        voxel_counts=(len(coords),),
        sample_ids=("scan",),
    )


def seconds(run, repeats):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def main():
    torch.set_num_threads(1)
    points = scan(sys.argv[1] if len(sys.argv) > 1 else None)
    print("grid, points, cells, options | MMAC | first forward, forward, step: s")
    for grid, count, options in CASES:
        cut = points[: count or len(points)]
        batch = batch_of(cut, grid)
        model = build(Config(**options), ModelInput(20, 9, grid))
        repeats = 7 if count else 1

        def forward(batch=batch, model=model):
            with torch.no_grad():
                model(batch)

        def step(batch=batch, model=model):
            logits = model(batch)["voxel_logits"]
            torch.nn.functional.cross_entropy(logits, batch.voxel_labels).backward()

        forward(batch_of(cut, grid))  # warm up
        first = min(
            seconds(lambda fresh=fresh, run=forward: run(fresh), 1)
            for fresh in [batch_of(cut, grid) for _ in range(repeats)]
        )
        forward()
        print(
            f"{grid}, {len(cut)}, {len(batch.voxel_coords)}, {options} | "
            f"{model.macs(batch) / 1e6:.0f} | {first:.3f}, {seconds(forward, repeats):.3f}, "
            f"{seconds(step, repeats):.3f}"
        )


if __name__ == "__main__":
    main()
