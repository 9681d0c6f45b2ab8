"""The training loop against a plain one, written by hand, on digits.

The plain loop takes from kdsweep the networks, the samples and their order; optimiser, schedule,
losses and everything else in it are torch's, or spelt out.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdsweep.engine.data import epoch_order
from kdsweep.engine.parts import build_parts
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.spec.run import RunSpec

EPOCHS, BATCHES, HINT = 3, 5, 0.5
STEPS = {"batch_size": 18, "lr": 0.01}
ALL_AT_ONCE = {
    "optimizer": "adamw",
    "weight_decay": 0.2,
    "accumulate": 3,
    "clip_norm": 0.3,
    "schedule": "cosine",
    "warmup_steps": 2,
    "kd_warmup_epochs": 3,
    "amp": "bfloat16",
}
TEACHER = {"model": "small_cnn", "width": 0.125, "convs_per_stage": 1}


@dataclass
class Course:
    """What a training left: the weights of its best epoch, and what it reported of each."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    figures: list[dict[str, float]] = field(default_factory=list)


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., RunSpec]:
    """Five batches an epoch; the teacher has random weights, which are as good to imitate."""

    def make(**train: Any) -> RunSpec:
        file = tmp_path / "teacher.safetensors"
        found = RunSpec.from_dict(
            {
                "task": "image_classification",
                "data": {"format": "digits", "train_images": 18 * BATCHES, "val_images": 200},
                "teacher": {**TEACHER, "checkpoint": str(file)},
                "student": {**TEACHER, "width": 0.0625},
                "method": {"name": "fitnet", "tap": "layer2", "hint": HINT},
                # unless said otherwise only the last epoch is evaluated, and so it is exported
                "train": {"epochs": EPOCHS, "val_every": EPOCHS, **STEPS, **train},
                "seed": 5,
            }
        )
        if not file.exists():
            teacher = build_parts(found, tmp_path).teacher
            assert teacher is not None
            save_file(teacher.state_dict(), file)
        return found

    return make


def by_engine(spec: RunSpec, folder: Path) -> Course:
    course = Course()

    def keep(progress: Any) -> bool:
        if progress.stage == "train":
            course.figures.append(progress.metrics)
        return True

    execute(spec, Place(folder / "home", folder / "run", device="cpu", threads=1), keep)
    for name in ("student", "adapters"):
        course.weights |= load_file(folder / "run" / f"{name}.safetensors")
    return course


def by_hand(spec: RunSpec, folder: Path) -> Course:
    torch.set_num_threads(1)
    train, parts = spec.train, build_parts(spec, folder)
    task, student, teacher, regressor = parts.task, parts.student, parts.teacher, parts.method
    assert teacher is not None and regressor is not None and spec.teacher is not None
    task.prepare()
    teacher.load_state_dict(load_file(str(spec.teacher.checkpoint)))
    teacher.eval()
    learnt = [*student.parameters(), *regressor.parameters()]
    make = torch.optim.Adam if train.optimizer == "adam" else torch.optim.AdamW
    optimizer = make(learnt, lr=0.0, weight_decay=train.weight_decay)
    course, steps_done, batches_done, best = Course(), 0, 0, -1.0
    for epoch in range(EPOCHS):
        student.train()
        samples = task.train_set(seed=spec.seed, epoch=epoch, views=0)
        order = epoch_order(
            len(samples), train.batch_size, seed=spec.seed, epoch=epoch, rank=0, world=1
        )
        assert len(order) == BATCHES
        sums = {"loss/cross_entropy": 0.0, "loss/hint": 0.0, "loss/total": 0.0}
        while order:
            group, order = order[: train.accumulate], order[train.accumulate :]
            optimizer.zero_grad()
            for numbers in group:
                batches_done += 1
                batch = task.collate([samples[number] for number in numbers])
                with half(train.amp):
                    given = student(batch)
                    with torch.no_grad():
                        hint = teacher(batch)["layer2"].float()
                cross_entropy = F.cross_entropy(given["logits"].float(), batch.labels)
                guided = regressor.get_submodule("regressor")(given["layer2"].float())
                distance = F.mse_loss(guided, hint)
                weight = HINT
                if train.kd_warmup_epochs:
                    weight *= min(1.0, batches_done / (BATCHES * train.kd_warmup_epochs))
                total = cross_entropy + weight * distance
                (total / len(group)).backward()
                for name, term in zip(sums, (cross_entropy, distance, total), strict=True):
                    sums[name] += term.item() / BATCHES
            if train.clip_norm:
                norm = math.sqrt(
                    sum(float((p.grad**2).sum()) for p in learnt if p.grad is not None)
                )
                for parameter in learnt:
                    if parameter.grad is not None and norm > train.clip_norm:
                        parameter.grad *= train.clip_norm / norm
            optimizer.param_groups[0]["lr"] = rate(train, steps_done)
            optimizer.step()
            steps_done += 1
        figures = {**sums, "lr": optimizer.param_groups[0]["lr"], "epoch": epoch + 1.0}
        if (epoch + 1) % train.val_every == 0:
            figures["top1"] = share_of_hits(student, task)
            if figures["top1"] > best:
                best = figures["top1"]
                weights = {**student.state_dict(), **regressor.state_dict()}
                course.weights = {name: tensor.clone() for name, tensor in weights.items()}
        course.figures.append(figures)
    return course


