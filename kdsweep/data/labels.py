"""Label sets: how raw label ids on disk become training ids, and how frequent each class is.

Sources: PRBonn/semantic-kitti-api, config/semantic-kitti.yaml and semantic-kitti-all.yaml (names,
maps, shares); nuscenes-devkit, eval/lidarseg/utils.py (names, map); yanx27/2DPASS (training point
counts of both). Training id 0 is always the ignored class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Integer, UInt8, UInt32

ClassWeighting: TypeAlias = Literal["none", "cbrt", "inv_content"]


@dataclass(frozen=True)
class LabelSet:
    """Classes of a data set.

    Attributes:
        name: The data set, as messages call it.
        classes: Name of each training id; entry 0 is the ignored class.
        raw_ids: Raw ids that become each training id.
        inverse: Raw id that predictions of each training id are written as.
        shares: Share of each training id among all points of the training split, 0..1, or empty.
        counts: Points of each training id in the training split, or empty.
    """

    name: str
    classes: tuple[str, ...]
    raw_ids: tuple[tuple[int, ...], ...]
    inverse: tuple[int, ...]
    shares: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of training ids, the ignored class 0 included."""
        return len(self.classes)

    @cached_property
    def _table(self) -> np.ndarray:
        table = np.full(1 << 16, -1, dtype=np.int16)  # raw ids have 16 bits at most
        for training_id, raw_ids in enumerate(self.raw_ids):
            table[list(raw_ids)] = training_id
        return table

    def to_training(self, raw: Integer[np.ndarray, " points"]) -> UInt8[np.ndarray, " points"]:
        """Training ids of raw ids.

        Args:
            raw: Raw ids, 0..65535.

        Raises:
            ValueError: An id does not belong to the data set; the message lists it.
        """
        ids = self._table[raw]
        if len(ids) and ids.min() < 0:
            unknown = np.unique(raw[ids < 0])
            listed = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise ValueError(f"label ids that {self.name} does not have: {listed}")
        return ids.astype(np.uint8)

    def to_raw(self, ids: Integer[np.ndarray, " points"]) -> UInt32[np.ndarray, " points"]:
        """Raw ids to write for training ids (several raw ids share one: the official inverse)."""
        return np.asarray(self.inverse, dtype=np.uint32)[ids]

    def labelled_shares(self) -> tuple[float, ...]:
        """Share of each training id among the labelled points: 0 for id 0, the others sum to 1."""
        total = sum(self.shares[1:])
        return (0.0, *(share / total for share in self.shares[1:]))

    def minority(self, threshold: float = 0.01) -> tuple[int, ...]:
        """Training ids whose share of the labelled points is below a threshold (PVD, sec. 3.3)."""
        shares = enumerate(self.labelled_shares())
        return tuple(label for label, share in shares if label and share < threshold)

    def class_weights(self, weighting: ClassWeighting) -> tuple[float, ...] | None:
        """Weight of each training id in the cross-entropy; id 0 gets 0.

        Args:
            weighting: ``none``; ``cbrt`` = (largest count / count)^(1/3) (2DPASS);
                ``inv_content`` = 1 / (share + 0.001) (lidar-bonnetal).

        Returns:
            The weights, or None for ``none``.
        """
        if weighting == "none":
            return None
        if weighting == "cbrt":
            most = max(self.counts[1:])
            return (0.0, *((most / count) ** (1 / 3) for count in self.counts[1:]))
        return (0.0, *(1 / (share + 0.001) for share in self.shares[1:]))


_Row: TypeAlias = tuple[str, tuple[int, ...], int, float, int]

