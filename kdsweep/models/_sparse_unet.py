"""The asymmetric sparse U-Net of Cylinder3D.

Source: Zhu et al., CVPR 2021, sec. 3.3 (asymmetric residual blocks) and 3.4 (dimension
decomposition, DDCM); code xinge008/Cylinder3D, network/segmentator_3d_asymm_spconv.py.
Differs from the code: each kernel shape has its own index pairs, as in the paper. The code gives
different kernels one key, so that under spconv 1 the later ones ran with the first one's geometry.

Kernels are over (rho, phi, z). `i` is the number of channels after the first block.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kdsweep.models._sparse import (
    BatchNorm,
    DownConv,
    InverseConv,
    Kernel,
    SubMConv,
    sparse_tensor,
)

A: Kernel = (1, 3, 3)
B: Kernel = (3, 1, 3)
CUBE: Kernel = (3, 3, 3)
AXES: tuple[Kernel, ...] = ((3, 1, 1), (1, 3, 1), (1, 1, 3))
STRIDES: tuple[Kernel, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 1), (2, 2, 1))


class Unit(nn.Module):
    """Submanifold convolution, LeakyReLU(0.01), batch normalisation: in this order."""

    def __init__(self, level: int, in_channels: int, out_channels: int, kernel: Kernel) -> None:
        super().__init__()
        self.conv = SubMConv(level, in_channels, out_channels, kernel)
        self.act = nn.LeakyReLU(0.01, inplace=True)
        self.bn = BatchNorm(out_channels)

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        return y.replace_feature(self.bn(self.act(y.features)))


class ResBlock(nn.Module):
    """Two branches of two units with the kernels in opposite order; the output is their sum."""

    def __init__(
        self, level: int, in_channels: int, out_channels: int, first: Kernel, second: Kernel
    ) -> None:
        super().__init__()
        self.branch1 = nn.Sequential(
            Unit(level, in_channels, out_channels, first),
            Unit(level, out_channels, out_channels, second),
        )
        self.branch2 = nn.Sequential(
            Unit(level, in_channels, out_channels, second),
            Unit(level, out_channels, out_channels, first),
        )

    def forward(self, x: Any) -> Any:
        y = self.branch1(x)
        return y.replace_feature(y.features + self.branch2(x).features)


class Down(nn.Module):
    """Residual block to twice the channels (the skip), then a strided convolution (the output)."""

    def __init__(self, level: int, in_channels: int) -> None:
        super().__init__()
        self.res = ResBlock(level, in_channels, 2 * in_channels, B, A)
        self.pool = DownConv(level, 2 * in_channels, STRIDES[level])

    def forward(self, x: Any) -> tuple[Any, Any]:
        """Returns the pooled tensor and the skip."""
        skip = self.res(x)
        return self.pool(skip), skip


class Up(nn.Module):
    """One step of the decoder: from ``level + 1`` back to ``level``, adding the skip."""

    def __init__(self, level: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pre = Unit(level + 1, in_channels, out_channels, CUBE)
        self.inv = InverseConv(level, out_channels)
        self.post = nn.Sequential(
            *(Unit(level, out_channels, out_channels, kernel) for kernel in (A, B, CUBE))
        )

    def forward(self, x: Any, skip: Any) -> Any:
        y = self.inv(self.pre(x))
        return self.post(y.replace_feature(y.features + skip.features))


class Gate(nn.Module):
    """One kernel of the DDCM: sigmoid(BN(convolution)), values in 0..1."""

    def __init__(self, channels: int, kernel: Kernel) -> None:
        super().__init__()
        self.conv = SubMConv(0, channels, channels, kernel)
        self.bn = BatchNorm(channels)

    def forward(self, x: Any) -> Float[Tensor, "voxels channels"]:
        return self.bn(self.conv(x).features).sigmoid()


class DDCM(nn.Module):
    """Dimension-decomposition context module: scales its input by the sum of three gates (0..3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(Gate(channels, kernel) for kernel in AXES)

    def forward(self, x: Any) -> Any:
        rho, phi, z = (gate(x) for gate in self.gates)
        return x.replace_feature((rho + phi + z) * x.features)


class SparseUNet(nn.Module):
    """Voxel features to voxel features (4i channels) and voxel logits.

    Args:
        in_channels: Channels of the input features.
        init_size: `i`; 32 in the published network.
        num_classes: Classes of the head.
    """

    def __init__(self, in_channels: int, init_size: int, num_classes: int) -> None:
        super().__init__()
        i = init_size
        self.out_channels = 4 * i
        self.ctx = ResBlock(0, in_channels, i, A, B)
        self.down1 = Down(0, i)
        self.down2 = Down(1, 2 * i)
        self.down3 = Down(2, 4 * i)
        self.down4 = Down(3, 8 * i)
        self.up4 = Up(3, 16 * i, 16 * i)
        self.up3 = Up(2, 16 * i, 8 * i)
        self.up2 = Up(1, 8 * i, 4 * i)
        self.up1 = Up(0, 4 * i, 2 * i)
        self.ddcm = DDCM(2 * i)
        self.head = SubMConv(0, 4 * i, num_classes, CUBE, bias=True)

    def forward(
        self,
        features: Float[Tensor, "voxels in_channels"],
        coords: Int[Tensor, "voxels 4"],
        *,
        grid: tuple[int, int, int],
        batch_size: int,
    ) -> tuple[Float[Tensor, "voxels channels"], Float[Tensor, "voxels classes"]]:
        """Runs the network; both outputs have the rows of `coords`.

        Args:
            features: At least one row.
            coords: Unique ``(scan, rho, phi, z)``, int32.
            grid: Cells along (rho, phi, z).
            batch_size: Number of scans.

        Returns:
            The input of the head, ``[ddcm(u), u]``, and the logits.
        """
        x = self.ctx(sparse_tensor(features, coords, grid=grid, batch_size=batch_size))
        x, skip1 = self.down1(x)
        x, skip2 = self.down2(x)
        x, skip3 = self.down3(x)
        x, skip4 = self.down4(x)
        x = self.up4(x, skip4)
        x = self.up3(x, skip3)
        x = self.up2(x, skip2)
        u = self.up1(x, skip1)
        both = concat(self.ddcm(u), u)
        return both.features, self.head(both).features


def concat(first: Any, second: Any) -> Any:
    """Joins the channels of two tensors on the same cells."""
    return first.replace_feature(torch.cat((first.features, second.features), dim=1))