@torch.no_grad()
def share_of_hits(student: Any, task: Any) -> float:
    student.eval()
    samples = task.val_set()
    batch = task.collate([samples[number] for number in range(len(samples))])
    return float((student(batch)["logits"].argmax(1) == batch.labels).double().mean())


def half(amp: str) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if amp == "bfloat16" else contextlib.nullcontext()


def rate(train: Any, step: int) -> float:
    """Learning rate of a step, counted over the whole training from 0."""
    steps = EPOCHS * math.ceil(BATCHES / train.accumulate)
    if step < train.warmup_steps:
        return train.lr / train.warmup_steps * (step + 1)
    done = (step - train.warmup_steps) / (steps - train.warmup_steps)
    return {
        "constant": train.lr,
        "cosine": train.lr * (1 + math.cos(math.pi * done)) / 2,
        "multistep": train.lr
        * (1.0 if step < 0.4 * steps else 0.1 if step < 0.8 * steps else 0.01),
    }[train.schedule]


def largest_difference(a: Course, b: Course) -> float:
    """Of all weights, each tensor's relative to its largest element."""
    assert a.weights.keys() == b.weights.keys()
    return max(
        float((value - b.weights[name]).abs().max() / value.abs().max().clamp_min(1e-3))
        for name, value in a.weights.items()
    )


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"weight_decay": 0.1},
        {"optimizer": "adamw", "weight_decay": 0.5},
        {"accumulate": 2},
        {"clip_norm": 0.1},
        {"warmup_steps": 4},
        {"schedule": "cosine"},
        {"schedule": "multistep", "milestones": (0.4, 0.8)},
        {"amp": "bfloat16"},
        {"kd_warmup_epochs": 2},
        {"val_every": 1},
        ALL_AT_ONCE,
    ],
    ids=lambda train: "all at once" if len(train) > 2 else "-".join(train) or "plain",
)
def test_training_is_that_of_a_plain_loop(
    spec: Callable[..., RunSpec], tmp_path: Path, train: dict[str, Any]
) -> None:
    ours, plain = by_engine(spec(**train), tmp_path), by_hand(spec(**train), tmp_path)
    assert largest_difference(plain, ours) < 1e-5
    for expected, reported in zip(plain.figures, ours.figures, strict=True):
        for name, value in expected.items():
            assert reported[name] == pytest.approx(value, rel=1e-5), name
    if train and "val_every" not in train:  # a setting that changes nothing would be no test of it
        assert largest_difference(plain, by_hand(spec(), tmp_path)) > 0.1
