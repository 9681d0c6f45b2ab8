"""Exported students come back as they were, or say what is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch

from kdsweep.engine import load, load_student
from kdsweep.errors import CheckpointError, SpecError
from kdsweep.types import ModelInput

INPUT = ModelInput(num_classes=3, point_features=2, grid=(4, 5, 6))


def export(folder: Path, **changes: Any) -> tiny_world.TinyNet:
    folder.mkdir(exist_ok=True)
    student = tiny_world.TinyNet(tiny_world.TinyModelConfig(width=0.5), INPUT)
    facts = {"model": "tiny", "config": {"width": 0.5}, "model_input": INPUT, **changes}
    load.export_student(folder, student.state_dict(), load.describe(**facts))
    return student


@pytest.mark.parametrize("target", ["folder", "file"])
def test_a_student_comes_back_in_eval_mode(tmp_path: Path, target: str) -> None:
    student = export(tmp_path)
    loaded = load_student(tmp_path if target == "folder" else tmp_path / load.WEIGHTS)
    assert not loaded.training
    for name, tensor in student.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_weights_may_have_another_name_with_their_description(tmp_path: Path) -> None:
    export(tmp_path)
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"student{suffix}").rename(tmp_path / f"teacher{suffix}")
    assert load_student(str(tmp_path / "teacher.safetensors")) is not None


@pytest.mark.parametrize("missing", [load.WEIGHTS, load.SIDECAR])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    export(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(CheckpointError, match=f"{missing} is missing"):
        load_student(tmp_path)


def test_damage_is_found(tmp_path: Path) -> None:
    export(tmp_path)
    path = tmp_path / load.WEIGHTS
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(CheckpointError, match="is damaged: its checksum is"):
        load_student(tmp_path)


def test_a_description_of_another_width_is_found(tmp_path: Path) -> None:
    export(tmp_path, config={"width": 0.25})
    with pytest.raises(CheckpointError, match=r"\(8, 2\) in the file, \(4, 2\) in the model"):
        load_student(tmp_path)


def test_a_description_that_says_nothing_is_refused(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / load.SIDECAR).write_text("[]")
    with pytest.raises(CheckpointError, match="does not describe a student"):
        load_student(tmp_path)


def test_only_models_of_kdsweep_can_be_named(tmp_path: Path) -> None:
    export(tmp_path, model="os.path")
    with pytest.raises(SpecError, match=r"unknown model 'os\.path'"):
        load_student(tmp_path)


def test_the_grid_comes_back_as_a_tuple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tmp_path)
    seen: list[ModelInput] = []
    build = load.build_model

    def spy(name: str, config: Any, model_input: ModelInput) -> Any:
        seen.append(model_input)
        return build(name, config, model_input)

    monkeypatch.setattr(load, "build_model", spy)
    load_student(tmp_path)
    assert seen == [replace(INPUT)]
