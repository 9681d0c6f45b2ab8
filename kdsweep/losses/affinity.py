"""Cosine affinities within a set of features, and how far two networks' affinities are apart.

Source: Hou et al., "Point-to-Voxel Knowledge Distillation", CVPR 2022, the affinity loss
[`C(i, j) = <f_i, f_j> / (|f_i| |f_j|)`, squared differences]. Affinities compare rows within one
network, so student and teacher may differ in channels.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kdsweep.losses.precision import in_float32

_EPS = 1e-8


@in_float32
def unit_rows(features: Float[Tensor, "rows channels"]) -> Float[Tensor, "rows channels"]:
    """Divides each row by its Euclidean norm, but by no less than 1e-8.

    A row that is exactly zero stays zero and gets no gradient: with the bound alone its gradient
    would be 1e8 times the incoming one.
    """
    norms = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features * torch.where(norms > 0, 1.0 / norms.clamp_min(_EPS), 0.0)


@in_float32
def cosine_affinity(features: Float[Tensor, "rows channels"]) -> Float[Tensor, "rows rows"]:
    """Cosine of every pair of rows, -1..1; pairs with a zero row give 0."""
    unit = unit_rows(features)
    return unit @ unit.T


@in_float32
def affinity_distance(
    student: Float[Tensor, "rows student_channels"],
    teacher: Float[Tensor, "rows teacher_channels"],
) -> Float[Tensor, ""]:
    """Sum over all ordered pairs of rows of the squared difference of the two cosine affinities.

    Zero rows appended to both change nothing, so padding never has to be made.

    With S and T the unit rows, the sum is ``|S S^T - T T^T|^2``. Where rows are many it is taken
    from channels x channels matrices instead, ``|S^T S|^2 - 2 |S^T T|^2 + |T^T T|^2``, so that time
    and memory grow with the rows and not with their square. That difference cancels, hence
    float64. How exact and how much faster it is, and from where on it pays:
    tests/benchmarks/bench_affinity.py.

    Args:
        student: Features of the student, rows in the teacher's order.
        teacher: Features of the teacher; no gradient flows to them.

    Returns:
        A sum, 0..4 rows^2; 0 for no rows. Divide it by the number of pairs that should count.
    """
    student_unit, teacher_unit = unit_rows(student), unit_rows(teacher.detach())
    if len(student_unit) <= 2 * (student_unit.shape[1] + teacher_unit.shape[1]):
        return (student_unit @ student_unit.T - teacher_unit @ teacher_unit.T).square().sum()
    dtype = torch.promote_types(student_unit.dtype, teacher_unit.dtype)
    student_unit, teacher_unit = student_unit.double(), teacher_unit.double()
    return (
        (student_unit.T @ student_unit).square().sum()
        - 2.0 * (student_unit.T @ teacher_unit).square().sum()
        + (teacher_unit.T @ teacher_unit).square().sum()
    ).to(dtype)