_KITTI_ROWS: Sequence[_Row] = (
    ("unlabeled", (0, 1, 52, 99), 0, 0.03150183342534689, 0),
    ("car", (10, 252), 10, 0.042607828674502385, 55_437_630),
    ("bicycle", (11,), 11, 0.00016609538710764618, 320_797),
    ("motorcycle", (15,), 15, 0.00039838616015114444, 541_736),
    ("truck", (18, 258), 18, 0.0021649398241338114, 2_578_735),
    ("other-vehicle", (13, 16, 20, 256, 257, 259), 20, 0.0018070552978863615, 3_274_484),
    ("person", (30, 254), 30, 0.0003375832743104974, 552_662),
    ("bicyclist", (31, 253), 31, 0.00012711105887399155, 184_064),
    ("motorcyclist", (32, 255), 32, 3.746106399997359e-05, 78_858),
    ("road", (40, 60), 40, 0.19879647126983288, 240_942_562),
    ("parking", (44,), 44, 0.014717169549888214, 17_294_618),
    ("sidewalk", (48,), 48, 0.14392298360372, 170_599_734),
    ("other-ground", (49,), 49, 0.0039048553037472045, 6_369_672),
    ("building", (50,), 50, 0.1326861944777486, 230_413_074),
    ("fence", (51,), 51, 0.0723592229456223, 101_130_274),
    ("vegetation", (70,), 70, 0.26681502148037506, 476_491_114),
    ("trunk", (71,), 71, 0.006035012012626033, 9_833_174),
    ("terrain", (72,), 72, 0.07814222006271769, 129_609_852),
    ("pole", (80,), 80, 0.002855498193863172, 4_506_626),
    ("traffic-sign", (81,), 81, 0.0006155958086189918, 1_168_181),
)
"""Name, raw ids, inverse id, share of all training points, training points."""

_KITTI_MOVING: Mapping[str, int] = {
    "moving-car": 252,
    "moving-bicyclist": 253,
    "moving-person": 254,
    "moving-motorcyclist": 255,
    "moving-other-vehicle": 259,
    "moving-truck": 258,
}

SEMANTICKITTI = LabelSet(
    "SemanticKITTI", *(tuple(column) for column in zip(*_KITTI_ROWS, strict=True))
)
"""The single-scan benchmark: moving and standing objects of a kind are one class."""

SEMANTICKITTI_MULTISCAN = LabelSet(
    "SemanticKITTI (multi-scan)",
    SEMANTICKITTI.classes + tuple(_KITTI_MOVING),
    tuple(
        tuple(raw for raw in raw_ids if raw not in _KITTI_MOVING.values())
        for raw_ids in SEMANTICKITTI.raw_ids
    )
    + tuple((raw,) for raw in _KITTI_MOVING.values()),
    SEMANTICKITTI.inverse + tuple(_KITTI_MOVING.values()),
)
"""The multi-scan benchmark: six moving classes of their own."""

_NUSCENES_ROWS: Sequence[tuple[str, tuple[int, ...], int]] = (
    ("ignore", (0, 1, 5, 7, 8, 10, 11, 13, 19, 20, 29, 31), 2_854_504),
    ("barrier", (9,), 7_291_443),
    ("bicycle", (14,), 141_614),
    ("bus", (15, 16), 4_239_939),
    ("car", (17,), 32_248_552),
    ("construction_vehicle", (18,), 1_583_610),
    ("motorcycle", (21,), 364_372),
    ("pedestrian", (2, 3, 4, 6), 2_346_381),
    ("traffic_cone", (12,), 582_961),
    ("trailer", (22,), 4_829_021),
    ("truck", (23,), 14_073_691),
    ("driveable_surface", (24,), 191_019_309),
    ("other_flat", (25,), 6_249_651),
    ("sidewalk", (26,), 55_095_657),
    ("terrain", (27,), 58_484_771),
    ("manmade", (28,), 193_834_360),
    ("vegetation", (30,), 131_378_779),
)
"""Name, raw ids, training points."""

_NUSCENES_POINTS = sum(count for _, _, count in _NUSCENES_ROWS)

NUSCENES = LabelSet(
    "nuScenes-lidarseg",
    classes=tuple(name for name, _, _ in _NUSCENES_ROWS),
    raw_ids=tuple(raw_ids for _, raw_ids, _ in _NUSCENES_ROWS),
    inverse=tuple(range(len(_NUSCENES_ROWS))),  # submissions hold training ids, never 0
    shares=tuple(count / _NUSCENES_POINTS for _, _, count in _NUSCENES_ROWS),
    counts=tuple(count for _, _, count in _NUSCENES_ROWS),
)
"""The 16 classes of the nuScenes-lidarseg challenge."""
