"""Point encoder and point-wise refinement of Cylinder3D: what happens before and after the cells.

Source: Zhu et al., CVPR 2021, sec. 3.2 and 3.5; code xinge008/Cylinder3D,
network/cylinder_fea_generator.py. The refinement is absent from the code: a reconstruction from
the paper and its author's remarks ("the mirror image of the encoder").
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kdsweep.models._sparse import BatchNorm

HIDDEN = (64, 128, 256)
"""Widths of the encoder's hidden layers in the published network."""


class PointLayer(nn.Module):
    """Linear, batch normalisation over all points of the batch, ReLU."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.bn = BatchNorm(out_features)

    def forward(self, x: Float[Tensor, "points inputs"]) -> Float[Tensor, "points outputs"]:
        return self.bn(self.linear(x)).relu()


class PointEncoder(nn.Module):
    """A small PointNet: an MLP per point, the maximum over each cell, a linear compression.

    Args:
        point_features: Features per input point (9, or 8 without intensity).
        hidden: Widths of the three hidden layers.
        point_channels: Channels D before the maximum.
        out_channels: Channels after the compression; 0 leaves the compression out.
    """

    def __init__(
        self, point_features: int, hidden: Sequence[int], point_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        widths = (point_features, *hidden)
        self.bn = BatchNorm(point_features)
        self.mlp = nn.ModuleList(map(PointLayer, widths[:-1], widths[1:]))
        self.project = nn.Linear(widths[-1], point_channels)
        self.compress = nn.Linear(point_channels, out_channels) if out_channels else None

    def forward(
        self,
        points: Float[Tensor, "points features"],
        point_to_voxel: Int[Tensor, " points"],
        num_voxels: int,
    ) -> tuple[Float[Tensor, "voxels channels"], list[Float[Tensor, "points _"]]]:
        """Encodes the points of every cell.

        Args:
            points: See `LidarSegBatch.points`.
            point_to_voxel: Row of the cell of each point; every cell holds at least one.
            num_voxels: Number of cells.

        Returns:
            Features per cell, and the activations after each hidden layer, per point.
        """
        x = self.bn(points)
        hidden = []
        for layer in self.mlp:
            x = layer(x)
            hidden.append(x)
        voxels = max_per_voxel(self.project(x), point_to_voxel, num_voxels)
        if self.compress is not None:
            voxels = self.compress(voxels).relu()
        return voxels, hidden


class _MaxPerVoxel(torch.autograd.Function):
    """`scatter_reduce` with a backward pass that is several times faster on CPU.

    The gradient of a maximum goes to the points that reach it, in equal parts (as in torch).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, point_to_voxel: Tensor, num_voxels: int) -> Tensor:
        index = point_to_voxel.unsqueeze(1).expand_as(x)
        empty = x.new_zeros(num_voxels, x.shape[1])
        highest = empty.scatter_reduce(0, index, x, "amax", include_self=False)
        ctx.save_for_backward(x, point_to_voxel, highest)
        return highest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, point_to_voxel, highest = ctx.saved_tensors
        reached = highest.index_select(0, point_to_voxel).eq_(x)
        ties = torch.zeros_like(highest).index_add_(0, point_to_voxel, reached)
        share = (grads[0] / ties).index_select(0, point_to_voxel)
        return share.mul_(reached), None, None


def max_per_voxel(
    x: Float[Tensor, "points channels"], point_to_voxel: Int[Tensor, " points"], num_voxels: int
) -> Float[Tensor, "voxels channels"]:
    """Maximum over the points of each cell; every cell must hold at least one point."""
    return _MaxPerVoxel.apply(x, point_to_voxel.long(), num_voxels)


class PointRefinement(nn.Module):
    """Sharpens cell features to points: the encoder's MLP mirrored, fed with its activations.

    Args:
        voxel_channels: Channels of the cell features.
        hidden: Widths of the encoder's hidden layers, in the encoder's order.
        num_classes: Classes of the point logits.
    """

    def __init__(self, voxel_channels: int, hidden: Sequence[int], num_classes: int) -> None:
        super().__init__()
        widths = tuple(reversed(hidden))
        inputs = (voxel_channels, *widths[:-1])
        self.layers = nn.ModuleList(
            PointLayer(x + skip, skip) for x, skip in zip(inputs, widths, strict=True)
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(
        self,
        voxel_features: Float[Tensor, "points voxel_channels"],
        hidden: Sequence[Float[Tensor, "points _"]],
    ) -> tuple[Float[Tensor, "points channels"], Float[Tensor, "points classes"]]:
        """Returns the point features (the last layer's activations) and the point logits.

        Args:
            voxel_features: Feature of each point's cell.
            hidden: What `PointEncoder` returned for the same points.
        """
        x = voxel_features
        for layer, skip in zip(self.layers, reversed(hidden), strict=True):
            x = layer(torch.cat((x, skip.to(x.dtype)), dim=1))
        return x, self.head(x)
