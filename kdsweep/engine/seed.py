"""Every random choice of a run follows from its seed and from where in the run it is made."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic


def derive_seed(*parts: int | str) -> int:
    """Mixes seed, purpose and position to an independent seed in [0, 2^63).

    A hash, not a sum: neighbouring seeds and steps get unrelated streams, equal on every machine.
    """
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_torch(*parts: int | str) -> None:
    """Seeds torch's default generators, of the CPU and of the current GPU, from `derive_seed`.

    Not `torch.manual_seed`: as long as CUDA is not in use, each call of that formats a stack trace
    (0.4 ms) and queues a call for the day when it is.
    """
    seed = derive_seed(*parts)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Makes equal seeds give equal bits on an equal device, and restores the settings afterwards.

    Operations that have a deterministic form use it (on the CPU, too: the gradient of indexing is
    summed with atomics by several threads otherwise). On CUDA, operations without such a form are
    allowed, with torch's warning that names them.
    """
    if device.type == "cuda":  # read when cuBLAS starts; without it every matmul would warn
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filling: Any = torch.utils.deterministic  # a module whose attribute is a property
    fill = filling.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    generator_state = torch.get_rng_state()
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every fresh tensor is for finding bugs; it costs a pass over memory each time.
    filling.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        filling.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark
        torch.set_rng_state(generator_state)
