"""A whole tiny world for the engine: 2-D points of three classes, an MLP, a distillation method.

`install` registers it under the key ``tiny``, as if its files were in kdsweep's packages.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from kdsweep import discover
from kdsweep.config import Config, Weight
from kdsweep.errors import DataError
from kdsweep.methods.base import Method, MethodConfig
from kdsweep.models.base import Model, ModelConfig
from kdsweep.tasks.base import Task
from kdsweep.types import ModelInput, TapInfo, move

NUM_CLASSES = 3


class TinyData(Config):
    root: str = "here"
    """Folder of the data; "missing" is not there, "kill at N" kills the process when the n-th
    sample is read."""
    train: int = 10
    """Training samples."""
    val: int = 6
    """Validation samples."""


class TinyLoss(Config):
    ce: Weight = 1.0
    """Cross-entropy."""
    margin: Weight = 0.0
    """Another term, off by default."""
    poison: Weight = 0.0
    """A term that is infinite from its fifth batch on."""


@dataclass(frozen=True)
class TinyBatch:
    points: Tensor
    labels: Tensor
    counts: tuple[int, ...]
    sample_ids: tuple[str, ...]

    def row_counts(self, axis: str) -> tuple[int, ...]:
        return {"points": self.counts, "batch": (1,) * len(self.counts)}[axis]

    def to(self, device: torch.device) -> "TinyBatch":
        return move(self, device)


class TinySet(Dataset):
    """Samples of 5 to 9 points; the label is the sector in which a point lies."""

    read = 0

    def __init__(self, name: str, number: int, view: int, seed: int, root: str) -> None:
        self.name, self.number, self.view, self.seed = name, number, view, seed
        self.kill_at = int(root.removeprefix("kill at ")) if root.startswith("kill at") else 0

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str]:
        TinySet.read += 1
        if TinySet.read == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(index + 1000 * (self.name == "val"))
        points = torch.randn(5 + index % 5, 2, generator=generator)
        labels = (torch.atan2(points[:, 1], points[:, 0]) / torch.pi + 1).mul(1.4999).long()
        if self.name == "train":
            moved = torch.Generator().manual_seed(self.seed * 10000 + index * 100 + self.view)
            points = points + 0.1 * torch.randn(points.shape, generator=moved)
        return points, labels, f"{self.name}/{index}/s{self.seed}v{self.view}"


class TinyEvaluator:
    def __init__(self) -> None:
        self.counts = torch.zeros(2, dtype=torch.float64)

    def update(self, taps: Mapping[str, Tensor], batch: TinyBatch) -> None:
        log_p = F.log_softmax(taps["logits"].double(), dim=1)
        likelihood = log_p.gather(1, batch.labels[:, None]).sum()
        self.counts += torch.stack([likelihood, torch.tensor(float(len(batch.labels)))]).double()

    def state(self) -> Tensor:
        return self.counts

    def merge(self, states: Sequence[Tensor]) -> None:
        self.counts = torch.stack(list(states)).sum(0)

    def compute(self) -> dict[str, float]:
        return {"likelihood": float(self.counts[0] / self.counts[1])}


class TinyTask(Task):
    Data = TinyData
    Loss = TinyLoss
    metrics = {"likelihood": "max"}  # noqa: RUF012

    def __init__(self, data: TinyData, loss: TinyLoss, *, home: Path) -> None:
        super().__init__(data, loss, home=home)
        self.batches_seen = 0

    def prepare(self) -> None:
        if self.data.root == "missing":
            raise DataError("data root 'missing' is not there")

    def fingerprint(self) -> str:
        return f"{self.data.train}-{self.data.val}"

    def model_input(self) -> ModelInput:
        return ModelInput(num_classes=NUM_CLASSES, point_features=2)

    def train_set(self, *, seed: int, epoch: int, views: int) -> TinySet:
        view = epoch % views if views else epoch
        return TinySet("train", self.data.train, view, seed, self.data.root)

    def val_set(self) -> TinySet:
        return TinySet("val", self.data.val, 0, 0, self.data.root)

    def collate(self, samples: Sequence[Any]) -> TinyBatch:
        points, labels, ids = zip(*samples, strict=True)
        counts = tuple(map(len, points))
        return TinyBatch(torch.cat(points), torch.cat(labels), counts, tuple(ids))

    def terms(self, taps: Mapping[str, Tensor], batch: TinyBatch) -> dict[str, Tensor]:
        self.batches_seen += 1
        terms = {}
        if self.loss.ce:
            terms["ce"] = F.cross_entropy(taps["logits"], batch.labels)
        if self.loss.margin:
            terms["margin"] = F.multi_margin_loss(taps["logits"], batch.labels)
        if self.loss.poison:
            factor = float("inf") if self.batches_seen >= 5 else 1.0
            terms["poison"] = taps["logits"].square().mean() * factor
        return terms

    def evaluator(self) -> TinyEvaluator:
        return TinyEvaluator()


class TinyModelConfig(ModelConfig):
    in_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout: a random choice of the model in every step."""
    features: bool = True
    """Whether it gives the tap ``features``."""
    unit: bool = False
    """Bring features to unit length; no weight depends on it."""


