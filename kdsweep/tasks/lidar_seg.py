"""Semantic segmentation of LiDAR scans on a cylindrical grid: SemanticKITTI, nuScenes-lidarseg.

Source: Zhu et al., "Cylindrical and Asymmetrical 3D Convolution Networks for LiDAR Segmentation",
CVPR 2021 (input, losses); the official metrics are in `_lidar_seg_metric`.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.data import Dataset

from kdsweep.config import Config, Weight
from kdsweep.data.labels import ClassWeighting
from kdsweep.data.lidar_seg import LidarSegSample, LidarSegScans, View, collate
from kdsweep.data.mixing import mixed_batches
from kdsweep.data.nuscenes import NuScenes
from kdsweep.data.nuscenes_splits import Version
from kdsweep.data.prepare import scan_sizes, synthetic_root, write_synthetic
from kdsweep.data.scans import Scan, ScanReader
from kdsweep.data.semantickitti import SemanticKitti
from kdsweep.data.synthetic import SynthConfig, config_digest
from kdsweep.data.transforms import Augment, generator_for
from kdsweep.errors import DataError
from kdsweep.geometry.cylindrical import PI, CylinderGrid, Triple
from kdsweep.losses.segmentation import lovasz_softmax, weighted_cross_entropy
from kdsweep.tasks._lidar_seg_metric import LABELS, Format, LidarSegEvaluator, tap_of
from kdsweep.tasks.base import Direction, Task
from kdsweep.types import LidarSegBatch, ModelInput, Taps, Terms

Split: TypeAlias = Literal["train", "val"]
Cells: TypeAlias = Annotated[int, Field(ge=2, le=4096)]

_BOUNDS: Mapping[Format, tuple[Triple, Triple]] = MappingProxyType(
    {
        "semantickitti": ((0.0, -PI, -4.0), (50.0, PI, 2.0)),
        "nuscenes": ((0.0, -PI, -5.0), (50.0, PI, 3.0)),
    }
)
_ROTATION_DEG: Mapping[Format, float] = MappingProxyType({"semantickitti": 45.0, "nuscenes": 180.0})

_warn_once = cache(logging.getLogger(__name__).warning)

_POINT_FEATURES = 9
_VAL_CACHE_BYTES = 256 << 20


class LidarSegData(Config):
    """Which scans, on which grid, how augmented."""

    format: Format = "semantickitti"
    """Layout of the root."""
    root: Path | None = None
    """Folder of the data set: it holds ``sequences`` (SemanticKITTI), or ``samples``, ``lidarseg``
    and the tables (nuScenes). Give either this or `synth`."""
    synth: SynthConfig | None = None
    """Synthetic scans in the SemanticKITTI layout, written once below kdsweep's home folder."""
    version: Version = "v1.0-trainval"
    """nuScenes only: the folder of tables."""
    train_sequences: tuple[str, ...] = ()
    """Sequences (nuScenes: scenes) to train on; none = those of the official split."""
    val_sequences: tuple[str, ...] = ()
    """Sequences (nuScenes: scenes) to validate on; none = those of the official split."""
    unlabelled_sequences: tuple[str, ...] = ()
    """Sequences (nuScenes: scenes) to train on without labels: what the teacher says of their scans
    counts, and labels there may be are not read. Half of every batch comes from them; an epoch is
    one pass over the labelled scans. The supervised loss learns nothing from them."""
    train_scans: Annotated[int, Field(ge=0)] = 0
    """Train on this many labelled scans, evenly spaced over the split; 0 = all."""
    val_scans: Annotated[int, Field(ge=0)] = 0
    """Validate on this many scans, evenly spaced over the split; 0 = all."""
    grid: tuple[Cells, Cells, Cells] = (480, 360, 32)
    """Cells along (rho, phi, z)."""
    bounds: tuple[Triple, Triple] | None = None
    """Smallest and largest (rho m, phi rad, z m) of the grid; what lies beyond belongs to the
    border cells. null as published: (0, -pi, -4), (50, pi, 2) for SemanticKITTI and (0, -pi, -5),
    (50, pi, 3) for nuScenes."""
    augment: Augment = Augment()
    """Augmentation of the training scans."""

    @model_validator(mode="after")
    def _one_source(self) -> "LidarSegData":
        if (self.root is None) == (self.synth is None):
            given = "neither" if self.root is None else "both"
            raise ValueError(f"give exactly one of root and synth, got {given}")
        if self.synth is not None and self.format != "semantickitti":
            raise ValueError(f"synth writes format semantickitti, got format {self.format}")
        return self

    @model_validator(mode="after")
    def _bounds_ascend(self) -> "LidarSegData":
        lower, upper = self.bounds or _BOUNDS[self.format]
        if not all(low < high for low, high in zip(lower, upper, strict=True)):
            raise ValueError(f"bounds: each lower bound must be below its upper one: {self.bounds}")
        return self


