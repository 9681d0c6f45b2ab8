"""Counts the multiply-accumulates of dense networks, without computing anything."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def dense_macs(model: nn.Module, batch: Any) -> int:
    """Multiply-accumulates of the convolutions and linear layers in one forward pass.

    The pass runs on torch's ``meta`` device, where tensors have shapes but no values.

    Args:
        model: The network, on any device, in any mode; it is left as it is.
        batch: A batch of dense tensors, such as `ImageBatch`; only its shapes count.
    """
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        else:
            assert isinstance(layer, _CONVOLUTIONS)
            total += output.numel() * layer.weight[0].numel()

    counted = (nn.Linear, *_CONVOLUTIONS)
    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, counted)
    ]
    state = {
        name: torch.empty_like(tensor, device="meta") for name, tensor in model.state_dict().items()
    }
    try:
        with torch.no_grad():
            functional_call(model, state, (batch.to(torch.device("meta")),))
    finally:
        for hook in hooks:
            hook.remove()
    return total
