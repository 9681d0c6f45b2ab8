"""Relational knowledge distillation (RKD).

Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068, sec. 3.2;
code lenscloth/RKD@0a6c3c0, metric/loss.py.
Differs from the source: see `kdsweep.losses.relation`; the soft targets of Hinton et al. can be
added, as the paper does for classification. With several workers, relations are those within each
worker's part of the batch.
"""

from typing import Any, ClassVar, Literal

from torch import Tensor

from kdsweep.config import Positive, Weight
from kdsweep.losses.affinity import unit_rows
from kdsweep.losses.divergence import mean_kl_divergence
from kdsweep.losses.relation import rkd_angle, rkd_distance
from kdsweep.methods._checks import same_classes
from kdsweep.methods.base import Method, MethodConfig
from kdsweep.types import Batch, Taps, Terms


class Config(MethodConfig):
    """Configuration of RKD; the defaults are those published for metric learning."""

    distance: Weight = 1.0
    """Weight of the pairwise-distance term, lambda D (25 beside a task loss)."""
    angle: Weight = 2.0
    """Weight of the triplet-angle term, lambda A (50 beside a task loss). All published settings
    have twice the weight of the distance term."""
    soft_targets: Weight = 0.0
    """Weight of the teacher's softened class probabilities (Hinton et al.), for classification."""
    temperature: Positive = 4.0
    """Softens the probabilities of the soft targets; its square multiplies their term."""
    tap: Literal["embedding", "pooled", "logits", "layer4"] = "embedding"
    """What is related: the final embedding, or, for classification, the pooled feature. A feature
    map (``layer4``, as in torchdistill's sample) is flattened."""
    l2_norm: bool = False
    """Bring the related taps of both networks to unit length first, as MMRazor's port does."""


class RKD(Method):
    """Distils the distances and angles between the samples of a batch; widths may differ."""

    Config: ClassVar[type[MethodConfig]] = Config

    def __init__(self, config: Any, **taps: Any) -> None:
        """Checks the taps.

        Raises:
            TapError: A tap is missing, or soft targets are wanted of different classes.
        """
        super().__init__(config, **taps)
        if config.soft_targets > 0:
            same_classes("rkd", "logits", **taps)

    @classmethod
    def needs(cls, config: Any) -> tuple[frozenset[str], frozenset[str]]:
        """The related tap, and logits for soft targets, the same for student and teacher."""
        taps = set()
        if config.distance > 0 or config.angle > 0:
            taps.add(config.tap)
        if config.soft_targets > 0:
            taps.add("logits")
        return frozenset(taps), frozenset(taps)

    def forward(self, *, student: Taps, teacher: Taps, batch: Batch) -> Terms:
        """Computes the active terms over all samples of the batch."""
        config, active, terms = self.config, self.active(), Terms()
        if active & {"distance", "angle"}:
            sides = {"student": self._points(student), "teacher": self._points(teacher)}
            if "distance" in active:
                terms["distance"] = rkd_distance(**sides)
            if "angle" in active:
                terms["angle"] = rkd_angle(**sides)
        if "soft_targets" in active:
            terms["soft_targets"] = mean_kl_divergence(
                student["logits"], teacher["logits"], temperature=config.temperature
            )
        return terms

    def _points(self, taps: Taps) -> Tensor:
        points = taps[self.config.tap].flatten(1)
        return unit_rows(points) if self.config.l2_norm else points
