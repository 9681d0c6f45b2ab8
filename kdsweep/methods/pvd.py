"""Point-to-voxel knowledge distillation (PVD) for LiDAR segmentation.

Source: Hou et al., "Point-to-Voxel Knowledge Distillation for LiDAR Semantic Segmentation",
CVPR 2022, arXiv:2206.02099. Its repository, cardwing/Codes-for-PVKD, holds no distillation code, so
what the paper leaves open is reconstructed here. Field docstrings mark their source: [P] the paper
or a summary that agrees with it, [U] reported for the paper but unverified, [R] our reconstruction.

Only the four distillation terms are here; the three supervised ones belong to the task.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kdsweep.config import Count, Fraction, NonNegative, Positive, Weight
from kdsweep.errors import TapError
from kdsweep.geometry.supervoxel import (
    draw_supervoxels,
    num_blocks,
    sampling_weights,
    select_rows,
    supervoxel_ids,
)
from kdsweep.losses.affinity import affinity_distance
from kdsweep.losses.divergence import KLDirection, kl_divergence
from kdsweep.methods.base import Method, MethodConfig
from kdsweep.types import LidarSegBatch, Taps, Terms

_TAPS = {
    "point_output": "point_logits",
    "voxel_output": "voxel_logits",
    "point_affinity": "point_features",
    "voxel_affinity": "voxel_features",
}


class Config(MethodConfig):
    """Configuration of PVD."""

    point_output: Weight = 0.1
    """Weight of the KL divergence between point logits, alpha 1 [U]."""
    voxel_output: Weight = 0.15
    """Weight of the KL divergence between voxel logits, alpha 2 [U]."""
    point_affinity: Weight = 0.15
    """Weight of the affinities between points of a supervoxel, beta 1 [U]."""
    voxel_affinity: Weight = 0.25
    """Weight of the affinities between cells of a supervoxel, beta 2 [U]."""
    norm_output: Literal["dense", "occupied", "rows"] = "occupied"
    """Divides the summed KL of N rows by N x classes (``occupied`` [R]), by N (``rows`` [R]), or,
    for cells, by all cells of the grid x classes (``dense``: the paper's text [U], which makes the
    term about 100 times smaller)."""
    norm_affinity: Literal["literal", "valid_pairs"] = "literal"
    """Divides a supervoxel's summed squares by num_points^2 or num_voxels^2, as in the paper [U],
    or by the square of the rows it really has [R]."""
    temperature: Positive = 1.0
    """Softens the probabilities of both networks, and its square multiplies the output terms [R:
    the paper names none]."""
    kl_direction: KLDirection = "forward"
    """``forward`` is KL(teacher, student) [R], ``reverse`` KL(student, teacher); the paper's
    notation can be read as either."""
    supervoxel: tuple[Count, Count, Count] = (120, 60, 8)
    """Cells of a supervoxel along (rho, phi, z) [P, on a grid of 480 x 360 x 32]. More than the
    grid has means all of it; the last block of an axis may be smaller."""
    num_supervoxels: Count = 4
    """Supervoxels drawn from each scan in each step, K [U, weak]; all occupied ones where there are
    fewer [R]."""
    num_points: Count = 6000
    """Points kept of each supervoxel at most, Np [U, weak]."""
    num_voxels: Count = 4000
    """Occupied cells kept of each supervoxel at most, Nv [U, weak]."""
    class_gain: NonNegative = 4.0
    """g of the rarity factor f = g exp(-k N) + 1 that divides a supervoxel's weight, where N counts
    its cells of a minority class [U]; 0 samples by distance only."""
    class_decay: Positive = 2.0
    """k of the rarity factor [U]."""
    distance_exponent: NonNegative = 1.0
    """q of the distance factor (d / R)^q; 1 is the paper's [U]. 0 samples by class only, and
    uniformly where class_gain is 0 too."""
    minority_threshold: Fraction = 0.01
    """Classes with a smaller share of all labelled training points are minority classes [P]."""
    mask_unlabelled: bool = False
    """Leaves points and cells of label 0 out of all four terms. The terms need no labels, so all
    rows count by default [R]."""


class PVD(Method):
    """Distils logits, and the affinities within sampled supervoxels, of points and of voxels."""

    Config: ClassVar[type[MethodConfig]] = Config

    def __init__(self, config: Any, **taps: Any) -> None:
        """Checks the taps.

        Raises:
            TapError: A tap is missing, or the two networks predict different numbers of classes.
        """
        super().__init__(config, **taps)
        for tap in sorted(self.needs(config)[0] & {"point_logits", "voxel_logits"}):
            student, teacher = (taps[side][tap].channels for side in ("student", "teacher"))
            if student != teacher:
                raise TapError(
                    f"method 'pvd' compares tap {tap!r} class by class, but the student predicts "
                    f"{student} classes and the teacher {teacher}."
                )

    @classmethod
    def needs(cls, config: Any) -> tuple[frozenset[str], frozenset[str]]:
        """Taps of the terms whose weight is not 0, the same for student and teacher."""
        taps = frozenset(tap for term, tap in _TAPS.items() if getattr(config, term) > 0)
        return taps, taps

    def forward(self, *, student: Taps, teacher: Taps, batch: LidarSegBatch) -> Terms:
        """Computes the active terms; supervoxels and rows are drawn anew in every call."""
        config, active = self.config, self.active()
        both = {name: (student[name], teacher[name]) for name in self.needs(config)[0]}
        terms = {}
        for term in sorted(active & {"point_output", "voxel_output"}):
            terms[term] = output_loss(term, *both[_TAPS[term]], batch, config)
        if not active & {"point_affinity", "voxel_affinity"}:
            return terms
        sampled = sample_supervoxels(batch, Keys.draw(batch, config), config)
        literal = config.norm_affinity == "literal"
        if "point_affinity" in active:
            sets = [[rows.points for rows in scan] for scan in sampled]
            pad_to = config.num_points if literal else None
            terms["point_affinity"] = affinity_loss(*both["point_features"], sets, pad_to=pad_to)
        if "voxel_affinity" in active:
            sets = [[rows.voxels for rows in scan] for scan in sampled]
            pad_to = config.num_voxels if literal else None
            terms["voxel_affinity"] = affinity_loss(*both["voxel_features"], sets, pad_to=pad_to)
        return terms


@dataclass(frozen=True)
class Keys:
    """Random numbers, uniform in [0, 1), that decide which supervoxels and rows a step uses.

    They are drawn on the CPU, so every device makes the same choice, and in an order that gives a
    row the same number whatever the size of supervoxels.
    """

    points: Float[Tensor, " points"]
    voxels: Float[Tensor, " voxels"]
    supervoxels: Float[Tensor, "scans supervoxels"]

    @classmethod
    def draw(cls, batch: LidarSegBatch, config: Config) -> "Keys":
        """Takes new keys from torch's default CPU generator."""
        points = torch.rand(len(batch.point_labels), dtype=torch.float64)
        voxels = torch.rand(len(batch.voxel_labels), dtype=torch.float64)
        shape = len(batch.voxel_counts), prod(num_blocks(batch.grid, config.supervoxel))
        return cls(points, voxels, torch.rand(shape, dtype=torch.float64))


