"""What stored knowledge saves, what it costs on disk, and what float16 does to PVD's terms.

    python tests/benchmarks/bench_knowledge.py [--grid 96 72 16] [--width 0.25] [--scans 8]

Prints, for a Cylinder3D teacher on synthetic scans: seconds per scan of asking the teacher, of
asking and storing, and of reading (first with the checksum, then without); bytes per scan and tap
in float16 and float32; and per term the relative change of the loss and of the student's
gradient when a float16 teacher stands in for the float32 one.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from kdsweep.engine.knowledge import Knowledge, open_store
from kdsweep.engine.load import build_model
from kdsweep.engine.store import TapStore, pack, unpack
from kdsweep.methods import pvd
from kdsweep.spec.run import task_of

TAPS = frozenset({"point_logits", "voxel_logits", "point_features", "voxel_features"})
CPU = torch.device("cpu")


def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=int, nargs=3, default=[96, 72, 16])
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments)


def measure(home: Path, arguments: argparse.Namespace) -> None:
    """Prints the figures of one teacher on one grid."""
    task_class = task_of("lidar_seg")
    synth = {"scenes": arguments.scans + 1, "val_share": 1 / (arguments.scans + 1)}
    data = task_class.Data(synth={**synth, "beams": 32, "columns": 512}, grid=tuple(arguments.grid))
    task = task_class(data, task_class.Loss(), home=home)
    task.prepare()
    torch.manual_seed(0)
    teacher, student = (
        build_model("cylinder3d", {"width": width, "slim_encoder": True}, task.model_input())
        for width in (arguments.width, arguments.width / 2)
    )
    dataset = task.train_set(seed=0, epoch=0, views=1)
    samples = [dataset[i] for i in range(len(dataset))]  # type: ignore[arg-type]
    batch = task.collate(samples[:2])
    settle(teacher, task.collate(samples[:4]))  # batch norm must know its inputs
    print(
        f"{len(samples)} scans, {sum(batch.point_counts) / 2:.0f} points and "
        f"{sum(batch.voxel_counts) / 2:.0f} cells each, teacher width {arguments.width}"
    )
    times(task, teacher, samples, home)
    sizes(teacher, batch)
    precision(task, teacher, student, batch)


def settle(model: torch.nn.Module, batch: Any) -> None:
    """Lets batch norm see a batch, so that the random network's taps have sensible magnitudes."""
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(batch)
    model.eval()


def times(task: Any, teacher: Any, samples: list[Any], home: Path) -> None:
    """Seconds per scan of the four ways to get taps."""

    def per_scan(knowledge: Knowledge) -> float:
        collate = knowledge.collate(task.collate)
        began = time.perf_counter()
        for sample in samples:
            item = collate([sample])
            knowledge(item)
        return (time.perf_counter() - began) / len(samples)

    def stored(store: TapStore | None) -> Knowledge:
        return Knowledge(teacher, TAPS, device=CPU, store=store)

    store = open_store(home, cap_gb=10, teacher_digest="bench")
    assert store is not None
    asking = per_scan(stored(None))
    asking = min(asking, per_scan(stored(None)))
    writing = per_scan(stored(store))
    fresh = TapStore(store.folder, counted=store.folder, cap_bytes=10**10)
    reading_first, reading = per_scan(stored(fresh)), per_scan(stored(fresh))
    print(
        f"ms per scan: teacher {asking * 1e3:.1f}, teacher and store {writing * 1e3:.1f}, "
        f"read with checksum {reading_first * 1e3:.2f}, read again {reading * 1e3:.2f}"
    )


def sizes(teacher: Any, batch: Any) -> None:
    """Bytes per scan."""
    with torch.no_grad():
        taps = teacher(batch)
    for name in sorted(TAPS):
        half = taps[name].numel() * 2 / len(batch.sample_ids) / 1e6
        rows_of = teacher.taps()[name].rows_of
        note = f" (not stored: rows of {rows_of[0]})" if rows_of else ""
        print(f"  {name:15s} {half:7.2f} MB per scan in float16, {2 * half:7.2f} in float32{note}")


def precision(task: Any, teacher: Any, student: Any, batch: Any) -> None:
    """Effect of float16 on each of PVD's terms, over several draws of supervoxels."""
    config = pvd.Config(supervoxel=(24, 12, 4), num_points=1024, num_voxels=512)
    method = pvd.PVD(config, student=student.taps(), teacher=teacher.taps())
    with torch.no_grad():
        exact = {name: tap for name, tap in teacher(batch).items() if name in TAPS}
    rounded = {name: unpack(*pack(tap)) for name, tap in exact.items()}
    student.train()

    def losses(taps: Any, seed: int) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        torch.manual_seed(seed)
        own = student(batch)
        leaves = {name: own[name].detach().requires_grad_() for name in TAPS}
        terms = method(student={**own, **leaves}, teacher=taps, batch=batch)
        gradients = {
            name: torch.autograd.grad(term, leaves[pvd._TAPS[name]], retain_graph=True)[0]
            for name, term in terms.items()
        }
        return {name: term.item() for name, term in terms.items()}, gradients

    change: dict[str, list[float]] = {name: [] for name in pvd._TAPS}
    shift: dict[str, list[float]] = {name: [] for name in pvd._TAPS}
    for seed in range(5):
        (a, grad_a), (b, grad_b) = losses(exact, seed), losses(rounded, seed)
        for name in pvd._TAPS:
            change[name].append(abs(a[name] - b[name]) / a[name])
            shift[name].append(relative_difference(grad_a[name], grad_b[name]))
    for name in pvd._TAPS:
        print(
            f"  {name:15s} loss changes by {statistics.fmean(change[name]):.1e}, gradient by "
            f"{statistics.fmean(shift[name]):.1e} (relative, float16 against float32)"
        )


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm of the difference over the norm of the first."""
    return float((a - b).norm() / a.norm())


if __name__ == "__main__":
    main()
