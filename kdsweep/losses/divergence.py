"""Divergences between the class probabilities of a student and those of its teacher.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531,
sec. 2: softened probabilities, and the factor T^2 that keeps gradients comparable across
temperatures.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from kdsweep.losses.precision import in_float32

KLDirection = Literal["forward", "reverse"]


@in_float32
def kl_divergence(
    student_logits: Float[Tensor, "rows classes"],
    teacher_logits: Float[Tensor, "rows classes"],
    *,
    temperature: float = 1.0,
    direction: KLDirection = "forward",
) -> Float[Tensor, " rows"]:
    """Kullback-Leibler divergence of each row, times the temperature squared.

    The forward one has the gradient of the cross-entropy against soft targets; it is smaller by the
    teacher's entropy (times the temperature squared), so it is 0 where the student equals its
    teacher.

    Args:
        student_logits: Unnormalised scores of the student.
        teacher_logits: Unnormalised scores of the teacher; no gradient flows to them.
        temperature: Divides the logits of both, > 0.
        direction: ``forward`` is KL(teacher, student), the expectation under the teacher, which
            makes the student cover all that the teacher holds possible; ``reverse`` is
            KL(student, teacher).

    Returns:
        One value >= 0 (up to rounding) per row, in nats.
    """
    student = (student_logits / temperature).log_softmax(dim=1)
    teacher = (teacher_logits.detach() / temperature).log_softmax(dim=1)
    gap = teacher - student
    rows = (teacher.exp() * gap) if direction == "forward" else (student.exp() * -gap)
    return rows.sum(dim=1) * temperature**2


def mean_kl_divergence(
    student_logits: Float[Tensor, "rows classes"],
    teacher_logits: Float[Tensor, "rows classes"],
    *,
    temperature: float = 1.0,
    direction: KLDirection = "forward",
) -> Float[Tensor, ""]:
    """Mean of `kl_divergence` over all rows; without rows a 0 that back-propagates."""
    divergence = kl_divergence(
        student_logits, teacher_logits, temperature=temperature, direction=direction
    )
    return divergence.sum() / max(len(divergence), 1)
