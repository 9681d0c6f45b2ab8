"""Where and how a run happens: folders, device, threads. None of it is part of a run's identity."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kdsweep.engine.claim import Turn
from kdsweep.errors import ResourceError


@dataclass(frozen=True)
class Place:
    """Where a run happens.

    Attributes:
        home: Folder shared by all runs of this machine: teachers, knowledge, synthetic data.
        run_dir: Folder of this run: spec, checkpoint, student, metrics. Several workers of one run
            may see different disks; only the first worker writes here.
        device: ``auto`` (CUDA where there is any, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Threads of one worker for CPU arithmetic; 0 leaves torch's choice.
        knowledge_gb: Size cap of the teacher's stored taps under `home`, in 10^9 bytes; 0 stores
            nothing. Once it is reached the teacher answers live.
        turn: This process's place among those that execute the run, where somebody orders them.
        waits: Told by the first worker what it waits for, where another process has the run.
    """

    home: Path
    run_dir: Path
    device: str = "auto"
    threads: int = 0
    knowledge_gb: float = 20.0
    turn: Turn = field(default_factory=Turn)
    waits: Callable[[str], None] = lambda _: None


def resolve_device(asked: str) -> torch.device:
    """The device that a place asks for.

    ``auto`` and ``cuda`` take the GPU that launchers assign by ``LOCAL_RANK``, else the first one.

    Raises:
        ResourceError: CUDA or a GPU of that number was asked for and is not there; the message
            says what is there and what to do.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        asked = "cuda" if num_gpus else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ResourceError(
            f"device {asked!r} is not a device; valid: auto, cpu, cuda, cuda:N"
        ) from None
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ResourceError(f"device {asked!r} is not supported; valid: auto, cpu, cuda, cuda:N")
    if num_gpus == 0:
        raise ResourceError(
            f"device {asked!r} was asked for, but torch {torch.__version__} sees no GPU here "
            f"({_why_no_gpu()}); this machine has {os.cpu_count()} CPU cores. "
            "Use --device cpu, or run where `nvidia-smi` lists a GPU."
        )
    index = int(os.environ.get("LOCAL_RANK", "0")) % num_gpus
    index = index if device.index is None else device.index
    if index >= num_gpus:
        raise ResourceError(
            f"device {asked!r} was asked for, but there are only {num_gpus} GPUs here "
            f"(cuda:0 to cuda:{num_gpus - 1})."
        )
    return torch.device("cuda", index)


def _why_no_gpu() -> str:
    if torch.version.cuda is None:
        return "this build of torch has no CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides all of them"
    return f"built for CUDA {torch.version.cuda}, no driver or device found"
