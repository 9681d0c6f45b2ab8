"""Devices that are asked for and are not there."""

import pytest
import torch

from kdsweep.engine.place import resolve_device
from kdsweep.errors import ResourceError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return monkeypatch


def test_auto_takes_a_gpu_where_there_is_one(gpus: pytest.MonkeyPatch) -> None:
    assert resolve_device("auto") == torch.device("cuda", 0)
    gpus.setenv("LOCAL_RANK", "1")
    assert resolve_device("auto") == torch.device("cuda", 1)
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    gpus.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")


def test_a_gpu_beyond_the_last_is_refused(gpus: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match=r"only 2 GPUs here \(cuda:0 to cuda:1\)"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_the_reason_where_they_are(
    monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ResourceError, match="hides all of them") as error:
        resolve_device("cuda")
    assert "Use --device cpu" in str(error.value)


@pytest.mark.parametrize("asked", ["gpu", "mps", "cpuu"])
def test_other_devices_are_refused_with_the_valid_ones(asked: str) -> None:
    with pytest.raises(ResourceError, match="valid: auto, cpu, cuda, cuda:N"):
        resolve_device(asked)
