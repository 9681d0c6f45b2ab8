"""Sparse 3D convolutions on CPU and CUDA, float32 or wider, over spconv 2.

What this module adds to spconv, so that nothing above it needs to know which device it runs on:

* the algorithm follows the features: ``Native`` on CPU (the only one that runs there), implicit
  GEMM on CUDA. Both read the same weights, ``(out, k0, k1, k2, in)``;
* gradients in eval mode too (spconv's inference path is not differentiable on CUDA, and refuses a
  bias on CPU), so a convolution here always takes the training path, which gives the same numbers;
* under autocast, convolutions stay in float32: spconv has no bfloat16 kernels, and would turn to
  float16, whose gradients underflow without a loss scaler;
* the index pairs depend only on the coordinates, so that teacher and student, which see the same
  coordinate tensor, find them once (`sparse_tensor`).

The wheel matters: the CPU-only build of spconv 2.3.8 adds up wrongly now and then when it runs on
more than one thread. The CUDA builds (cu120 2.3.6, cu126 2.3.8 for Python 3.12) are linked without
OpenMP, so on CPU their own loops have one thread and cannot race.
"""

import logging
import warnings
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from kdsweep.errors import ResourceError


def _import_spconv() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Imports spconv without its warnings about torch's future, and fast where there is no GPU.

    At import spconv describes 1,456 CUDA kernels in Python, which takes 3 s of a CPU core. Without
    a GPU none of them can run, so the list of what to describe is left empty.

    Raises:
        ResourceError: It is not installed, or a library that it links to is not there.
    """
    fx_log = logging.getLogger("torch.fx._symbolic_trace")
    level = fx_log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fx_log.setLevel(logging.ERROR)
        try:
            import spconv.core as core
        except ImportError as error:
            fx_log.setLevel(level)
            raise ResourceError(
                "this model needs spconv (sparse convolutions), which cannot be imported here: "
                f"{error}. Install kdsweep with its dependencies, which name the build for this "
                "Python, or choose a model and a task without sparse convolutions."
            ) from None

        if not torch.cuda.is_available():
            core.ALL_NATIVE_PARAMS, core.ALL_IMPGEMM_PARAMS = [], []
        import spconv.pytorch as pytorch
        from spconv.pytorch import functional

        # the first tensor makes torch.fx log a warning, once
        pytorch.SparseConvTensor(torch.zeros(1, 1), torch.zeros(1, 4).int(), [1, 1, 1], 1)
        fx_log.setLevel(level)
    return pytorch, functional, core


spconv, functional, _core = _import_spconv()
SparseTensor = spconv.SparseConvTensor
Kernel = tuple[int, int, int]

_pairs: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Index pairs by coordinate tensor (its identity): {(grid, batch size): {key: pairs}}."""


def sparse_tensor(
    features: Float[Tensor, "voxels channels"],
    coords: Int[Tensor, "voxels 4"],
    *,
    grid: tuple[int, int, int],
    batch_size: int,
) -> Any:
    """Wraps voxel features as a spconv tensor that shares its index pairs.

    All networks that are given the same coordinate *tensor* (not only equal coordinates) and number
    their levels alike share one table of index pairs, which lives as long as that tensor. The
    coordinates must therefore not be changed in place.

    Args:
        features: At least one row.
        coords: Unique ``(scan, rho, phi, z)``, int32.
        grid: Cells along each axis.
        batch_size: Number of scans.
    """
    # what is made in inference mode could not serve a training step later
    tables = {} if torch.is_inference_mode_enabled() else _pairs.setdefault(coords, {})
    return SparseTensor(
        features,
        coords.detach(),  # the table keeps this alias; the tensor itself would never be forgotten
        list(grid),
        batch_size,
        indice_dict=tables.setdefault((grid, batch_size), {}),
    )


