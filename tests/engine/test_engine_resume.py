"""A run that is killed without warning goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdsweep.engine.place import Place
from kdsweep.engine.run import execute

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
execute(RunSpec.from_dict(json.loads(spec)), place, lambda progress: True)
"""

NUM_TRAIN, NUM_VAL = 12, 4


@pytest.mark.parametrize("views", [0, 2])
def test_a_run_killed_in_mid_epoch_ends_with_the_same_bits(
    run_spec: Callable[..., Any], place: Callable[..., Place], views: int
) -> None:
    spec = run_spec(
        data__train=NUM_TRAIN,
        data__val=NUM_VAL,
        method__hint=0.5,
        student__in_dropout=0.2,
        train__epochs=4,
        train__accumulate=2,
        train__schedule="cosine",
        train__views=views,
    )
    whole = execute(spec, place("whole"), lambda _: True).run_dir

    # In the third epoch, in its second batch; the teacher is trained already. `root` is no part
    # of a run's identity, so this is the same run.
    kill_at = 2 * (NUM_TRAIN + NUM_VAL) + 6
    killed = run_process(place("cut"), spec.with_overrides({"data.root": f"kill at {kill_at}"}))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = place("cut").run_dir / "checkpoint"
    assert [path.name for path in left.glob("epoch-*")] == ["epoch-0002"]

    resumed = execute(spec, place("cut"), lambda _: True).run_dir
    for name in ("student.safetensors", "adapters.safetensors"):
        first, second = load_file(whole / name), load_file(resumed / name)
        assert all(torch.equal(first[key], second[key]) for key in first), name


def run_process(place: Place, spec: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", _RUN, place.home, place.run_dir, json.dumps(spec.to_dict())],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
