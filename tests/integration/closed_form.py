"""A run that is a formula: what slots execute in the tests of whole sweeps.

Special point weights make it do what runs can do wrong. It leaves a line in its folder for every
epoch that it computes, so that tests can count repeated ones.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from kdsweep.errors import NonFiniteLossError
from kdsweep.spec.sweep import SweepSpec

EXECUTE, SLOWLY = "closed_form:execute", "closed_form:slowly"
RAISES, BREAKS, DIES_ONCE, POOR = 11.0, 13.0, 17.0, 1e-3
EPOCHS = 4


@dataclass(frozen=True)
class Progress:
    stage: str
    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Result:
    state: str
    epoch: int
    metrics: dict[str, float]


def sweep(**changes: Any) -> SweepSpec:
    """A sweep of PVD's point weight, whose runs are to be done by `execute`."""
    values: dict[str, Any] = {
        "name": "formula",
        "run": {
            "task": "lidar_seg",
            "data": {"synth": {"scenes": 2}},
            "teacher": {"model": "cylinder3d", "width": 0.5, "train": {"epochs": 2}},
            "student": {"model": "cylinder3d", "width": 0.25},
            "method": {"name": "pvd"},
            "train": {"epochs": EPOCHS},
        },
        "objectives": {"miou": "max"},
        "trials": 6,
        "space": {"method.point_output": {"log_uniform": [0.0001, 100]}},
    }
    return SweepSpec.from_dict({**values, **changes})


def execute(spec: Mapping[str, Any], place: Any, report: Callable[[Progress], bool]) -> Result:
    """Trains nothing: the metric nears a value that depends on the point weight, best at 1."""
    return _execute(spec, place, report, float(os.environ.get("CLOSED_FORM_EPOCH_S", "0.02")))


def slowly(spec: Mapping[str, Any], place: Any, report: Callable[[Progress], bool]) -> Result:
    """`execute` with epochs that are long enough for something to happen in the middle of a run."""
    return _execute(spec, place, report, 0.3)


def _execute(
    spec: Mapping[str, Any], place: Any, report: Callable[[Progress], bool], epoch_s: float
) -> Result:
    weight = (spec.get("method") or {"point_output": 0.0})["point_output"]
    special = weight in (RAISES, BREAKS, DIES_ONCE)  # good enough not to be stopped early
    loss = 0.01 if special else 0.02 * math.log10(max(weight, 1e-4)) ** 2
    value = 0.6 - loss + 1e-3 * spec["seed"]
    rank = dist.get_rank() if dist.is_initialized() else 0
    log = place.run_dir / f"epochs-{rank}"
    epochs = spec["train"]["epochs"]
    place.run_dir.mkdir(parents=True, exist_ok=True)

    def told(epoch: int) -> bool:
        metrics = {"miou": value * (1 - 0.5**epoch), "loss/total": 1.0 / epoch}
        return report(Progress("train", epoch, epochs, metrics))

    done = _from_first(max(computed(log), default=0))
    if done and not told(done):  # as the engine does: nobody may have heard of its last epoch
        return Result("stopped", done, {})
    for epoch in range(done + 1, epochs + 1):
        with log.with_name(f"begun-{rank}").open("a") as file:
            file.write(f"{epoch}\n")
        time.sleep(epoch_s)
        if epoch == 2 and spec.get("method"):
            wait_at_gate()
        if epoch == 2:
            _misbehave(weight, place.run_dir)
        with log.open("a") as file:
            file.write(f"{line(epoch)}\n")
        if not told(epoch):
            return Result("stopped", epoch, {})
    final = {"miou": value, "params": 1e6, "macs": 1e9, "step_seconds": 0.02 * epochs}
    return Result("finished", epochs, final)


def line(epoch: int) -> str:
    """What is noted of an epoch: by which process, whose child, and since when that is there."""
    since = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return f"{epoch} {os.getpid()} {os.getppid()} {since}"


def computed(log: Path) -> list[int]:
    """Epochs that a worker computed, in order, repeated ones included."""
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def begun(log: Path) -> list[int]:
    """Epochs that a worker began, in order, repeated ones included; some were not completed."""
    path = log.with_name(log.name.replace("epochs", "begun"))
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def workers(log: Path) -> set[int]:
    """Processes that computed the epochs."""
    return {int(line.split()[1]) for line in log.read_text().splitlines()}


def beginnings(log: Path) -> set[tuple[int, int]]:
    """The same with the beginning of each, as `processes.born` has it: pids are used again."""
    lines = map(str.split, log.read_text().splitlines())
    return {(int(pid), int(since)) for _, pid, _, since in lines}


def raylets(log: Path) -> set[int]:
    """Processes that started the workers: one for each node."""
    return {int(line.split()[2]) for line in log.read_text().splitlines()}


def _from_first(value: int) -> int:
    """The first worker's value, as the engine does with what it resumes from."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def wait_at_gate() -> None:
    """Waits in the middle of an epoch until a test has done what it wants to do there."""
    gate = os.environ.get("CLOSED_FORM_GATE")
    while gate and not Path(gate).exists():
        time.sleep(0.05)  # another process is waited for


def _misbehave(weight: float, run_dir: Path) -> None:
    if weight == RAISES:
        raise NonFiniteLossError("loss/point_output became NaN in epoch 2, step 7")
    if weight == BREAKS:
        raise KeyError("nobody expects this")
    if weight == DIES_ONCE and not (run_dir / "died").exists():
        (run_dir / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
