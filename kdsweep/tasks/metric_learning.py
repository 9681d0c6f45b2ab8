"""Embeddings of images that put like next to like: retrieval of classes never seen in training.

Sources: Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016
(zero-shot splits, Recall@K); Park et al., "Relational Knowledge Distillation", CVPR 2019, sec. 4.1,
and lenscloth/RKD (batches, augmentation, triplet loss).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from kdsweep.config import Config, Count, Positive, Weight
from kdsweep.data.balanced import balanced_batches
from kdsweep.data.cars196 import read_cars196
from kdsweep.data.cub200 import read_cub200
from kdsweep.data.digits import read_digits
from kdsweep.data.image_folder import read_image_folder
from kdsweep.data.image_transforms import Layout
from kdsweep.data.images import Splits
from kdsweep.data.online_products import read_online_products
from kdsweep.data.zero_shot import Protocol, ZeroShot, by_share
from kdsweep.errors import DataError
from kdsweep.losses.triplet import Mining, triplet_loss
from kdsweep.metrics.clustering import clustering_nmi
from kdsweep.metrics.recall import recall_at
from kdsweep.tasks._images import DIGITS, PHOTOS, ImageData, ImageTask, need_root, seeded, tap
from kdsweep.tasks.base import Direction
from kdsweep.types import ImageBatch, ModelInput, Taps, Terms

Format: TypeAlias = Literal["cub200", "cars196", "online_products", "image_folder", "digits"]
Neighbours: TypeAlias = Literal[1, 2, 4, 8, 10, 16, 32, 100, 1000]

_NEIGHBOURS: tuple[Neighbours, ...] = (1, 2, 4, 8, 10, 16, 32, 100, 1000)
_BATCHES: Mapping[str, int] = MappingProxyType(
    {"cub200": 100, "cars196": 100, "online_products": 500}
)


class MetricLearningData(ImageData):
    """Which images, how large, how augmented, batched and evaluated."""

    format: Format = "cub200"
    """Layout of the root: CUB-200-2011, Cars 196 or Stanford Online Products with their zero-shot
    splits, a folder with one sub-folder per class, or the digits that come with scikit-learn."""
    train_class_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Image folders and digits only: learn from this share of the classes, the first ones, and
    retrieve the others."""
    protocol: Protocol = "official"
    """``official`` evaluates on the test classes, as published figures do, and so searches on them;
    ``development`` holds out the last fifth of the training classes and evaluates on these, so that
    a sweep never sees the test classes."""
    images_per_class: Count = 5
    """Images that a class gives to a batch."""
    batches_per_epoch: Count | None = None
    """Batches of an epoch, each drawn anew. null as published: 100, Online Products 500; for image
    folders and digits as many as hold each image once."""
    recall_at: Annotated[tuple[Neighbours, ...], Field(min_length=1)] | None = None
    """Numbers of neighbours to look at. null as customary: 1, 2, 4, 8, and 1, 10, 100, 1000 for
    Online Products."""
    unit_length: bool = False
    """Bring embeddings to unit length before retrieval. As published they are taken as the network
    gives them."""
    nmi: bool = False
    """Also report the normalised mutual information of k-means clusters: slow with many classes."""

    @model_validator(mode="after")
    def _consistent(self) -> "MetricLearningData":
        need_root(self.format, self.root, embedded=("digits",))
        self.layout()
        return self

    @field_validator("recall_at")
    @classmethod
    def _with_the_official(cls, ks: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if ks is not None and (1 not in ks or list(ks) != sorted(set(ks))):
            valid = sorted({1, *ks})
            raise ValueError(f"must rise from 1 on, got {list(ks)}: write {valid}")
        return ks

    def layout(self) -> Layout:
        """Sizes and normalisation of the images."""
        return self.sized(DIGITS if self.format == "digits" else PHOTOS)

    def neighbours(self) -> tuple[int, ...]:
        """The K of Recall@K."""
        if self.recall_at is not None:
            return self.recall_at
        return (1, 10, 100, 1000) if self.format == "online_products" else (1, 2, 4, 8)


class MetricLearningLoss(Config):
    """The supervised loss. With triplet 0 only the method's terms are left, as RKD does."""

    triplet: Weight = 1.0
    """Weight of the triplet loss."""
    margin: Positive = 0.2
    """Margin by which a negative must be farther than a positive."""
    mining: Mining = "distance_weighted"
    """Which triplets of a batch count."""
    cross_entropy: Weight = 0.0
    """Weight of the cross-entropy over the training classes. Above 0 the networks get a linear
    layer of logits on their embedding, which retrieval ignores; methods that distil logits (kd)
    need it. Teachers are then trained with weight 1."""


class RetrievalEvaluator:
    """Recall@K of all embeddings of a split against one another, and NMI where asked.

    Attributes:
        data: What to compute, and how.
    """

    def __init__(self, data: MetricLearningData) -> None:
        self.data = data
        self._embeddings: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._ids: list[str] = []

    def update(self, taps: Taps, batch: ImageBatch) -> None:
        """Adds a batch, by its tap ``embedding``."""
        self._embeddings.append(tap(taps, "embedding", task="metric_learning").float())
        self._labels.append(batch.labels)
        self._ids += batch.sample_ids

    def state(self) -> tuple[list[Tensor], list[Tensor], list[str]]:
        """Embeddings, labels and sample ids, on the CPU."""
        return (
            [rows.cpu() for rows in self._embeddings],
            [rows.cpu() for rows in self._labels],
            list(self._ids),
        )

    def merge(self, states: Sequence[Any]) -> None:
        """Replaces the images by those of several workers."""
        device = self._embeddings[0].device if self._embeddings else torch.device("cpu")
        self._embeddings = [rows.to(device) for state in states for rows in state[0]]
        self._labels = [rows.to(device) for state in states for rows in state[1]]
        self._ids = [identity for state in states for identity in state[2]]

    def compute(self) -> dict[str, float]:
        """``recall_at_<K>`` and, where asked, ``nmi``, all 0..1.

        Images are ordered by their ids first: ties are then broken alike on any number of workers.

        Raises:
            DataError: No image was seen.
            NonFiniteLossError: Embeddings hold NaN or infinity.
        """
        if not self._ids:
            raise DataError("there is no validation image, so there is no Recall@K")
        order = sorted(range(len(self._ids)), key=self._ids.__getitem__)
        embeddings, labels = torch.cat(self._embeddings)[order], torch.cat(self._labels)[order]
        if self.data.unit_length:
            embeddings = F.normalize(embeddings, dim=1)
        found = recall_at(embeddings, labels, ks=self.data.neighbours())
        metrics = {f"recall_at_{k}": recall for k, recall in found.items()}
        if self.data.nmi:
            metrics["nmi"] = clustering_nmi(embeddings, labels)
        return metrics


class MetricLearning(ImageTask):
    """Embedding networks, judged by retrieval among classes that they were not trained on."""

    Data: ClassVar[type[Config]] = MetricLearningData
    Loss: ClassVar[type[Config]] = MetricLearningLoss
    metrics: ClassVar[Mapping[str, Direction]] = MappingProxyType(
        dict.fromkeys([*(f"recall_at_{k}" for k in _NEIGHBOURS), "nmi"], "max")
    )

    data: MetricLearningData
    loss: MetricLearningLoss

    @classmethod
    def metrics_of(cls, data: MetricLearningData) -> Mapping[str, Direction]:
        """Recall among as many neighbours as the data set is judged by, and NMI where asked."""
        own = {f"recall_at_{k}" for k in data.neighbours()} | ({"nmi"} if data.nmi else set())
        return {name: way for name, way in cls.metrics.items() if name in own}

    @classmethod
    def teacher_loss(cls, loss: MetricLearningLoss) -> MetricLearningLoss:
        """The default loss, with a cross-entropy where the students' have one: both give logits."""
        return MetricLearningLoss(cross_entropy=1.0 if loss.cross_entropy > 0 else 0.0)

    def layout(self) -> Layout:
        return self.data.layout()

    def read_splits(self) -> Splits:
        return self._read().splits(self.data.protocol)

    def model_input(self) -> ModelInput:
        """Embeddings, and logits of the training classes where a cross-entropy is learned.

        The root is then listed to count the classes.
        """
        num_classes = len(self._train_classes) if self.loss.cross_entropy > 0 else 0
        return ModelInput(num_classes, image_channels=len(self.layout().mean))

    def global_batches(self, *, seed: int, epoch: int, batch_size: int) -> list[list[int]]:
        """Class-balanced batches.

        Raises:
            SpecError: There are fewer training images than a batch needs.
        """
        labels = self.splits.train.labels
        number = self.data.batches_per_epoch or _BATCHES.get(self.data.format)
        return balanced_batches(
            labels,
            batch_size=batch_size,
            images_per_class=self.data.images_per_class,
            num_batches=number or math.ceil(len(labels) / batch_size),
            generator=seeded(seed, "batches", epoch),
        )

    def terms(self, taps: Taps, batch: ImageBatch) -> Terms:
        """The triplet loss and the cross-entropy, those of them whose weight is not 0."""
        terms: Terms = {}
        if self.loss.triplet > 0:
            terms["triplet"] = triplet_loss(
                tap(taps, "embedding", task="metric_learning"),
                batch.labels,
                margin=self.loss.margin,
                mining=self.loss.mining,
            )
        if self.loss.cross_entropy > 0:
            logits = tap(taps, "logits", task="metric_learning").float()
            classes = torch.tensor(self._train_classes, device=batch.labels.device)
            terms["cross_entropy"] = F.cross_entropy(
                logits, torch.searchsorted(classes, batch.labels)
            )
        return terms

    def evaluator(self) -> RetrievalEvaluator:
        return RetrievalEvaluator(self.data)

    @cached_property
    def _train_classes(self) -> list[int]:
        """Labels of the training classes, rising: their places are the columns of the logits."""
        return sorted(set(self.splits.train.labels))

    def _read(self) -> ZeroShot:
        data, root = self.data, self.data.root
        if root is None:
            return by_share(read_digits(), data.train_class_share, source="digits")
        if data.format == "image_folder":
            return by_share(read_image_folder(root), data.train_class_share, source=str(root))
        return _READERS[data.format](root)


_READERS: Mapping[str, Callable[[Path], ZeroShot]] = MappingProxyType(
    {"cub200": read_cub200, "cars196": read_cars196, "online_products": read_online_products}
)
