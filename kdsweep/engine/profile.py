"""What a network costs at inference, and how much less than its teacher."""

import ctypes
import ctypes.util
import hashlib
import json
import platform
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from kdsweep.engine import files
from kdsweep.engine.load import build_model
from kdsweep.engine.place import Place
from kdsweep.models.base import Model
from kdsweep.spec.run import ModelChoice, RunSpec, task_of
from kdsweep.tasks.base import Task
from kdsweep.types import Batch

NUM_SAMPLES = 4
"""Validation samples, from the first on, that MACs and latency are measured on."""
_MAX_PASSES = 10
_MIN_PASSES = 3
_BUDGET_S = 2.0
_SLOW_S = 10.0
_RATIOS = {
    "params_ratio": "params",
    "macs_ratio": "macs",
    "latency_ratio": "latency_ms",
    "peak_memory_ratio": "peak_memory_mb",
    "file_ratio": "file_mb",
}


def profile(student: Model, task: Task, device: torch.device) -> dict[str, float]:
    """Measures one network by itself.

    Returns:
        ``params``: trainable numbers. ``macs``: multiply-accumulates per sample, mean over the
        first validation samples. ``latency_ms``: median of one forward pass (batch of one, float32,
        input already on the device, after a warm-up pass unless that took 10 s) over the same
        samples;
        ``latency_threads``: CPU threads it may use. ``peak_memory_mb`` (10^6 bytes): weights plus
        what one forward pass needs at most; on CUDA from torch's allocator, on the CPU from the
        process's resident memory (Linux only, else left out). ``file_mb``: size as safetensors.
    """
    student = student.to(device).eval()
    samples = [sample.to(device) for sample in _samples(task)]
    weights = {name: tensor.detach().cpu() for name, tensor in student.state_dict().items()}
    figures = {
        **_static(student, samples),
        "file_mb": len(safetensors.torch.save(weights)) / 1e6,
        "latency_threads": float(torch.get_num_threads()),
    }
    peak = _PeakMemory(device)
    with torch.inference_mode():
        took = _timed(student, samples[0], device)
        if (working := peak.read()) is not None:
            held = sum(tensor.nbytes for tensor in weights.values())
            figures["peak_memory_mb"] = (working + held) / 1e6
        # where one pass takes that long, a warm-up makes no difference
        passes = [took] if took > _SLOW_S else []
        began = time.perf_counter() - sum(passes)
        fewest = _MIN_PASSES if took < _BUDGET_S else 1
        while len(passes) < _MAX_PASSES and (
            len(passes) < fewest or time.perf_counter() - began < _BUDGET_S
        ):
            passes.append(_timed(student, samples[len(passes) % len(samples)], device))
    figures["latency_ms"] = statistics.median(passes) * 1000
    return figures


def ratios(student: Mapping[str, float], teacher: Mapping[str, float]) -> dict[str, float]:
    """Teacher / student of each figure that both have; above 1: the student is smaller."""
    return {
        ratio: teacher[figure] / student[figure]
        for ratio, figure in _RATIOS.items()
        if figure in student and figure in teacher and student[figure] > 0
    }


def static_profile(spec: RunSpec, place: Place) -> dict[str, float]:
    """Parameters and MACs of a run's student, before any training; no network is run.

    Reads the first validation samples (MACs depend on the occupied cells). What was counted once
    is kept under `place.home`.

    Returns:
        ``params``, ``macs`` and, with a teacher, ``params_ratio``, ``macs_ratio``.

    Raises:
        DataError: The data is missing or damaged.
    """
    task = task_of(spec.task)(spec.data, spec.loss, home=place.home)
    with files.locked(place.home / "data.lock"):
        task.prepare()

    def count(choice: ModelChoice) -> dict[str, float]:
        def build_and_count() -> dict[str, float]:
            model = build_model(choice.model, choice.config, task.model_input())
            return _static(model, _samples(task))

        return _kept(place.home, "static", spec, choice, task, build_and_count)

    student = count(spec.student)
    return student if spec.teacher is None else {**student, **ratios(student, count(spec.teacher))}