class LidarSegLoss(Config):
    """The supervised loss; cross-entropy and Lovasz-softmax ignore class 0."""

    voxel_ce: Weight = 1.0
    """Weight of the cross-entropy of cells against the majority label of their points."""
    voxel_lovasz: Weight = 1.0
    """Weight of the Lovasz-softmax of cells, over the classes present in the batch."""
    point_ce: Weight = 1.0
    """Weight of the cross-entropy of points against their own labels. Meant for a model with point
    refinement. Without it a point has the logits of its cell; the term is then the cross-entropy
    of cells once more, each counted as often as it has points. The released Cylinder3D code has no
    such term (0)."""
    class_weights: ClassWeighting = "cbrt"
    """Class weights of both cross-entropies, from the published training points of the data set:
    ``none``, ``cbrt`` = (largest count / count)^(1/3), ``inv_content`` = 1 / (share + 0.001)."""


class LidarSeg(Task):
    """Segmentation of LiDAR scans into the classes of SemanticKITTI or nuScenes-lidarseg."""

    Data: ClassVar[type[Config]] = LidarSegData
    Loss: ClassVar[type[Config]] = LidarSegLoss
    metrics: ClassVar[Mapping[str, Direction]] = MappingProxyType(
        dict.fromkeys(
            ["miou", "miou_cropped", "accuracy"]
            + [f"iou/{name}" for labels in LABELS.values() for name in labels.classes[1:]],
            "max",
        )
    )

    data: LidarSegData
    loss: LidarSegLoss

    def __init__(self, data: LidarSegData, loss: LidarSegLoss, *, home: Path) -> None:
        super().__init__(data, loss, home=home)
        lower, upper = data.bounds or _BOUNDS[data.format]
        self.label_set = LABELS[data.format]
        self.grid = CylinderGrid(data.grid, lower, upper)
        self._kept: dict[Split, tuple[Scan, ...]] = {}
        self._weights: dict[torch.device, Float[Tensor, " classes"]] = {}

    @classmethod
    def metrics_of(cls, data: LidarSegData) -> Mapping[str, Direction]:
        """All but the classes of the other data set."""
        own = {f"iou/{name}" for name in LABELS[data.format].classes[1:]}
        return {
            name: way
            for name, way in cls.metrics.items()
            if name in own or not name.startswith("iou/")
        }

    @classmethod
    def teacher_data(cls, data: LidarSegData) -> LidarSegData:
        """A teacher learns from labels only, so the unlabelled scans are left out."""
        return data.model_copy(update={"unlabelled_sequences": ()})

    @classmethod
    def share_fault(cls, data: LidarSegData, *, share: int) -> str:
        """A worker without labelled scans would halve the supervised loss, a mean over workers."""
        if not data.unlabelled_sequences or share >= 2:
            return ""
        return "with data.unlabelled_sequences a worker needs a labelled and an unlabelled scan"

    def prepare(self) -> None:
        """Writes the synthetic scans where asked; checks both splits by file size."""
        if self.data.synth is not None:
            write_synthetic(self.data.synth, self.home)
        else:
            self._warn_of_missing()
        self._warn_of_shared()
        _ = self._sizes  # checks every file of both splits

    def fingerprint(self) -> str:
        """Digest of the scans' names and sizes, or of what synthetic scans are generated from."""
        if self.data.synth is not None:
            return config_digest(self.data.synth)
        return _digest(self._sizes)

    def model_input(self) -> ModelInput:
        return ModelInput(self.label_set.num_classes, _POINT_FEATURES, self.data.grid)

    def train_set(self, *, seed: int, epoch: int, views: int) -> Dataset[LidarSegSample]:
        number = epoch % views if views else epoch
        view = View(self.data.augment, _ROTATION_DEG[self.data.format], seed, number)
        return LidarSegScans(
            self._reader,
            (*self._scans("train"), *self._unlabelled),
            self.grid,
            identity=_digest((self.grid, view.augment, view.rotation_deg, seed))[:8],
            view=view,
        )

    def global_batches(self, *, seed: int, epoch: int, batch_size: int) -> list[list[int]] | None:
        """Half labelled and half unlabelled, where there are unlabelled scans.

        Raises:
            SpecError: A batch has no room for both.
        """
        if not self._unlabelled:
            return None
        return mixed_batches(
            len(self._scans("train")),
            len(self._unlabelled),
            batch_size=batch_size,
            generator=generator_for(seed, "batches", epoch),
        )

    def val_set(self) -> Dataset[LidarSegSample]:
        """Validation samples; the first ones stay in memory between epochs."""
        return self._val_set

    def collate(self, samples: Sequence[LidarSegSample]) -> LidarSegBatch:
        return collate(samples, grid=self.data.grid, class_shares=self.label_set.labelled_shares())

    def terms(self, taps: Taps, batch: LidarSegBatch) -> Terms:
        """Cross-entropies and Lovasz-softmax, those whose weight is not 0."""
        terms: Terms = {}
        if self.loss.voxel_ce > 0:
            terms["voxel_ce"] = self._cross_entropy(taps, "voxel_logits", batch.voxel_labels)
        if self.loss.voxel_lovasz > 0:
            terms["voxel_lovasz"] = lovasz_softmax(
                tap_of(taps, "voxel_logits"), batch.voxel_labels, ignore=0, classes="present"
            )
        if self.loss.point_ce > 0:
            terms["point_ce"] = self._cross_entropy(taps, "point_logits", batch.point_labels)
        return terms

    def evaluator(self) -> LidarSegEvaluator:
        return LidarSegEvaluator(self.data.format)

    def _cross_entropy(self, taps: Taps, tap: str, labels: Tensor) -> Tensor:
        logits = tap_of(taps, tap)
        weights = self.label_set.class_weights(self.loss.class_weights)
        if weights is not None and logits.device not in self._weights:
            self._weights[logits.device] = torch.tensor(weights, device=logits.device)
        return weighted_cross_entropy(logits, labels, self._weights.get(logits.device), ignore=0)

    @cached_property
    def _reader(self) -> ScanReader:
        sequences = {
            "train": self.data.train_sequences,
            "val": self.data.val_sequences,
            "unlabelled": self.data.unlabelled_sequences,
        }
        if self.data.synth is not None:
            return SemanticKitti(synthetic_root(self.data.synth, self.home), sequences=sequences)
        assert self.data.root is not None  # there is exactly one of root and synth
        if self.data.format == "semantickitti":
            return SemanticKitti(self.data.root, sequences=sequences)
        return NuScenes(self.data.root, version=self.data.version, scenes=sequences)

    @cached_property
    def _val_set(self) -> LidarSegScans:
        return LidarSegScans(
            self._reader,
            self._scans("val"),
            self.grid,
            identity=_digest(self.grid)[:8],
            cache_bytes=_VAL_CACHE_BYTES,
        )

    @cached_property
    def _sizes(self) -> list[tuple[str, int, int]]:
        scans = [*self._scans("train"), *self._scans("val"), *self._unlabelled]
        return scan_sizes(self._reader, scans)

    @cached_property
    def _unlabelled(self) -> tuple[Scan, ...]:
        if not self.data.unlabelled_sequences:
            return ()
        scans = self._reader.scans("unlabelled")
        for split in ("train", "val"):
            known = {scan.name for scan in self._reader.scans(split)}
            twice = [scan.name for scan in scans if scan.name in known]
            if twice:
                raise DataError(
                    f"{self._reader.root}: data.unlabelled_sequences and the {split} split both "
                    f"hold {len(twice)} scans, {twice[0]} first. Name the sequences of each split: "
                    f"data.{split}_sequences."
                )
        return scans

    def _warn_of_missing(self) -> None:
        splits: tuple[Split, ...] = ("train", "val")
        for split in splits:
            missing = self._reader.missing(split)
            if missing and self._scans(split):  # without any scan of the split this raises
                _warn_once(
                    f"{self._reader.root}: the {split} split lacks {len(missing)} of its "
                    f"sequences, such as {missing[0]}; going on with the rest"
                )

    def _warn_of_shared(self) -> None:
        trained = {scan.name for scan in self._scans("train")}
        shared = [scan.name for scan in self._scans("val") if scan.name in trained]
        if shared:
            _warn_once(
                f"{self._reader.root}: the train and val splits share {len(shared)} scans, "
                f"{shared[0]} first: metrics are of scans that are trained on. Name the sequences "
                "of each split: data.train_sequences, data.val_sequences"
            )

    def _scans(self, split: Split) -> tuple[Scan, ...]:
        if split not in self._kept:
            self._kept[split] = self._thinned(split)
        return self._kept[split]

    def _thinned(self, split: Split) -> tuple[Scan, ...]:
        limit = self.data.train_scans if split == "train" else self.data.val_scans
        scans = self._reader.scans(split)
        if limit == 0 or limit >= len(scans):
            return scans
        return tuple(scans[number * len(scans) // limit] for number in range(limit))


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
