"""What methods check about a pair of taps before any data is read."""

from collections.abc import Mapping

from kdsweep.errors import TapError
from kdsweep.types import TapInfo


def same_classes(
    method: str, tap: str, *, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]
) -> None:
    """Makes sure that both networks give logits of the same classes under a name.

    Raises:
        TapError: The tap is not made of logits, or the numbers of classes differ.
    """
    for side, infos in (("student", student), ("teacher", teacher)):
        axes = infos[tap].axes
        if len(axes) != 2 or axes[1] != "classes":
            raise TapError(
                f"method {method!r} compares class probabilities, but tap {tap!r} of the {side} "
                f"has the axes {', '.join(axes)}; it must have rows and classes."
            )
    if student[tap].channels != teacher[tap].channels:
        raise TapError(
            f"method {method!r} compares tap {tap!r} class by class, but the student predicts "
            f"{student[tap].channels} classes and the teacher {teacher[tap].channels}."
        )
