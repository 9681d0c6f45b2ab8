"""The contract of a distillation method: one file, whose name is the method's key."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

from torch import nn

from kdsweep.config import Config, weights
from kdsweep.errors import TapError, did_you_mean
from kdsweep.types import TapInfo, Taps, Terms


class MethodConfig(Config):
    """Base of a method's configuration; its fields typed `Weight` name the method's terms."""


class Method(nn.Module):
    """Turns the taps of a student and its teacher into unweighted loss terms.

    A module, because some methods own adapters: they train with the student and are saved apart
    from it. A method never sees the optimiser, the device or the tracker. Random choices use
    torch's default CPU generator, which the engine seeds for every step.

    Attributes:
        Config: The method's configuration class; its defaults are the published setting.
    """

    Config: ClassVar[type[MethodConfig]]

    def __init__(
        self,
        config: Any,
        *,
        student: Mapping[str, TapInfo],
        teacher: Mapping[str, TapInfo],
    ) -> None:
        """Checks that both models give what the method needs.

        Raises:
            TapError: A tap is missing; the message names it and lists what the model gives.
        """
        super().__init__()
        self.config = config
        needs_student, needs_teacher = self.needs(config)
        for side, needed, given in (
            ("student", needs_student, student),
            ("teacher", needs_teacher, teacher),
        ):
            for tap in sorted(needed - set(given)):
                raise TapError(
                    f"method {type(self).__module__.rsplit('.', 1)[-1]!r} needs tap {tap!r} of the "
                    f"{side}, which does not give it. {did_you_mean(tap, given)}"
                )

    @classmethod
    def needs(cls, config: Any) -> tuple[frozenset[str], frozenset[str]]:
        """Taps needed of the student and of the teacher, for the terms whose weight is not 0."""
        raise NotImplementedError

    def forward(self, *, student: Taps, teacher: Taps, batch: Any) -> Terms:
        """Computes exactly the terms whose weight is not 0, unweighted, as scalars in float32.

        Args:
            student: Taps of the student; gradients flow.
            teacher: Taps of the teacher, detached; same rows in the same order.
            batch: The task's batch, on the taps' device.
        """
        raise NotImplementedError

    def active(self) -> frozenset[str]:
        """Names of the terms whose weight is not 0."""
        return frozenset(name for name, weight in weights(self.config).items() if weight > 0)


def method_class(module: ModuleType) -> type[Method]:
    """The one `Method` that a method file defines."""
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    )
    return found
