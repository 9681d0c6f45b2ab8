"""Seconds per stage of training, and which stage it is when memory runs out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kdsweep.errors import ResourceError

STAGES = ("data", "teacher", "forward", "backward", "optimiser", "evaluate", "checkpoint")
STEP_STAGES = STAGES[:5]
_FOLD_AT = 1024


class StageClock:
    """Adds up the seconds of each stage.

    On the CPU by the wall clock. On CUDA, where calls return before their work is done, by events
    in the stream, which cost no synchronisation; only `data`, `evaluate` and `checkpoint`, which
    wait for the host anyway, go by the wall clock.

    Attributes:
        stage: The stage that is running or ran last.
    """

    def __init__(self, device: torch.device) -> None:
        self.stage = STAGES[0]
        self._cuda = device.type == "cuda"
        self._device = device
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measures one piece of a stage."""
        self.stage = stage
        if self._cuda and stage in STEP_STAGES[1:]:
            start = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            start.record()
            yield
            end.record()
            self._events.append((stage, start, end))
            if len(self._events) >= _FOLD_AT:
                self._fold(keep=_FOLD_AT // 4)  # those are long past: the losses were looked at
            return
        began = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - began

    def take(self) -> dict[str, float]:
        """Seconds per stage since the last call; waits for the device."""
        if self._cuda:
            torch.cuda.synchronize(self._device)
            self._fold(keep=0)
        taken = self._seconds
        self._seconds = dict.fromkeys(STAGES, 0.0)
        return taken

    def _fold(self, keep: int) -> None:
        done = len(self._events) - keep
        for stage, start, end in self._events[:done]:
            end.synchronize()
            self._seconds[stage] += start.elapsed_time(end) / 1000
        self._events = self._events[done:]


@contextmanager
def memory_named(clock: StageClock, batch_size: int) -> Iterator[None]:
    """Says what ran out of memory.

    Args:
        clock: Knows the stage.
        batch_size: Samples of one worker's batch.

    Raises:
        ResourceError: An allocation failed, on the GPU or on the CPU.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        on_cpu = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        if not on_cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        where = "this machine" if on_cpu else "the GPU"
        raise ResourceError(
            f"{where} ran out of memory in stage {clock.stage!r} with batches of {batch_size} "
            f"samples per worker. Lower train.batch_size (and raise train.accumulate to keep the "
            f"step's size), use train.amp=bfloat16, or give the trial more memory.\n{error}"
        ) from error
