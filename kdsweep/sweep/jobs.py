"""What crosses the boundary between the driver, the slot pool and the workers: plain values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

ENGINE = "kdsweep.sweep.worker:train"
"""The function that workers run by default, as ``module:function``."""

_ATTEMPTS = 1_000_000
"""More than a job is ever handed out by one process."""


@dataclass(frozen=True)
class Job:
    """A run for a slot.

    Attributes:
        trial: Id of the trial.
        spec: The resolved run (`RunSpec.to_dict`).
        home: Folder of everything that kdsweep writes.
        run_dir: Folder of this run; a run that was interrupted goes on from its checkpoint there.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: Threads of each worker; 0 leaves them as they are.
        execute: The function to run, ``module:function``, called as ``(spec, place, report)``.
        rungs: Epochs at which the worker waits for the scheduler's word.
        attempt: How often it was handed out; who holds an earlier attempt has to stop.
        storage: URI of the remote storage that `home` stands for; empty: `home` is all there is.
        session: Number of the process that runs the sweep; later ones have greater numbers.
        needs: Folders in `home` that the run reads and that have to be fetched where it is remote.
        sweep: Name of the sweep.
    """

    trial: str
    spec: dict[str, Any]
    home: str
    run_dir: str
    device: str = "auto"
    threads: int = 0
    execute: str = ENGINE
    rungs: tuple[int, ...] = ()
    attempt: int = 0
    storage: str = ""
    session: int = 0
    needs: tuple[str, ...] = ()
    sweep: str = ""

    @property
    def number(self) -> int:
        """Number among all attempts at the job by all processes that ran the sweep, in order."""
        return self.session * _ATTEMPTS + self.attempt


@dataclass(frozen=True)
class Group:
    """The workers of a slot, from their start to their end.

    Attributes:
        slot: The slot's name, the same after a rebuild.
        id: Another one for every group.
        host: Name of the first worker's machine, for people.
        nodes: Ray's ids of the nodes that the workers are on.
    """

    slot: str
    id: str
    host: str = ""
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Update:
    """News of a running job.

    Attributes:
        stage: ``started`` (a slot took it), ``waits`` (its folder is another process's still), or
            the engine's ``teacher``, ``train``, ``profile``.
        epoch: Epochs done.
        epochs: Epochs of the stage.
        metrics: Metrics of the epoch.
        slot: Slot that runs it.
        node: Node of the slot.
        time_s: Seconds since 1970, by the pool's clock.
        words: What it waits for, as the end of a sentence.
    """

    stage: str
    epoch: int = 0
    epochs: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    slot: str = ""
    node: str = ""
    time_s: float = 0.0
    words: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: ``finished``, ``stopped``, ``failed``, or ``lost``: the sweep has to stop here, and a
            resume goes on with the job.
        reason: Why, in one line, where it failed.
        epoch: Last epoch done.
        metrics: Final metrics.
        trace: Traceback of an unexpected error.
        time_s: Seconds since 1970, by the pool's clock.
    """

    state: str
    reason: str = ""
    epoch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    trace: str = ""
    time_s: float = 0.0


def resolve(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)