class Rows(NamedTuple):
    """Rows kept of one supervoxel, ascending."""

    points: Int[Tensor, " kept_points"]
    voxels: Int[Tensor, " kept_voxels"]


def sample_supervoxels(batch: LidarSegBatch, keys: Keys, config: Config) -> list[list[Rows]]:
    """Draws supervoxels of each scan by difficulty, and the rows kept of each.

    Returns:
        For each scan its supervoxels in the order drawn; none for a scan without (unmasked) cells.
    """
    grid, size, total = batch.grid, config.supervoxel, keys.supervoxels.shape[1]
    point_labels, voxel_labels = batch.point_labels.long(), batch.voxel_labels.long()
    minority = minority_classes(batch, config.minority_threshold)
    point_minority, voxel_minority = minority[point_labels], minority[voxel_labels]

    # ids count through the scans, so that a supervoxel belongs to one scan
    ids = supervoxel_ids(batch.voxel_coords[:, 1:], grid=grid, size=size)
    ids = ids + batch.voxel_coords[:, 0].long() * total
    point_ids = ids[batch.point_to_voxel.long()]
    if config.mask_unlabelled:
        ids = torch.where(voxel_labels != 0, ids, -1)
        point_ids = torch.where(point_labels != 0, point_ids, -1)

    num_ids = len(batch.voxel_counts) * total
    occupied = torch.bincount(ids[ids >= 0], minlength=num_ids)
    rare = torch.bincount(ids[(ids >= 0) & voxel_minority], minlength=num_ids)
    counts = torch.stack([occupied, rare]).cpu().view(2, -1, total)  # one transfer, exact integers
    point_keys, voxel_keys = keys.points.to(ids.device), keys.voxels.to(ids.device)
    sampled = []
    for scan, (num_voxels, num_minority) in enumerate(counts.unbind(dim=1)):
        weights = sampling_weights(
            num_voxels,
            num_minority,
            grid=grid,
            size=size,
            class_gain=config.class_gain,
            class_decay=config.class_decay,
            distance_exponent=config.distance_exponent,
        )
        drawn = draw_supervoxels(weights, keys.supervoxels[scan], config.num_supervoxels)
        sampled.append(
            [
                Rows(
                    select_rows(point_ids == id_, point_minority, point_keys, config.num_points),
                    select_rows(ids == id_, voxel_minority, voxel_keys, config.num_voxels),
                )
                for id_ in (scan * total + supervoxel for supervoxel in drawn)
            ]
        )
    return sampled


