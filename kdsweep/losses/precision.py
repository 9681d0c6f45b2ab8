"""Keeps a loss in float32 whatever precision the networks run in."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_HALF = (torch.float16, torch.bfloat16)


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function of tensors so that it computes in float32 at least.

    Half-precision arguments become float32, float64 stays float64, and autocast is off inside:
    under it a product of float32 matrices would silently be taken in bfloat16, where the small
    differences that distillation losses are made of are lost.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        given = (*args, *kwargs.values())
        device = next((value.device.type for value in given if isinstance(value, Tensor)), "cpu")
        # shapes without values (device meta) know no autocast
        plain = nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
        with plain:
            return function(
                *(_widen(value) for value in args),  # type: ignore[arg-type]
                **{name: _widen(value) for name, value in kwargs.items()},  # type: ignore[arg-type]
            )

    return wrapper


def _widen(value: object) -> object:
    if isinstance(value, Tensor) and value.dtype in _HALF:
        return value.float()
    return value
