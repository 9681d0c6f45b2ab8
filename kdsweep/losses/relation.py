"""Relations between the embeddings of one mini-batch: pairwise distances and triplet angles.

Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068, sec. 3.2;
code lenscloth/RKD@0a6c3c0, metric/loss.py.
Differs from the source: distances are direct differences instead of the Gram form (which loses
digits far from the origin); an edge of length zero in the student carries no gradient (the
source multiplies it by 1e12); the angle term is computed in blocks of vertices, so that it needs
O(N^2) memory instead of O(N^3), with the same value.

Both terms are computed in float32 or better: in float16 the angle term is NaN.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kdsweep.losses.precision import in_float32

EPS = 1e-12
"""Squared distances and edge lengths are clamped here, as in the source."""

BLOCK_ELEMENTS = 1 << 19
"""Elements that a block of vertices may hold in one of its cubes on the CPU: 2 MiB of float32, of
which several fit its cache."""

GPU_BLOCKS = 16
"""How many times larger blocks are on a GPU, where many small kernels would cost more."""


@in_float32
def rkd_distance(
    *, student: Float[Tensor, "batch student_dim"], teacher: Float[Tensor, "batch teacher_dim"]
) -> Float[Tensor, ""]:
    """Distance-wise loss L_D (RKD eq. 5 to 7): smooth-L1 between mean-normalised distances.

    The mean distance of the student is not detached, so the loss ignores shifts and scale. The
    mean runs over all N^2 pairs, the zero diagonal included, as in the source. One embedding
    alone has no relations and gives 0.

    Args:
        student: Embeddings of the student; gradients flow.
        teacher: Embeddings of the teacher for the same samples in the same order; detached.

    Returns:
        A scalar >= 0 in float32 (float64 for float64 input).
    """
    if len(student) < 2:
        return student.sum() * 0.0
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher.detach()))


def _relative_distances(points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch batch"]:
    """Euclidean distances divided by their mean over all pairs of different points."""
    num = len(points)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    # The clamp counts coinciding points at 1e-6 and, as in the source, blocks their gradient.
    distances = distances.clamp_min(EPS**0.5)
    diagonal = torch.eye(num, dtype=torch.bool, device=points.device)
    distances = distances.masked_fill(diagonal, 0.0)
    return distances / (distances.sum() / (num * (num - 1)))


@in_float32
def rkd_angle(
    *, student: Float[Tensor, "batch student_dim"], teacher: Float[Tensor, "batch teacher_dim"]
) -> Float[Tensor, ""]:
    """Angle-wise loss L_A (RKD eq. 8 to 10): smooth-L1 between the cosines of all triplets.

    The mean runs over all N^3 triplets, degenerate ones included, as in the source. The gradient
    is computed together with the value, one block of vertices after the other, so memory is
    O(N^2); it cannot be differentiated a second time.

    Args:
        student: Embeddings of the student; gradients flow.
        teacher: Embeddings of the teacher for the same samples in the same order; detached.

    Returns:
        A scalar >= 0 in float32 (float64 for float64 input).
    """
    return _Angle.apply(student, teacher.detach())


class _Angle(torch.autograd.Function):
    """Value and gradient in one pass over blocks of vertices."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        num = len(student)
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(student) if needs_gradient else None
        zero = torch.zeros((), dtype=student.dtype, device=student.device)
        # Sums of blocks are added in float64: N^3 terms would lose digits in float32.
        total = torch.zeros((), dtype=torch.float64, device=student.device)
        widest = max(num, student.shape[1], teacher.shape[1])
        elements = BLOCK_ELEMENTS * (1 if student.device.type == "cpu" else GPU_BLOCKS)
        block = max(1, elements // max(1, num * widest))
        for start in range(0, num, block):
            vertices = slice(start, min(start + block, num))
            edges, inverse_lengths = _unit_edges(student, vertices)
            teacher_edges, _ = _unit_edges(teacher, vertices)
            difference = edges @ edges.mT
            difference.baddbmm_(teacher_edges, teacher_edges.mT, alpha=-1.0)
            total += F.smooth_l1_loss(difference, zero.expand_as(difference), reduction="sum")
            if gradient is not None:
                # d smooth-L1 / d cosine is the difference, clamped; the cosine matrix of a vertex
                # is U U^T and its derivative matrix is symmetric: d/dU = 2 (derivative) U.
                to_edges = torch.bmm(difference.clamp_(-1.0, 1.0), edges).mul_(2.0)
                # Through u = v / |v|: remove the part along u, divide by the length.
                to_edges -= edges * (edges * to_edges).sum(dim=2, keepdim=True)
                to_edges *= inverse_lengths
                gradient += to_edges.sum(dim=0)
                gradient[vertices] -= to_edges.sum(dim=1)
        cubed = float(max(1, num)) ** 3
        if gradient is not None:
            ctx.save_for_backward(gradient.div_(cubed))
        return (total / cubed).to(student.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None


def _unit_edges(
    points: Float[Tensor, "batch dim"], vertices: slice
) -> tuple[Float[Tensor, "vertices batch dim"], Float[Tensor, "vertices batch 1"]]:
    """Unit vectors from some vertices to all points, and 1 / length (0 for coinciding points)."""
    edges = points.unsqueeze(0) - points[vertices].unsqueeze(1)
    lengths = torch.linalg.vector_norm(edges, dim=2, keepdim=True)
    inverse = torch.where(lengths > EPS, lengths.clamp_min(EPS).reciprocal(), 0.0)
    return edges.mul_(inverse), inverse