def minority_classes(batch: LidarSegBatch, threshold: float) -> Bool[Tensor, " classes"]:
    """Which training ids are rare; the ignored id 0 never is.

    Shares are those of the data set where the batch carries them, else of the batch's own points.
    """
    device = batch.point_labels.device
    if batch.class_shares:
        shares = torch.tensor(batch.class_shares, dtype=torch.float64, device=device)
    else:
        labels = torch.cat([batch.point_labels.long(), batch.voxel_labels.long()])
        num_classes = int(labels.max()) + 1 if len(labels) else 1
        counts = torch.bincount(batch.point_labels.long(), minlength=num_classes)
        counts[0] = 0
        shares = counts.double() / counts.sum().clamp_min(1)
    rare = shares < threshold
    rare[0] = False
    return rare


def output_loss(
    term: str, student: Tensor, teacher: Tensor, batch: LidarSegBatch, config: Config
) -> Tensor:
    """KL divergence of all rows of a batch, divided as `Config.norm_output` says."""
    if config.mask_unlabelled:
        labels = batch.point_labels if term == "point_output" else batch.voxel_labels
        student, teacher = student[labels != 0], teacher[labels != 0]
    divergence = kl_divergence(
        student, teacher, temperature=config.temperature, direction=config.kl_direction
    )
    rows, classes = student.shape
    if config.norm_output == "dense" and term == "voxel_output":
        rows = len(batch.voxel_counts) * prod(batch.grid)
    return divergence.sum() / (max(rows, 1) * (1 if config.norm_output == "rows" else classes))


def affinity_loss(
    student: Tensor, teacher: Tensor, sets: list[list[Tensor]], *, pad_to: int | None
) -> Tensor:
    """Squared affinity differences: mean over pairs, then over supervoxels, then over scans.

    Args:
        student: Features of the student.
        teacher: Features of the teacher, same rows.
        sets: For each scan the rows kept of each of its supervoxels; no row twice.
        pad_to: Rows that every set counts as having (Np or Nv): what is missing are zero rows,
            whose pairs add nothing. None counts the rows there are.
    """
    rows = [kept for scan in sets for kept in scan]
    sizes = [len(kept) for kept in rows]
    # one gather for all sets: the gradient of each is as large as the whole feature matrix
    gathered = torch.cat([*rows, torch.empty(0, dtype=torch.long, device=student.device)])
    student, teacher = student[gathered], teacher[gathered]
    pairs = zip(student.split(sizes), teacher.split(sizes), strict=True)
    shares = [1.0 / (len(scan) * len(sets)) for scan in sets for _ in scan]
    loss = student[:0].float().sum()  # of no rows: a zero that back-propagates
    for (student_set, teacher_set), share, size in zip(pairs, shares, sizes, strict=True):
        count = pad_to or max(size, 1)
        loss = loss + affinity_distance(student_set, teacher_set) * (share / count**2)
    return loss
