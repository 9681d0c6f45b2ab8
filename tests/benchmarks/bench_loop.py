"""What the training loop costs around a trivial model, against the shortest loop that trains it.

    python tests/benchmarks/bench_loop.py [--steps 2000] [--repeats 5]

The model is one linear layer on batches of four 8-vectors, so nearly all time is overhead. The bare
loop reads the same samples through the same kind of loader and does forward, loss, backward and a
fused Adam step. Printed: CPU microseconds per step of both (median of the repeats; processor time,
because other work on the machine would swamp wall time), and the wall time of evaluating and of
writing a checkpoint, once per epoch.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kdsweep.config import Config
from kdsweep.engine.ranks import Ranks
from kdsweep.engine.report import Progress
from kdsweep.engine.seed import reproducible
from kdsweep.engine.train import Job, train_loop
from kdsweep.spec.train import TrainConfig
from kdsweep.tasks.base import Task

BATCH = 4


class Vectors(Dataset):
    """Fixed random vectors and targets."""

    def __init__(self, number: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.points = torch.randn(number, 8, generator=generator)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Tensor:
        return self.points[index]


class Rows:
    """A batch of vectors."""

    def __init__(self, points: Tensor) -> None:
        self.points = points
        self.sample_ids = ("",) * len(points)

    def to(self, device: torch.device) -> "Rows":
        return self


class Layer(nn.Module):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, batch: Rows) -> dict[str, Tensor]:
        return {"y": self.layer(batch.points)}


class Count:
    """An evaluator that costs nothing."""

    def update(self, taps: Any, batch: Any) -> None:
        return

    def compute(self) -> dict[str, float]:
        return {"score": 0.0}


class Trivial(Task):
    """Reconstruct the input."""

    metrics = {"score": "max"}  # noqa: RUF012

    def __init__(self, number: int) -> None:
        super().__init__(Config(), Config(), home=Path())
        self.number = number

    def train_set(self, *, seed: int, epoch: int, views: int) -> Vectors:
        return Vectors(self.number)

    def val_set(self) -> Vectors:
        return Vectors(1)

    def collate(self, samples: Any) -> Rows:
        return Rows(torch.stack(list(samples)))

    def terms(self, taps: Any, batch: Rows) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(taps["y"], batch.points)}

    def evaluator(self) -> Count:
        return Count()


def bare(task: Trivial) -> float:
    """CPU seconds per step of the shortest loop."""
    model = Layer()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    loader = DataLoader(
        task.train_set(seed=0, epoch=0, views=0), batch_size=BATCH, collate_fn=task.collate
    )
    began = time.process_time()
    for batch in loader:
        loss = task.terms(model(batch), batch)["mse"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - began) / len(loader)


def engine(task: Trivial) -> tuple[float, float]:
    """CPU seconds per step of the engine's loop, and wall seconds of an epoch's other parts."""
    seen: list[dict[str, float]] = []

    def report(progress: Progress) -> bool:
        seen.append(progress.metrics)
        return True

    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder, reproducible(cpu):
        job = Job(
            task=task,
            student=Layer(),
            train=TrainConfig(epochs=1, batch_size=BATCH),
            task_weights={"mse": 1.0},
            folder=Path(folder) / "checkpoint",
            ranks=Ranks(0, 1, cpu),
        )
        began = time.process_time()
        train_loop(job, report)
        used = time.process_time() - began
    (metrics,) = seen
    outside = metrics["seconds/evaluate"] + metrics["seconds/checkpoint"]
    return used / (task.number // BATCH), outside


def main() -> None:
    """Prints both costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = Trivial(arguments.steps * BATCH)
    bare(task)
    shortest, whole, outside = [], [], []
    for _ in range(arguments.repeats):  # interleaved: another load on the machine hits both
        shortest.append(bare(task) * 1e6)
        step, rest = engine(task)
        whole.append(step * 1e6)
        outside.append(rest * 1e3)
    a, b = statistics.median(shortest), statistics.median(whole)
    print(
        f"bare loop {a:.0f} us per step, engine {b:.0f} us: {b - a:.0f} us of overhead; "
        f"evaluation and checkpoint of an epoch {statistics.median(outside):.0f} ms"
    )


if __name__ == "__main__":
    main()
