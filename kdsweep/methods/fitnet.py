"""Hints from a hidden layer (FitNets).

Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550, sec. 2.2,
eq. 3: a regressor on the student's guided layer predicts the teacher's hint layer.
Differs from the source: mean of squares instead of half their sum, so that the weight does not
depend on the layer's size; hints act during the whole training instead of a first stage of it
(`train.kd_warmup_epochs` is the opposite ramp); the regressor is a 1x1 convolution, which needs no
equal sizes: the larger of two maps is average-pooled to the smaller one.
"""

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from kdsweep.config import Weight
from kdsweep.errors import TapError
from kdsweep.losses.precision import in_float32
from kdsweep.methods.base import Method, MethodConfig
from kdsweep.types import Batch, TapInfo, Taps, Terms


class Config(MethodConfig):
    """Configuration of FitNets."""

    hint: Weight = 1.0
    """Weight of the mean squared error between regressor and hint. The source has no weight: its
    first stage trains on the hint alone."""
    tap: str = "layer3"
    """The student's guided layer: a feature map, or rows of channels. The source takes the middle
    layer of both networks."""
    teacher_tap: str = ""
    """The teacher's hint layer; empty = the same name as `tap`."""

    @property
    def hint_tap(self) -> str:
        """Name of the teacher's hint layer."""
        return self.teacher_tap or self.tap


class FitNet(Method):
    """Distils one hidden layer through a linear regressor, which is dropped afterwards."""

    Config: ClassVar[type[MethodConfig]] = Config

    def __init__(self, config: Any, **taps: Any) -> None:
        """Builds the regressor.

        Raises:
            TapError: A tap is missing, or the rows of the two taps are not the same things.
        """
        super().__init__(config, **taps)
        self.regressor: nn.Module | None = None
        if self.active():
            guided, hint = taps["student"][config.tap], taps["teacher"][config.hint_tap]
            self.regressor = _regressor(config, guided, hint)

    @classmethod
    def needs(cls, config: Any) -> tuple[frozenset[str], frozenset[str]]:
        """The guided layer of the student and the hint layer of the teacher."""
        if config.hint == 0:
            return frozenset(), frozenset()
        return frozenset({config.tap}), frozenset({config.hint_tap})

    def forward(self, *, student: Taps, teacher: Taps, batch: Batch) -> Terms:
        """Computes the term over all elements of the hint layer."""
        if self.regressor is None:
            return {}
        guided, hint = student[self.config.tap].float(), teacher[self.config.hint_tap].float()
        guided, hint = _smaller_maps(guided, hint)
        return {"hint": _mean_square(self.regressor(guided), hint)}


def _regressor(config: Any, guided: TapInfo, hint: TapInfo) -> nn.Module:
    spatial = len(guided.axes) - 2
    if len(hint.axes) - 2 != spatial or guided.axes[0] != hint.axes[0] or spatial not in (0, 2):
        raise TapError(
            f"method 'fitnet' cannot pair tap {config.tap!r} of the student (axes "
            f"{', '.join(guided.axes)}) with tap {config.hint_tap!r} of the teacher (axes "
            f"{', '.join(hint.axes)}): both must be feature maps, or channels of the same rows."
        )
    if spatial == 0:
        return nn.Linear(guided.channels, hint.channels)
    return nn.Conv2d(guided.channels, hint.channels, kernel_size=1)


def _smaller_maps(guided: Tensor, hint: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pools feature maps, along each side, to the smaller of the two sizes."""
    if guided.dim() != 4 or guided.shape[2:] == hint.shape[2:]:
        return guided, hint
    sides = zip(guided.shape[2:], hint.shape[2:], strict=True)
    height, width = (min(pair) for pair in sides)
    return tuple(  # type: ignore[return-value]
        F.adaptive_avg_pool2d(tap, (height, width)) for tap in (guided, hint)
    )


@in_float32
def _mean_square(predicted: Tensor, hint: Tensor) -> Tensor:
    return (predicted - hint.detach()).square().sum() / max(predicted.numel(), 1)
