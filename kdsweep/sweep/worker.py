"""What runs in a slot's Ray Train workers: one job after another, each through the engine.

The first worker talks to the pool and passes jobs and stop decisions on to the others, so that all
of them make the same calls in the same order.
"""

import contextlib
import gc
import socket
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist

from kdsweep.engine import files
from kdsweep.engine.claim import Turn
from kdsweep.engine.place import Place
from kdsweep.errors import KdsweepError, StorageError, SupersededError
from kdsweep.sweep.copies import RunCopies
from kdsweep.sweep.jobs import Group, Job, Outcome, resolve
from kdsweep.sweep.journal import jsonable
from kdsweep.sweep.relay import Relay, Withdrawn

_IDLE_S = 5.0
"""An idle slot's workers meet this often, so that their collectives never time out."""


@dataclass(frozen=True)
class SlotConfig:
    """What a slot's workers are told once.

    Attributes:
        slot: The slot's name, the same after a rebuild.
        pool: Handle of the pool's actor.
        gpu_share: Part of one GPU that a worker may use, where it is less than 1.
        one_job: End after one job, so that every trial has processes of its own.
    """

    slot: str
    pool: Any
    gpu_share: float = 1.0
    one_job: bool = False


class _Group:
    """The workers of this slot; `share` gives one worker's value to all, `gather` everybody's."""

    def __init__(self) -> None:
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, value: Any, source: int = 0) -> Any:
        if self.world == 1:
            return value
        box = [value]
        device = torch.device("cuda") if dist.get_backend() == "nccl" else None
        dist.broadcast_object_list(box, src=source, device=device)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        return [self.share(value, rank) for rank in range(self.world)]


def serve(config: Mapping[str, Any]) -> None:
    """The train loop of a slot: takes jobs from the pool until that sends the workers away.

    Raises:
        RuntimeError: A job failed in a group of several workers, and is recorded as failed. They
            may be out of step then, so Ray Train has to rebuild them. Or another worker is gone:
            then the job goes on in those that Ray Train makes next.
    """
    slot = SlotConfig(**config)
    group = _Group()
    nodes = frozenset(group.gather(ray.get_runtime_context().get_node_id()))
    known = Group(slot.slot, uuid.uuid4().hex, socket.gethostname(), nodes)
    if slot.gpu_share < 1.0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(slot.gpu_share)
    while True:
        job, over = group.share(_take(slot, known) if group.first else None)
        if over:
            return
        if job is None:
            continue
        outcome = _run(job, slot, group)
        broken = outcome.state in ("failed", "lost")
        if group.first or broken:
            ray.get(slot.pool.finish.remote(job.trial, job.attempt, outcome))
        if broken and group.world > 1:
            raise RuntimeError(f"trial {job.trial} {outcome.state}: {outcome.reason}")
        _tidy()
        if slot.one_job:
            return


def train(spec: Mapping[str, Any], place: Place, report: Any) -> Any:
    """Runs a resolved spec through the engine: the function that jobs name by default."""
    from kdsweep.engine.run import execute
    from kdsweep.spec.run import RunSpec

    return execute(RunSpec.from_dict(spec), place, report)


def _take(slot: SlotConfig, known: Group) -> tuple[Job | None, bool]:
    return ray.get(slot.pool.take.remote(known, _IDLE_S))


def _run(job: Job, slot: SlotConfig, group: _Group) -> Outcome:
    """Runs a job; whatever it raises becomes its outcome (the trial boundary)."""
    copies = RunCopies(job, first=group.first)
    relay = Relay(job, slot.pool, first=group.first, share=group.share, keep=copies.send)
    if job.threads:
        torch.set_num_threads(job.threads)
    place = Place(
        Path(job.home),
        Path(job.run_dir),
        job.device,
        job.threads,
        turn=Turn(f"{job.sweep}.{job.trial}", job.number),
        waits=lambda words: slot.pool.waits.remote(job.trial, job.attempt, words),
    )
    try:
        copies.fetch()
        if not relay.replay():
            return Outcome("stopped")
        result = resolve(job.execute)(job.spec, place, relay)
        metrics = dict(jsonable(result.metrics))
        copies.send()
        return Outcome(result.state, epoch=result.epoch, metrics=metrics)
    except Withdrawn:
        return Outcome("stopped", epoch=relay.epoch)
    except Exception as error:  # the trial boundary: any error fails the trial, not the sweep
        if group.world > 1 and is_lost_peer(error):
            raise
        outcome = _ended_by(error, relay.epoch, place.run_dir if group.first else None)
        with contextlib.suppress(StorageError):  # what failed may be the storage
            copies.send()
        return outcome


def is_lost_peer(error: BaseException | None) -> bool:
    """Whether an error says no more than that another worker does not answer.

    Whatever befell that one, a dead node or an error of its own, is told of by others.
    """
    while error is not None:
        # Gloo raises bare RuntimeErrors: only the text tells.
        if isinstance(error, dist.DistError) or "gloo/transport" in str(error):
            return True
        error = error.__cause__
    return False


def _ended_by(error: Exception, epoch: int, run_dir: Path | None) -> Outcome:
    """What an error says of its job; `run_dir` takes the trace of one that nobody expects."""
    # The next trial would fail as well: the sweep stops and waits. A worker that another one of
    # the sweep has superseded is not heard any more; of any other the whole folder has gone.
    if files.is_disk_full(error) or isinstance(error, StorageError | SupersededError):
        return Outcome("lost", _first_line(error), epoch)
    if isinstance(error, KdsweepError):
        return Outcome("failed", str(error), epoch)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        reason = f"out of memory after epoch {epoch}: {_first_line(error)}"
        return Outcome("failed", reason, epoch)
    trace = "".join(traceback.format_exception(error))
    if run_dir is not None:
        with contextlib.suppress(OSError):  # what failed may be the disk; the journal has it too
            _write_trace(run_dir, trace)
    reason = f"{type(error).__name__} after epoch {epoch}: {_first_line(error)}"
    return Outcome("failed", reason, epoch, trace=trace)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _write_trace(run_dir: Path, trace: str) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "error.txt").write_text(trace)


def _tidy() -> None:
    """Gives memory back between trials; the processes, the data and CUDA's context stay."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
