"""How exact, fast and large is the affinity distance, against the plain rows x rows matrices?

    python tests/benchmarks/bench_affinity.py

Times are of forward plus backward in float32, the fastest of several; memory is what the process
grew by at its peak. On one thread of a 2-core Intel Xeon CPU, torch 2.13, 2026-11-21, while other
work ran beside it:

    rows, channels    | plain: s, MiB | small: s, MiB | faster
    (150, 64, 128)    | 0.0004,     1 | 0.0004,     0 |  1.1 x    the plain way is taken
    (400, 64, 128)    | 0.0018,     5 | 0.0016,     2 |  1.1 x
    (1000, 64, 128)   | 0.0094,    36 | 0.0020,     5 |  4.7 x
    (4000, 64, 128)   | 0.3694,   255 | 0.0095,    22 | 39.0 x
    (6000, 64, 64)    | 0.6960,   565 | 0.0091,    24 | 76.9 x

    gap between networks | error of value, gradient: plain float32 | small matrices
    1e+00                | 3e-08, 2e-07                            | 3e-08, 1e-07
    1e-02                | 3e-08, 5e-06                            | 3e-08, 4e-06
    1e-04                | 4e-06, 5e-04                            | 5e-07, 4e-04
    1e-06                | 3e-02, 4e-02                            | 3e-03, 3e-02

Errors are relative to the plain way in float64. What is left is the rounding of the float32 unit
rows themselves, which both ways share.
"""

import resource
import subprocess
import sys
import time

import torch

from kdsweep.losses.affinity import affinity_distance, cosine_affinity

SIZES = [(150, 64, 128), (400, 64, 128), (1000, 64, 128), (4000, 64, 128), (6000, 64, 64)]
"""Rows, student channels, teacher channels: a median supervoxel, larger ones, Nv and Np."""

GAPS = [1.0, 1e-2, 1e-4, 1e-6]


def plain(student, teacher):
    difference = cosine_affinity(student) - cosine_affinity(teacher)
    return difference.square().sum()


WAYS = {"plain": plain, "small": affinity_distance}


def measure(way: str, rows: int, student_channels: int, teacher_channels: int) -> None:
    """Prints seconds and MiB of one way at one size; run in a process of its own."""
    torch.manual_seed(0)
    teacher = torch.randn(rows, teacher_channels)
    student = torch.randn(rows, student_channels, requires_grad=True)
    WAYS["small"](student[:300], teacher[:300]).backward()  # first-use costs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        WAYS[way](student, teacher).backward()
        seconds.append(time.perf_counter() - started)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(min(seconds), grown / 1024)


def accuracy() -> None:
    """Relative errors of value and gradient against the plain way in float64, by closeness."""
    print("gap between networks | error of value, gradient: plain float32 | small matrices")
    torch.manual_seed(0)
    teacher = torch.randn(3000, 64)
    noise = torch.randn(3000, 64)
    for gap in GAPS:
        student = (teacher + gap * noise).requires_grad_()
        exact = student.detach().double().requires_grad_()
        value = plain(exact, teacher.double())
        value.backward()
        cells = []
        for way in WAYS.values():
            student.grad = None
            found = way(student, teacher)
            found.backward()
            error = abs(found.item() / value.item() - 1)
            gradient = (student.grad - exact.grad).norm() / exact.grad.norm()
            cells.append(f"{error:.0e}, {gradient.item():.0e}")
        print(f"{gap:.0e} | {' | '.join(cells)}")


def main() -> None:
    print("rows, channels | plain: s, MiB | small: s, MiB | faster")
    for size in SIZES:
        results = []
        for way in WAYS:
            command = [sys.executable, __file__, way, *map(str, size)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.append([float(value) for value in output.split()])
        (plain_s, plain_mib), (small_s, small_mib) = results
        print(
            f"{size} | {plain_s:.4f}, {plain_mib:.0f} | {small_s:.4f}, {small_mib:.0f} | "
            f"{plain_s / small_s:.1f} x"
        )
    accuracy()  # last: a process counts its parent's memory at the fork as its own peak


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], *map(int, sys.argv[2:]))
    else:
        main()
