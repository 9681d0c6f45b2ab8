"""Checkpoints are whole or not there, and say what does not fit."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdsweep.engine import checkpoint, files
from kdsweep.errors import CheckpointError, ResourceError


def tensors(value: float) -> dict[str, Tensor]:
    return {"student/w": torch.full((3, 2), value), "optimizer/0/step": torch.tensor(value)}


def save(folder: Path, epoch: int, *, best_epoch: int = 1, best: bool = False) -> None:
    checkpoint.save(
        folder,
        epoch,
        tensors(epoch),
        {"identity": "x"},
        best_epoch=best_epoch,
        best=tensors(epoch) if best else None,
    )


def test_only_the_newest_checkpoint_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, best=True)
    save(tmp_path, 2)
    save(tmp_path, 3, best_epoch=3, best=True)
    save(tmp_path, 4, best_epoch=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-0003.safetensors", "epoch-0004"]
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded[1]["epoch"] == 4
    assert torch.equal(loaded[0]["student/w"], torch.full((3, 2), 4.0))
    assert torch.equal(checkpoint.load_best(tmp_path, 3)["student/w"], torch.full((3, 2), 3.0))


def test_a_worker_that_comes_back_late_takes_nothing_from_the_one_that_went_on(
    tmp_path: Path,
) -> None:
    save(tmp_path, 1, best=True)
    for number in (2, 3, 4):
        save(tmp_path, number, best_epoch=3, best=number == 3)
    writing = tmp_path / ".epoch-0005.77.tmp"
    writing.mkdir()
    save(tmp_path, 2)
    assert writing.exists()
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded[1]["epoch"] == 4
    assert torch.equal(checkpoint.load_best(tmp_path, 3)["student/w"], torch.full((3, 2), 3.0))
    save(tmp_path, 5, best_epoch=3)
    assert {path.name for path in tmp_path.glob("epoch-*")} == {"epoch-0005"}


def test_two_that_write_the_same_epoch_at_once_leave_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(files.os, "rename", rename)
        save(tmp_path, 1, best=True)
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", overtaken)
    save(tmp_path, 1, best=True)
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded[0]["student/w"], torch.full((3, 2), 1.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-0001.safetensors", "epoch-0001"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "nothing") is None


@pytest.mark.parametrize("fails", ["save_tensors", "sync", "rename"])
def test_a_write_that_fails_leaves_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    save(tmp_path, 1, best=True)

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {"save_tensors": checkpoint, "sync": files, "rename": files.os}[fails]
    with monkeypatch.context() as patch:
        patch.setattr(target, fails, no_space)
        with pytest.raises(ResourceError, match=r"the disk is full: .*epoch-0002 could not"):
            save(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-0001.safetensors", "epoch-0001"]
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None and loaded[1]["epoch"] == 1


def test_what_a_crash_left_half_written_is_ignored_and_cleared(tmp_path: Path) -> None:
    save(tmp_path, 1, best=True)
    half = tmp_path / ".epoch-0002.123.tmp"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None and loaded[1]["epoch"] == 1
    save(tmp_path, 2)
    save(tmp_path, 3)  # until then, another process might still be writing it
    assert not half.exists()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    save(tmp_path, 1, best=True)
    file = tmp_path / "epoch-0001" / "state.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"state\.safetensors is damaged: its checksum is"):
        checkpoint.load(tmp_path)


def test_a_file_that_is_no_safetensors_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    torch.save({"w": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="unpickling them can run code"):
        checkpoint.load_tensors(path)


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW])
def test_an_optimiser_goes_on_exactly(make: type[torch.optim.Adam]) -> None:
    def step(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()

    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = make([weight], lr=0.1, fused=True)
    step(weight, optimizer)
    copy = nn.Parameter(weight.detach().clone())
    other = make([copy], lr=0.1, fused=True)
    state = {k: v.clone() for k, v in checkpoint.optimizer_tensors(optimizer).items()}
    checkpoint.restore_optimizer(other, state)
    step(weight, optimizer)
    step(copy, other)
    assert torch.equal(weight, copy)


def test_the_first_tensor_that_does_not_fit_is_named_with_both_shapes(tmp_path: Path) -> None:
    narrow, wide = nn.Linear(2, 3), nn.Linear(2, 5)
    path = tmp_path / "student.safetensors"
    checkpoint.save_tensors(narrow.state_dict(), path)
    record = {"model": "cylinder3d", "config": {"width": 0.25}}
    path.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError) as error:
        checkpoint.restore(wide, checkpoint.load_tensors(path), source=path)
    assert "tensor 'weight' is (3, 2) in the file, (5, 2) in the model" in str(error.value)
    assert "student.json says: cylinder3d of width 0.25" in str(error.value)


def test_missing_and_left_over_tensors_are_named() -> None:
    layer = nn.Linear(2, 3)
    state = dict(layer.state_dict())
    with pytest.raises(CheckpointError, match=r"it has no tensor 'bias' \(3,\)"):
        checkpoint.restore(layer, {"weight": state["weight"]}, source="file")
    with pytest.raises(CheckpointError, match=r"its tensor 'extra' \(1,\) is not in the model"):
        checkpoint.restore(layer, {**state, "extra": torch.zeros(1)}, source="file")


def test_a_full_disk_is_recognised_in_what_follows_from_it() -> None:
    quota = OSError(errno.EDQUOT, "Disk quota exceeded")
    wrapped = RuntimeError("cannot go on")
    wrapped.__cause__ = quota
    # Over processes only the text of our own error travels.
    told = ResourceError("the disk is full: /home/x could not be written (0 MB free).")
    assert all(map(files.is_disk_full, (quota, wrapped, told)))
    other = ResourceError("this machine ran out of memory in stage 'forward'")
    assert not any(map(files.is_disk_full, (other, OSError(errno.EACCES, "denied"), None)))
