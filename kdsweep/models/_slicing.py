"""Starts a narrow network from the leading channels of a wide one."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]
Groups = Callable[[str, State], tuple[int, ...]]
"""Sizes of the tensors that were concatenated to the input of a named weight, in one state."""


@torch.no_grad()
def slice_state(own: State, given: State, groups: Groups) -> list[str]:
    """Copies the leading channels of every tensor of `given` into `own`, in place.

    Weights have their output channels first and their input channels last. Where the input of a
    layer is a concatenation, each part gives its own leading channels: the leading channels of the
    whole would all belong to the first part. Channels that `given` does not have stay as they are.

    Args:
        own: State of the network to start.
        given: State of the wide network.
        groups: Sizes of the parts of a layer's input; their sum is the last axis of the weight.

    Returns:
        Names of the tensors that were copied; those that `given` lacks stay as they are.
    """
    copied = []
    for name, target in own.items():
        source = given.get(name)
        if source is None or source.dim() != target.dim():
            continue
        if target.dim() < 2:
            _copy_leading(target, source)
        else:
            parts = zip(
                target.split(groups(name, own), dim=-1),
                source.split(groups(name, given), dim=-1),
                strict=True,
            )
            for target_part, source_part in parts:
                _copy_leading(target_part, source_part)
        copied.append(name)
    return copied


def _copy_leading(target: Tensor, source: Tensor) -> None:
    """Copies the corner that both tensors have, along every axis."""
    corner = tuple(map(slice, map(min, target.shape, source.shape)))
    target[corner].copy_(source[corner])
