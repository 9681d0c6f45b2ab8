"""What a network costs, counted by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch
from torch import nn

from kdsweep.engine import profile as module
from kdsweep.engine.place import Place
from kdsweep.engine.profile import (
    num_parameters,
    profile,
    ratios,
    static_profile,
    teacher_profile,
)

CPU = torch.device("cpu")
# The tiny network of width 1: 2 x 16 + 16, batch norm 2 x 16, 16 x 3 + 3.
PARAMS, MACS_PER_POINT = 131, 80
# Validation samples 0..3 have 5, 6, 7, 8 points.
POINTS = 6.5


def tiny_task() -> tiny_world.TinyTask:
    return tiny_world.TinyTask(tiny_world.TinyData(), tiny_world.TinyLoss(), home=Path("unused"))


def tiny_net(width: float = 1.0) -> tiny_world.TinyNet:
    task = tiny_task()
    return tiny_world.TinyNet(tiny_world.TinyModelConfig(width=width), task.model_input())


def test_the_profile_counts_what_the_network_has() -> None:
    figures = profile(tiny_net(), tiny_task(), CPU)
    assert figures["params"] == PARAMS
    assert figures["macs"] == MACS_PER_POINT * POINTS
    assert figures["latency_ms"] > 0
    assert figures["latency_threads"] == torch.get_num_threads()
    num_buffers = 2 * 16 * 4 + 8
    assert figures["file_mb"] * 1e6 == pytest.approx(PARAMS * 4 + num_buffers, abs=1000)


def test_latency_is_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([9.0, *[0.5, 0.1, 0.3, 0.2, 0.4] * 2])
    seen: list[tuple[str, ...]] = []

    def timed(model: nn.Module, batch: Any, device: torch.device) -> float:
        seen.append(batch.sample_ids)
        return next(took)

    monkeypatch.setattr(module, "_timed", timed)
    monkeypatch.setattr(module, "_BUDGET_S", 1e9)
    figures = profile(tiny_net(), tiny_task(), CPU)
    assert figures["latency_ms"] == pytest.approx(300.0)
    assert len(seen) == 11 and {len(ids) for ids in seen} == {1} and len(set(seen)) == 4


class Hungry(tiny_world.TinyNet):
    """Needs 64 MiB for a moment."""

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        scratch = torch.ones(64 << 20, dtype=torch.uint8)
        return {"logits": super().forward(batch)["logits"] + scratch[0]}


def test_peak_memory_sees_what_a_forward_pass_needs() -> None:
    if module.peak_rss_bytes() is None:
        pytest.skip("the system does not tell a process's peak memory")
    task = tiny_task()
    hungry = Hungry(tiny_world.TinyModelConfig(), task.model_input())
    modest = profile(tiny_net(), task, CPU)["peak_memory_mb"]
    peak = profile(hungry, task, CPU)["peak_memory_mb"]
    assert peak == pytest.approx(modest + (64 << 20) / 1e6, abs=8)


def test_ratios_are_teacher_over_student() -> None:
    student = {"params": 10.0, "macs": 4.0, "latency_ms": 2.0, "miou": 0.5}
    teacher = {"params": 40.0, "macs": 8.0, "latency_ms": 1.0, "miou": 0.6, "file_mb": 3.0}
    assert ratios(student, teacher) == {"params_ratio": 4, "macs_ratio": 2, "latency_ratio": 0.5}


def test_the_static_profile_runs_no_network_and_is_kept(
    run_spec: Callable[..., Any], place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("the network was run")

    monkeypatch.setattr(tiny_world.TinyNet, "forward", forbidden)
    figures = static_profile(run_spec(), place())
    assert figures["macs"] == (2 * 8 + 8 * 3) * POINTS
    assert figures["params_ratio"] == pytest.approx(PARAMS / figures["params"])
    assert figures["macs_ratio"] == 2.0
    read = tiny_world.TinySet.read
    assert static_profile(run_spec(method__kl=0.1), place()) == figures
    assert tiny_world.TinySet.read == read
    assert not (place().run_dir).exists()


def test_a_run_without_teacher_has_no_ratios(
    run_spec: Callable[..., Any], place: Callable[..., Place]
) -> None:
    spec = run_spec()
    alone = spec.model_copy(update={"teacher": None, "method": None})
    assert set(static_profile(alone, place())) == {"params", "macs"}


def test_parameters_are_the_same_whether_or_not_the_data_is_there(
    run_spec: Callable[..., Any], place: Callable[..., Place], tmp_path: Path
) -> None:
    counted = num_parameters(run_spec(), tmp_path)
    assert set(counted) == {"params", "params_ratio"}
    assert counted.items() <= static_profile(run_spec(), place()).items()


def test_the_teacher_is_profiled_once_per_machine(
    run_spec: Callable[..., Any], place: Callable[..., Place]
) -> None:
    home, spec = place().home, run_spec()
    first = teacher_profile(spec, tiny_task(), home, CPU)
    (kept,) = (home / "teachers" / "profiles").iterdir()
    record = json.loads(kept.read_text())
    record["figures"]["latency_ms"] = 123.0
    kept.write_text(json.dumps(record))
    again = teacher_profile(spec, tiny_task(), home, CPU)
    assert first is not None and again is not None
    assert (first["params"], again["latency_ms"]) == (PARAMS, 123.0)
