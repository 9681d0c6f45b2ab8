"""How fast and how large are distance plus angle, against the direct N x N x N formulation?

    python tests/benchmarks/bench_relation.py

Forward plus backward of L_D + 2 L_A in float32, teacher 512 and student 128 channels wide; each row
in processes of its own. Seconds are CPU time of one thread, the fastest of several, because other
work ran beside it; memory is what the process grew by at its peak. On one thread of a 2-core Intel
Xeon CPU, torch 2.13, 2026-11-21:

       N | direct: s, MiB | blocked: s, MiB | faster | smaller | value, gradient differ by
      64 | 0.0139,    36  |  0.0098,    9   | 1.4 x  |    4 x  | 0e+00, 0e+00
     128 | 0.1210,   152  |  0.0460,   14   | 2.6 x  |   11 x  | 6e-08, 2e-07
     256 | 0.8003,   327  |  0.3315,   17   | 2.4 x  |   20 x  | 7e-08, 1e-07
     512 | 4.4601,  1817  |  2.3373,   28   | 1.9 x  |   65 x  | 0e+00, 1e-07
    1024 |   over 8 GiB   | 17.6704,   72   |    -   |     -   | -

Differences are relative. The direct way is the authors' code; it is not run where it needs more
than 8 GiB.
"""

import resource
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from kdsweep.losses.relation import rkd_angle, rkd_distance

SIZES = [64, 128, 256, 512, 1024]
STUDENT_DIM, TEACHER_DIM = 128, 512
LIMIT_GIB = 8


def direct(student, teacher):
    """As in the authors' code: Gram form of distances, all cosines at once, autograd."""
    with torch.no_grad():
        teacher_distances, teacher_cosines = _distances(teacher), _cosines(teacher)
    distance = F.smooth_l1_loss(_distances(student), teacher_distances)
    return distance, F.smooth_l1_loss(_cosines(student), teacher_cosines)


def _distances(points):
    squares = points.pow(2).sum(dim=1)
    gram = squares.unsqueeze(1) + squares.unsqueeze(0) - 2 * points @ points.T
    distances = gram.clamp(min=1e-12).sqrt()
    distances = distances * (1 - torch.eye(len(points)))
    return distances / distances[distances > 0].mean()


def _cosines(points):
    edges = points.unsqueeze(0) - points.unsqueeze(1)
    unit = F.normalize(edges, p=2, dim=2)
    return torch.bmm(unit, unit.transpose(1, 2)).view(-1)


def blocked(student, teacher):
    """Ours."""
    sides = {"student": student, "teacher": teacher}
    return rkd_distance(**sides), rkd_angle(**sides)


WAYS = {"direct": direct, "blocked": blocked}


def measure(way: str, num: int) -> None:
    """Prints seconds, MiB, value and norm of the gradient of one way; in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_GIB << 30, LIMIT_GIB << 30))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    student, teacher = torch.randn(num, STUDENT_DIM), torch.randn(num, TEACHER_DIM)
    teacher = F.normalize(teacher)
    student.requires_grad_()
    for warm in WAYS.values():  # first-use costs
        sum(warm(student[:16], teacher[:16])).backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < 2 and len(seconds) < 50):
        student.grad = None
        started = time.process_time()
        distance, angle = WAYS[way](student, teacher)
        (distance + 2 * angle).backward()
        seconds.append(time.process_time() - started)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(min(seconds), grown, (distance + 2 * angle).item(), student.grad.norm().item())


def run(way: str, num: int) -> list[float] | None:
    command = [sys.executable, __file__, way, str(num)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        assert "memory" in done.stderr, done.stderr
        return None
    return [float(value) for value in done.stdout.split()]


def main() -> None:
    print("CPU seconds of one thread and MiB, forward and backward")
    print("   N | direct: s, MiB | blocked: s, MiB | faster | smaller | value, gradient differ by")
    for num in SIZES:
        whole, ours = (run(way, num) for way in WAYS)
        assert ours is not None
        line = f"{num:4} | {{}} | {ours[0]:.4f}, {ours[1]:4.0f} | {{}} | {{}} | {{}}"
        if whole is None:
            print(line.format(f"over {LIMIT_GIB} GiB".rjust(14), "-", "-", "-"))
            continue
        gaps = (abs(a / b - 1) for a, b in zip(ours[2:], whole[2:], strict=True))
        print(
            line.format(
                f"{whole[0]:.4f}, {whole[1]:5.0f}",
                f"{whole[0] / ours[0]:.1f} x",
                f"{whole[1] / max(ours[1], 1):.0f} x",
                ", ".join(f"{gap:.0e}" for gap in gaps),
            )
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        main()
