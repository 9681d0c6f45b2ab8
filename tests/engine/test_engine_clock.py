"""Seconds per stage, and what ran out of memory."""

import pytest
import torch

from kdsweep.engine import clock as module
from kdsweep.engine.clock import StageClock, memory_named
from kdsweep.errors import ResourceError


def test_seconds_add_up_by_stage_until_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 5.0, 7.0, 10.0, 10.5])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(times))
    clock = StageClock(torch.device("cpu"))
    for stage in ("forward", "data", "forward"):
        with clock(stage):
            pass
    taken = clock.take()
    assert (taken["forward"], taken["data"], taken["backward"]) == (1.5, 2.0, 0.0)
    assert set(clock.take().values()) == {0.0}


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "the GPU"),
        (MemoryError(), "this machine"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "this machine"),
    ],
)
def test_running_out_of_memory_names_stage_and_batch(error: Exception, where: str) -> None:
    clock = StageClock(torch.device("cpu"))
    with pytest.raises(ResourceError) as raised, memory_named(clock, 6), clock("backward"):
        raise error
    message = f"{where} ran out of memory in stage 'backward' with batches of 6 samples"
    assert message in str(raised.value)


def test_a_real_allocation_that_fails_is_named() -> None:
    clock = StageClock(torch.device("cpu"))
    named = pytest.raises(ResourceError, match="in stage 'forward'")
    with named, memory_named(clock, 1), clock("forward"):
        torch.empty(1 << 55, dtype=torch.uint8)


def test_other_errors_pass_unchanged() -> None:
    clock = StageClock(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="shapes differ"), memory_named(clock, 1):
        raise RuntimeError("shapes differ")
