"""The teacher's own run, and what the engine needs to be installed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdsweep.engine.place import Place
from kdsweep.engine.teacher import teacher_dir, teacher_weights

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