class TinyNet(Model):
    Config = TinyModelConfig

    def __init__(self, config: TinyModelConfig, model_input: ModelInput) -> None:
        super().__init__()
        self.config = config
        self.hidden = round(16 * config.width)
        self.body = nn.Sequential(
            nn.Linear(model_input.point_features, self.hidden),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(),
            nn.Dropout(config.in_dropout),
        )
        self.head = nn.Linear(self.hidden, model_input.num_classes)
        self.calls: list[int] = []

    def taps(self) -> dict[str, TapInfo]:
        taps = {
            "logits": TapInfo(("points", "classes"), NUM_CLASSES),
            "features": TapInfo(("points", "channels"), self.hidden),
        }
        return taps if self.config.features else {"logits": taps["logits"]}

    def forward(self, batch: TinyBatch) -> dict[str, Tensor]:
        self.calls.append(len(batch.sample_ids))
        features = self.body(batch.points)
        taps = {"logits": self.head(features), "features": features}
        if self.config.unit:
            taps["features"] = F.normalize(features)
        return {name: taps[name] for name in self.taps()}

    def macs(self, batch: TinyBatch) -> int:
        weights = (self.body[0].weight, self.head.weight)
        return len(batch.points) * sum(weight.numel() for weight in weights)


def build(config: TinyModelConfig, model_input: ModelInput) -> TinyNet:
    return TinyNet(config, model_input)


class TinyMethodConfig(MethodConfig):
    kl: Weight = 1.0
    """Divergence of the logits."""
    hint: Weight = 0.0
    """Features, through an adapter, of a random half of the points."""


class TinyMethod(Method):
    Config = TinyMethodConfig

    def __init__(self, config: TinyMethodConfig, *, student: Any, teacher: Any) -> None:
        super().__init__(config, student=student, teacher=teacher)
        self.adapter = None
        if config.hint:
            sizes = student["features"].channels, teacher["features"].channels
            self.adapter = nn.Linear(*sizes)

    @classmethod
    def needs(cls, config: TinyMethodConfig) -> tuple[frozenset[str], frozenset[str]]:
        pairs = {"kl": "logits", "hint": "features"}
        taps = frozenset(tap for term, tap in pairs.items() if getattr(config, term))
        return taps, taps

    def forward(self, *, student: Any, teacher: Any, batch: TinyBatch) -> dict[str, Tensor]:
        terms = {}
        if self.config.kl:
            log_p = F.log_softmax(student["logits"], dim=1)
            probs = F.softmax(teacher["logits"], dim=1)
            terms["kl"] = F.kl_div(log_p, probs, reduction="batchmean")
        if self.adapter is not None:
            rows = torch.rand(len(batch.labels)).to(batch.labels.device) < 0.5
            difference = self.adapter(student["features"]) - teacher["features"]
            terms["hint"] = (difference.square().mean(1) * rows).mean()
        return terms


def install() -> None:
    """Makes `discover` find task, model and method under the key ``tiny``."""
    for kind, members in (
        ("tasks", {"TinyTask": TinyTask}),
        ("models", {"Config": TinyModelConfig, "build": build}),
        ("methods", {"TinyMethod": TinyMethod}),
    ):
        module = ModuleType(f"kdsweep.{kind}.tiny")
        vars(module).update(members)
        for member in members.values():
            if isinstance(member, type) and issubclass(member, Task | Method):
                member.__module__ = module.__name__
        sys.modules[module.__name__] = module
    found = discover.names
    if getattr(found, "with_tiny", False):
        return

    def names(kind: Any) -> list[str]:
        return sorted([*found(kind), "tiny"])

    names.with_tiny = True  # type: ignore[attr-defined]
    discover.names = names
