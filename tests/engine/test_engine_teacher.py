"""The teacher's own run, and what the engine needs to be installed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_world

from kdsweep.engine import load
from kdsweep.engine.parts import check_fit
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.engine.teacher import teacher_dir, teacher_weights
from kdsweep.errors import CheckpointError
from kdsweep.types import ModelInput

_RUN = """
import json, sys
from pathlib import Path
import tiny_world
tiny_world.install()
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.spec.run import RunSpec
home, run_dir, spec = sys.argv[1:]
place = Place(Path(home), Path(run_dir), device="cpu", threads=1)
stages = []
execute(RunSpec.from_dict(json.loads(spec)), place, lambda p: stages.append(p.stage) or True)
print(stages.count("teacher"))
"""

_WITHOUT = """
import sys
for name in ("ray", "mlflow", "optuna", "pandas", "typer", "rich", "plotly", "trimesh", "embreex"):
    sys.modules[name] = None  # importing it raises ImportError
import kdsweep.engine.run
import kdsweep.engine.profile
import kdsweep.tasks.lidar_seg
"""


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return output.strip()


def test_one_of_two_processes_trains_the_teacher_that_both_need(
    run_spec: Callable[..., Any], place: Callable[..., Place]
) -> None:
    where = [place("a"), place("b")]
    spec = json.dumps(run_spec(train__epochs=1).to_dict())
    both = [python(_RUN, each.home, each.run_dir, spec) for each in where]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(output.strip() for output, _ in outputs) == ["0", "2"]


def test_the_engine_needs_no_ray_mlflow_optuna_or_pandas() -> None:
    finish(python(_WITHOUT))


def test_runs_that_differ_in_student_method_and_seed_share_a_teacher(
    run_spec: Callable[..., Any], tmp_path: Path
) -> None:
    shared = teacher_dir(run_spec(), tmp_path)
    assert teacher_dir(run_spec(student__width=0.25, method__kl=2.0, seed=8), tmp_path) == shared
    assert teacher_dir(run_spec(teacher__width=2.0), tmp_path) != shared
    assert teacher_dir(run_spec(data__train=20), tmp_path) != shared
    assert teacher_weights(run_spec(), tmp_path) == shared / "student.safetensors"


def export(folder: Path, **config: Any) -> Path:
    """A teacher's folder, as a run of it would have left it."""
    model_input = ModelInput(num_classes=tiny_world.NUM_CLASSES, point_features=2)
    teacher = load.build_model("tiny", config, model_input)
    folder.mkdir()
    facts = {"model": "tiny", "config": config, "model_input": model_input}
    load.export_student(folder, teacher.state_dict(), load.describe(**facts))
    return folder


def test_a_teachers_file_of_a_network_that_computes_something_else_is_refused(
    run_spec: Callable[..., Any], place: Callable[..., Place], tmp_path: Path
) -> None:
    folder = export(tmp_path / "t", unit=True)
    given = {"teacher__train": None, "teacher__checkpoint": str(folder)}
    message = (
        r"run\.teacher: .*student\.safetensors is of another network: student\.json beside it "
        r"says unit true \(run\.teacher\.unit is false\)\. Set run\.teacher\.unit: true, or name "
        r"another file in run\.teacher\.checkpoint\."
    )
    for attempt in (
        lambda: check_fit(run_spec(**given), tmp_path / "home"),
        lambda: execute(run_spec(**given), place(), lambda _: True),
    ):
        with pytest.raises(CheckpointError, match=message):
            attempt()
    check_fit(run_spec(**given, teacher__unit=True), tmp_path / "home")


def test_a_teachers_file_of_another_model_of_equal_shapes_is_refused(
    run_spec: Callable[..., Any], tmp_path: Path
) -> None:
    folder = export(tmp_path / "t")
    sidecar = folder / load.SIDECAR
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "model": "huge"}))
    spec = run_spec(teacher__train=None, teacher__checkpoint=str(folder))
    with pytest.raises(
        CheckpointError, match=r'says model "huge" \(run\.teacher\.model is "tiny"\)'
    ):
        check_fit(spec, tmp_path / "home")


def test_a_description_of_another_version_is_refused(
    run_spec: Callable[..., Any], tmp_path: Path
) -> None:
    folder = export(tmp_path / "t")
    sidecar = folder / load.SIDECAR
    sidecar.write_text(json.dumps({"model": "tiny", "config": {"height": 2}}))
    spec = run_spec(teacher__train=None, teacher__checkpoint=str(folder))
    with pytest.raises(CheckpointError, match=r"student\.json is damaged or of another version: "):
        check_fit(spec, tmp_path / "home")


@pytest.mark.parametrize("content", [None, "{}", "[1]", "not JSON"])
def test_a_file_beside_which_nothing_describes_a_network_is_taken_by_its_shapes(
    run_spec: Callable[..., Any], tmp_path: Path, content: str | None
) -> None:
    sidecar = export(tmp_path / "t", unit=True) / load.SIDECAR
    sidecar.unlink()
    if content is not None:
        sidecar.write_text(content)
    spec = run_spec(teacher__train=None, teacher__checkpoint=str(tmp_path / "t"))
    check_fit(spec, tmp_path / "home")
