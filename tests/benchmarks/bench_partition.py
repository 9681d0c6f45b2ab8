"""How long does a data worker take for one scan? (Limit: 100 ms for all steps together.)

    python tests/benchmarks/bench_partition.py

The scan has as many points as a real one of a 64-beam sensor, spread over more cells. Median of 20,
one thread of a 2-core Intel Xeon CPU, NumPy 2.4, 2026-11-21, while other work ran beside it:

    augment       5.8 ms
    partition    21.0 ms
    majority      7.1 ms
"""

import time
from collections.abc import Callable

import numpy as np

from kdsweep.data.transforms import Augment, draw, generator_for
from kdsweep.geometry.cylindrical import PI, CylinderGrid, majority_labels, partition

POINTS = 123_389
GRID = CylinderGrid((480, 360, 32), (0.0, -PI, -4.0), (50.0, PI, 2.0))


def milliseconds(work: Callable[[], object], repeats: int = 20) -> float:
    """Median wall time of one call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def main() -> None:
    generator = np.random.default_rng(0)
    rho, phi = generator.gamma(2.0, 6.0, POINTS), generator.uniform(-PI, PI, POINTS)
    z = generator.normal(-1.0, 0.8, POINTS)
    xyz = np.stack([rho * np.cos(phi), rho * np.sin(phi), z], axis=1).astype(np.float32)
    intensity = generator.random(POINTS).astype(np.float32)
    labels = generator.integers(0, 20, POINTS).astype(np.uint8)
    cells = partition(xyz, intensity, GRID)
    transform = draw(Augment(), generator_for(0), rotation_deg=45.0)
    steps: dict[str, Callable[[], object]] = {
        "augment": lambda: transform.apply(xyz),
        "partition": lambda: partition(xyz, intensity, GRID),
        "majority": lambda: majority_labels(
            labels,
            cells.point_to_voxel,
            num_voxels=len(cells.voxel_coords),
            num_classes=20,
        ),
    }
    for name, work in steps.items():
        print(f"{name:10} {milliseconds(work):6.1f} ms")
    print(f"{POINTS} points in {len(cells.voxel_coords)} cells")


if __name__ == "__main__":
    main()