class Convolution:
    """Makes a spconv layer run on any device, in any mode, and publish its index pairs."""

    training: bool
    algo: Any
    indice_key: str
    in_channels: int
    out_channels: int

    def forward(self, x: Any) -> Any:
        features = x.features
        self.algo = _core.ConvAlgo.MaskImplicitGemm if features.is_cuda else _core.ConvAlgo.Native
        with torch.autocast(features.device.type, enabled=False):
            if features.dtype in (torch.bfloat16, torch.float16):
                x = x.replace_feature(features.float())
            y = self.convolve(x)
        # spconv copies the table in every layer; one shared table lets parallel branches, the
        # decoder and other networks on the same coordinates find what this layer has added
        x.indice_dict.update(y.indice_dict)
        y.indice_dict = x.indice_dict
        return y

    def convolve(self, x: Any) -> Any:
        """The convolution proper, in the dtype of the features."""
        mode, self.training = self.training, True  # spconv's differentiable path
        try:
            return super().forward(x)  # type: ignore[misc]
        finally:
            self.training = mode


class SubMConv(Convolution, spconv.SubMConv3d):  # type: ignore[name-defined]
    """Submanifold convolution: the output has the input's cells.

    Index pairs are shared under ``level<n>/<k0>x<k1>x<k2>``: different kernels must never share a
    key, or the later ones would silently run with the first one's geometry (Cylinder3D issue 102).
    """

    def __init__(
        self, level: int, in_channels: int, out_channels: int, kernel: Kernel, bias: bool = False
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            bias=bias,
            indice_key=pair_key(level, kernel),
            algo=_core.ConvAlgo.Native,
        )


class DownConv(Convolution, spconv.SparseConv3d):  # type: ignore[name-defined]
    """Strided sparse convolution 3x3x3, padding 1: from ``level`` to ``level + 1``."""

    def __init__(self, level: int, channels: int, stride: Kernel) -> None:
        super().__init__(
            channels,
            channels,
            3,
            stride=stride,
            padding=1,
            bias=False,
            indice_key=down_key(level),
            algo=_core.ConvAlgo.Native,
        )

    def convolve(self, x: Any) -> Any:
        """Runs on index pairs that another network has left, which spconv itself refuses to."""
        known = x.find_indice_pair(self.indice_key)
        if known is None:
            return super().convolve(x)
        num_outputs = known.out_indices.shape[0]
        if x.features.is_cuda:
            features = functional.implicit_gemm(
                x.features.contiguous(),
                self.weight,
                known.pair_fwd,
                known.pair_bwd,
                known.pair_mask_fwd_splits,
                known.pair_mask_bwd_splits,
                known.mask_argsort_fwd_splits,
                known.mask_argsort_bwd_splits,
                num_outputs,
                known.masks,
                True,  # keep what the backward pass needs
                False,  # not submanifold
            )
        else:
            features = functional.indice_conv(
                x.features.contiguous(),
                self.weight,
                known.indice_pairs,
                known.indice_pair_num,
                num_outputs,
                known.algo,
            )
        y = x.replace_feature(features)
        y.indices, y.spatial_shape = known.out_indices, known.out_spatial_shape
        return y


class InverseConv(Convolution, spconv.SparseInverseConv3d):  # type: ignore[name-defined]
    """Undoes the geometry of the `DownConv` that starts at ``level``: restores its input cells."""

    def __init__(self, level: int, channels: int) -> None:
        super().__init__(
            channels,
            channels,
            3,
            bias=False,
            indice_key=down_key(level),
            algo=_core.ConvAlgo.Native,
        )


def pair_key(level: int, kernel: Kernel) -> str:
    """Name of the index pairs of a submanifold convolution."""
    return f"level{level}/" + "x".join(map(str, kernel))


def down_key(level: int) -> str:
    """Name of the index pairs between a level and the next coarser one."""
    return f"level{level}/down"


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that uses its running statistics for a single row.

    One row has no variance: torch refuses it in training. It happens at the coarsest level of a
    nearly empty scan.
    """

    def forward(self, x: Float[Tensor, "rows channels"]) -> Float[Tensor, "rows channels"]:
        """Normalises the rows; same shape and dtype."""
        if self.training and x.shape[0] < 2:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)
