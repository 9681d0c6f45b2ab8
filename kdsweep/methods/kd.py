"""Knowledge distillation by softened class probabilities (KD).

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531,
sec. 2.
Differs from the source: the divergence instead of the cross-entropy (equal gradients; 0 where the
student equals its teacher). The source gives the supervised loss "a considerably lower weight" and
names no numbers; weights here are relative to it.
"""

from typing import Any, ClassVar

from kdsweep.config import Positive, Weight
from kdsweep.losses.divergence import mean_kl_divergence
from kdsweep.methods._checks import same_classes
from kdsweep.methods.base import Method, MethodConfig
from kdsweep.types import Batch, Taps, Terms


class Config(MethodConfig):
    """Configuration of KD."""

    soft_targets: Weight = 1.0
    """Weight of the divergence from the teacher's softened probabilities, mean over rows. The
    default, with a supervised weight of 1, is ours: the source only says that it dominates."""
    temperature: Positive = 4.0
    """Divides the logits of both; its square multiplies the term, as in the source. The source used
    1 to 20; 4 is customary for image classification."""
    tap: str = "logits"
    """Which logits: ``logits`` of images, ``point_logits`` or ``voxel_logits`` of LiDAR scans, or
    any other tap of rows and classes."""


class KD(Method):
    """Distils class probabilities, row by row."""

    Config: ClassVar[type[MethodConfig]] = Config

    def __init__(self, config: Any, **taps: Any) -> None:
        """Checks the taps.

        Raises:
            TapError: The tap is missing, is not made of logits, or its classes differ.
        """
        super().__init__(config, **taps)
        if self.active():
            same_classes("kd", config.tap, **taps)

    @classmethod
    def needs(cls, config: Any) -> tuple[frozenset[str], frozenset[str]]:
        """The logits, of student and teacher."""
        taps = frozenset({config.tap} if config.soft_targets > 0 else ())
        return taps, taps

    def forward(self, *, student: Taps, teacher: Taps, batch: Batch) -> Terms:
        """Computes the term over all rows of the batch."""
        config = self.config
        if not self.active():
            return {}
        return {
            "soft_targets": mean_kl_divergence(
                student[config.tap], teacher[config.tap], temperature=config.temperature
            )
        }