def num_parameters(spec: RunSpec, home: Path) -> dict[str, float]:
    """What `static_profile` knows where the data is not there, on which MACs depend.

    Returns:
        ``params`` and, with a teacher, ``params_ratio``.

    Raises:
        DataError: The networks depend on the data too: its classes are counted.
    """
    model_input = task_of(spec.task)(spec.data, spec.loss, home=home).model_input()

    def count(choice: ModelChoice) -> dict[str, float]:
        return {"params": _params(build_model(choice.model, choice.config, model_input))}

    student = count(spec.student)
    return student if spec.teacher is None else {**student, **ratios(student, count(spec.teacher))}


def teacher_profile(
    spec: RunSpec, task: Task, home: Path, device: torch.device
) -> dict[str, float] | None:
    """Profile of a run's teacher on this machine, measured once and kept under `home`.

    Built anew with random weights, on which none of the figures depends: so it is there for
    undistilled runs, which never load the teacher. None without a teacher.
    """
    teacher = spec.teacher
    if teacher is None:
        return None

    def build_and_measure() -> dict[str, float]:
        return profile(build_model(teacher.model, teacher.config, task.model_input()), task, device)

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    machine = [name, platform.node(), torch.get_num_threads()]
    return _kept(home, "measured", spec, teacher, task, build_and_measure, machine)


def _kept(
    home: Path,
    kind: str,
    spec: RunSpec,
    choice: ModelChoice,
    task: Task,
    compute: Any,
    machine: list[Any] | None = None,
) -> dict[str, float]:
    about = {
        "task": spec.task,
        "data": data_identity(spec),
        "fingerprint": task.fingerprint(),
        "model": choice.model,
        "config": choice.config.model_dump(mode="json"),
        "machine": machine,
    }
    text = json.dumps(about, sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    path = home / "teachers" / "profiles" / f"{kind}-{key}.json"
    if path.is_file():
        return dict(json.loads(path.read_text())["figures"])
    figures: dict[str, float] = compute()
    files.write_json(path, {"about": about, "figures": figures})
    return figures


def data_identity(spec: RunSpec) -> dict[str, Any]:
    """The data section without the place where the data is."""
    return spec.data.model_dump(mode="json", exclude={"root"})


def _static(model: Model, samples: list[Batch]) -> dict[str, float]:
    return {
        "params": _params(model),
        "macs": statistics.fmean(model.macs(sample) for sample in samples),
    }


def _params(model: Model) -> float:
    return float(sum(p.numel() for p in model.parameters() if p.requires_grad))


def _samples(task: Task) -> list[Batch]:
    dataset = task.val_set()
    number = min(NUM_SAMPLES, len(dataset))  # type: ignore[arg-type]
    return [task.collate([dataset[i]]) for i in range(number)]


def _timed(model: nn.Module, batch: Batch, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    model(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


class _PeakMemory:
    """Most bytes held above what is held now.

    On the CPU that is resident memory: freed pages are handed back first (or their reuse would not
    show), the kernel's high-water mark is reset through ``/proc/self/clear_refs`` and ``VmHWM`` is
    read afterwards. Other threads of the process count too.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._base: int | None = None
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._base = torch.cuda.memory_allocated(device)
            return
        with_glibc = ctypes.CDLL(ctypes.util.find_library("c"))
        if hasattr(with_glibc, "malloc_trim"):
            with_glibc.malloc_trim(0)
        reset_peak_rss()
        self._base = _status_bytes("VmRSS")

    def read(self) -> int | None:
        """Bytes, or None where the system does not tell."""
        if self._base is None:
            return None
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_allocated(self._device) - self._base
        peak = peak_rss_bytes()
        return None if peak is None else max(0, peak - self._base)


def reset_peak_rss() -> None:
    """Makes the kernel forget the process's largest resident size so far (Linux, else nothing)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_rss_bytes() -> int | None:
    """Largest resident size of the process since the reset; None where it is not told."""
    return _status_bytes("VmHWM")


def _status_bytes(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(values[0]) * 1024 if values else None
