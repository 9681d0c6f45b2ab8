"""Starts Ray on this machine or joins a cluster, quietly, and says what the nodes have."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

from kdsweep.environment import RAY
from kdsweep.errors import ResourceError
from kdsweep.sweep.interrupt import keeping_handlers
from kdsweep.sweep.joining import join
from kdsweep.sweep.resources import Node

_OBJECT_STORE = 128 << 20
"""Trials send each other nothing large, so 30 % of the memory, Ray's default, is not needed."""

_ATTEMPTS = 3
"""So often is Ray started: on a machine that is very busy its parts miss each other's deadlines."""


def set_environment() -> None:
    """Sets what Ray reads from the environment; what the user has set stays."""
    for name, value in RAY.items():
        os.environ.setdefault(name, value)


def local_node() -> Node:
    """CPU cores and GPUs that this process may use."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cgroup_cores()
    return {
        "CPU": float(max(1, min(cores or 1, quota))) if quota else float(cores or 1),
        "GPU": float(torch.cuda.device_count() if torch.cuda.is_available() else 0),
    }


def is_connected() -> bool:
    """Whether this process is connected to Ray already."""
    import ray

    return bool(ray.is_initialized())


@contextmanager
def connected(address: str | None, node: Node | None, log: Path) -> Iterator[None]:
    """Starts Ray on this machine, or joins a cluster, and lets go of it in the end.

    Where this process is connected to Ray already, that connection is used and stays.

    Args:
        address: Of a running cluster; None starts one here that ends with this process.
        node: Resources of this machine, where one is started.
        log: File that takes what Ray prints.

    Raises:
        ResourceError: The cluster does not answer.
    """
    import ray

    log.parent.mkdir(parents=True, exist_ok=True)
    with _opened(log) as file, redirect_stdout(file), redirect_stderr(file):
        joined = ray.is_initialized()
        if not joined:
            # Ray's own handlers would end the process at once, also long after the sweep's end.
            with _native_messages_to(file), keeping_handlers():
                connect(address, node)
        try:
            yield
        finally:
            if not joined:
                ray.shutdown()


def connect(address: str | None, node: Node | None) -> None:
    """Connects this process to Ray; see `connected`."""
    import ray

    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # A full disk keeps Tune from saving a state that nobody reads: the journal says what matters.
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        join(address, runtime_env={"env_vars": RAY}, **quiet)
        return
    assert node is not None
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=int(node["CPU"]),
                num_gpus=int(node["GPU"]),
                # Without it nobody gives back the resources of a slot whose controller was killed.
                include_dashboard=True,
                object_store_memory=_OBJECT_STORE,
                **quiet,
            )
            return
        # Ray raises bare exceptions where its processes do not come up in time.
        except Exception as error:
            ray.shutdown()
            if attempt == _ATTEMPTS:
                raise ResourceError(f"Ray does not start on this machine: {error}") from error


@contextmanager
def _opened(log: Path) -> Iterator[TextIO]:
    """Opens a log; that a full disk does not take the last of it hides no other error."""
    file = log.open("a")
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


@contextmanager
def _native_messages_to(file: TextIO) -> Iterator[None]:
    """Sends to a file what Ray's C++ code writes to the error stream past Python."""
    before = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _cgroup_cores() -> int:
    """Cores that a container may use; 0 = no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return 0
    return 0 if quota == "max" else max(1, int(quota) // int(period))
