"""Cylinder3D: LiDAR segmentation on a cylindrical grid with asymmetric sparse convolutions.

Source: Zhu et al., "Cylindrical and Asymmetrical 3D Convolution Networks for LiDAR Segmentation",
CVPR 2021; code xinge008/Cylinder3D. Differs from the code: every kernel shape has its own index
pairs (see `_sparse_unet`), and the paper's point-wise refinement is available.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from kdsweep.config import Count
from kdsweep.errors import CheckpointError, SpecError
from kdsweep.models._pair_counts import pair_counts
from kdsweep.models._point_encoder import HIDDEN, PointEncoder, PointRefinement
from kdsweep.models._slicing import State, slice_state
from kdsweep.models._sparse import Convolution
from kdsweep.models._sparse_unet import SparseUNet
from kdsweep.models.base import Model, ModelConfig
from kdsweep.types import LidarSegBatch, ModelInput, TapInfo, Taps

INIT_SIZE = 32
"""Channels after the first block of the published network (width 1.0)."""


class Config(ModelConfig):
    """Size of a Cylinder3D; the defaults are the published network."""

    in_channels: Annotated[int, Field(ge=0)] = 0
    """Channels of a cell that enter the sparse network; 0 = as published: the channels after its
    first block, at most 16."""
    point_channels: Count = 256
    """Channels per point before the maximum over a cell (`out_fea_dim`), at width 1.0."""
    refinement: bool = False
    """Point-wise refinement: points get logits of their own instead of their cell's."""
    slim_encoder: bool = False
    """Scale the point encoder with `width` too: its hidden layers and `point_channels`, each to at
    least 8. The published smaller networks keep it whole, where it soon costs most."""

    @property
    def init_size(self) -> int:
        """Channels after the first block of the sparse network: 32 at width 1.0, at least 2."""
        return max(2, round(INIT_SIZE * self.width))

    def encoder_width(self, published: int) -> int:
        """Channels of an encoder layer, given those of the published network."""
        return max(8, round(published * self.width)) if self.slim_encoder else published


class Cylinder3D(Model):
    """Points of LiDAR scans to logits of their cells and of the points themselves.

    Taps:
        voxel_features: Input of the head, per cell (rows of `LidarSegBatch.voxel_coords`).
        voxel_logits: Per cell.
        point_features: Per point, the last layer before the logits with refinement; else the
            feature of the point's cell.
        point_logits: Per point; without refinement those of the point's cell.
    """

    Config: ClassVar[type[ModelConfig]] = Config

    def __init__(
        self,
        encoder: PointEncoder,
        unet: SparseUNet,
        refinement: PointRefinement | None,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.unet = unet
        self.refinement = refinement
        self.num_classes = num_classes

    def taps(self) -> Mapping[str, TapInfo]:
        """The taps that `forward` gives, by name."""
        voxel_channels = self.unet.out_channels
        point_channels = self.refinement.head.in_features if self.refinement else voxel_channels
        return {
            "voxel_features": TapInfo(("voxels", "channels"), voxel_channels),
            "voxel_logits": TapInfo(("voxels", "classes"), self.num_classes),
            "point_features": TapInfo(
                ("points", "channels"), point_channels, None if self.refinement else _of("features")
            ),
            "point_logits": TapInfo(
                ("points", "classes"), self.num_classes, None if self.refinement else _of("logits")
            ),
        }

    def forward(self, batch: LidarSegBatch) -> Taps:
        """Runs the network on a batch and returns every tap that `taps` promises."""
        num_voxels = batch.voxel_coords.shape[0]
        if num_voxels == 0:
            return {
                name: batch.points.new_zeros(0, tap.channels) for name, tap in self.taps().items()
            }
        cells, hidden = self.encoder(batch.points, batch.point_to_voxel, num_voxels)
        voxel_features, voxel_logits = self.unet(
            cells, batch.voxel_coords, grid=batch.grid, batch_size=len(batch.voxel_counts)
        )
        point_features = voxel_features.index_select(0, batch.point_to_voxel)
        if self.refinement is None:
            point_logits = voxel_logits.index_select(0, batch.point_to_voxel)
        else:
            point_features, point_logits = self.refinement(point_features, hidden)
        return {
            "voxel_features": voxel_features,
            "voxel_logits": voxel_logits,
            "point_features": point_features,
            "point_logits": point_logits,
        }

    def macs(self, batch: LidarSegBatch) -> int:
        """Multiply-accumulate operations of one forward pass, from the batch's occupied cells."""
        pairs = pair_counts(batch.voxel_coords, batch.grid)
        num_points, num_voxels = batch.points.shape[0], batch.voxel_coords.shape[0]
        total = 0
        for layer in self.modules():
            if isinstance(layer, Convolution):
                total += pairs[layer.indice_key] * layer.in_channels * layer.out_channels
            elif isinstance(layer, nn.Linear):
                rows = num_voxels if layer is self.encoder.compress else num_points
                total += rows * layer.in_features * layer.out_features
        return total


def _of(kind: str) -> tuple[str, str]:
    """Without refinement, a point's tap is that of its cell."""
    return f"voxel_{kind}", "point_to_voxel"


def build(config: Config, model_input: ModelInput) -> Cylinder3D:
    """Builds the network; weights are drawn from torch's default generator.

    Raises:
        SpecError: The task gives no points.
    """
    if model_input.point_features < 1:
        raise SpecError("model 'cylinder3d' takes LiDAR points, but the run's task gives none")
    init_size, num_classes = config.init_size, model_input.num_classes
    in_channels = config.in_channels or min(16, init_size)
    hidden = [config.encoder_width(size) for size in HIDDEN]
    point_channels = config.encoder_width(config.point_channels)
    encoder = PointEncoder(model_input.point_features, hidden, point_channels, in_channels)
    unet = SparseUNet(in_channels, init_size, num_classes)
    refinement = (
        PointRefinement(unet.out_channels, hidden, num_classes) if config.refinement else None
    )
    return Cylinder3D(encoder, unet, refinement, num_classes)


def slice_from(student: Cylinder3D, teacher: Model) -> list[str]:
    """Starts a student from the leading channels of each layer of a wider teacher, in place.

    An option that the distillation literature around Cylinder3D leaves open; running statistics of
    the batch normalisations are taken over too.

    Returns:
        Names of the tensors that were copied. The others keep their own start: a refinement that
        the teacher does not have.

    Raises:
        CheckpointError: The teacher is another kind of network.
    """
    if not isinstance(teacher, Cylinder3D):
        raise CheckpointError(
            f"a cylinder3d student can be sliced from a cylinder3d teacher only, not from "
            f"{type(teacher).__name__}. Use train.init: random."
        )
    return slice_state(student.state_dict(), teacher.state_dict(), _input_groups)


def _input_groups(name: str, state: State) -> tuple[int, ...]:
    """Sizes of the tensors that a layer's input joins: see `SparseUNet` and `PointRefinement`."""
    inputs = state[name].shape[-1]
    if name == "unet.head.weight":
        return (inputs // 2,) * 2
    if name.startswith("refinement.layers."):
        skip = state[name].shape[0]  # a layer of the refinement is as wide as the skip it takes
        voxels = inputs - skip
        first = name == "refinement.layers.0.linear.weight"
        return (voxels // 2, voxels // 2, skip) if first else (voxels, skip)
    return (inputs,)
