"""Two workers of one run, joined by gloo on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch
from safetensors.torch import load_file

from kdsweep.engine import load_student
from kdsweep.engine.evaluate import evaluate
from kdsweep.engine.place import Place
from kdsweep.engine.ranks import Ranks
from kdsweep.engine.run import execute
from kdsweep.errors import SpecError

_RANK = """
import datetime, gc, json, sys
from pathlib import Path
import torch
import torch.distributed as dist
import tiny_world
tiny_world.install()
from kdsweep.engine import load_student, train
from kdsweep.engine.evaluate import evaluate
from kdsweep.engine.place import Place
from kdsweep.engine.ranks import Ranks
from kdsweep.engine.run import execute
from kdsweep.spec.run import RunSpec

rank, home, jobs = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
dist.init_process_group(
    "gloo", init_method=f"file://{home}/rendezvous", rank=rank, world_size=2,
    timeout=datetime.timedelta(seconds=120),
)
trained = []
run_loop = train._Loop.run
def spy(loop, report):
    state = run_loop(loop, report)
    trained.append({k: v.tolist() for k, v in loop.objective.named_parameters()})
    return state
train._Loop.run = spy
for number, job in enumerate(jobs):
    place = Place(home / "home", home / job["name"], device="cpu", threads=1)
    seen = []
    def report(progress):
        seen.append((progress.stage, progress.epoch, progress.metrics))
        return not (rank == 1 and progress.stage == "train" and progress.epoch == job["stop_at"])
    try:
        result = execute(RunSpec.from_dict(job["spec"]), place, report)
        outcome = {"state": result.state, "metrics": result.metrics, "weights": trained[-1]}
    except ArithmeticError as error:
        outcome = {"state": "failed", "error": str(error)}
    outcome["epochs"] = [epoch for stage, epoch, _ in seen if stage == "train"]
    outcome["last"] = [metrics for stage, _, metrics in seen if stage == "train"][-1:]
    with open(home / f"{number}-{rank}.json", "w") as file:
        json.dump(outcome, file)
student = load_student(home / "whole")
task = tiny_world.TinyTask(tiny_world.TinyData(val=5), tiny_world.TinyLoss(), home=home)
figures = evaluate(student, task, batch_size=2, ranks=Ranks.current(torch.device("cpu")))
with open(home / f"evaluated-{rank}.json", "w") as file:
    json.dump({"samples": sum(student.calls), "figures": figures}, file)
gc.collect()  # a DDP wrapper that outlives its process group aborts the interpreter at its end
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Any]:
    """Runs all jobs in one pair of processes; gives both workers' outcomes of the n-th."""
    folder = tmp_path_factory.mktemp("pair")
    base = {
        "task": "tiny",
        "teacher": {"model": "tiny", "train": {"epochs": 1, "batch_size": 4, "lr": 0.02}},
        "student": {"model": "tiny", "width": 0.5},
        "method": {"name": "tiny", "hint": 0.3},
        "train": {"epochs": 3, "batch_size": 4, "lr": 0.02, "accumulate": 2, "views": 2},
        "data": {"val": 5},
        "seed": 3,
    }
    jobs = [
        {"name": "whole", "spec": base, "stop_at": 0},
        {"name": "cut", "spec": base, "stop_at": 2},
        {"name": "cut", "spec": base, "stop_at": 0},
        {"name": "poisoned", "spec": {**base, "loss": {"poison": 0.1}}, "stop_at": 0},
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(rank), folder, json.dumps(jobs)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)

    def find(number: int) -> Any:
        return [json.loads((folder / f"{number}-{rank}.json").read_text()) for rank in (0, 1)]

    find.folder = folder  # type: ignore[attr-defined]
    return find


pytestmark = pytest.mark.slow


def test_all_workers_end_with_the_same_weights_and_metrics(outcomes: Any) -> None:
    first, second = outcomes(0)
    assert first["state"] == second["state"] == "finished"
    assert first["weights"] == second["weights"]
    assert any(name.startswith("method.adapter") for name in first["weights"])
    assert first["metrics"] == second["metrics"]


def test_terms_are_averaged_over_workers(outcomes: Any) -> None:
    first, second = (outcome["last"][0] for outcome in outcomes(0))
    for name in ("loss/ce", "loss/kl", "loss/hint", "grad_share/ce", "likelihood"):
        assert first[name] == second[name]


def test_the_merged_metric_is_that_of_one_worker(outcomes: Any) -> None:
    student = load_student(outcomes.folder / "whole")
    task = tiny_world.TinyTask(
        tiny_world.TinyData(val=5), tiny_world.TinyLoss(), home=Path("unused")
    )
    alone = Ranks(0, 1, torch.device("cpu"))
    metric = evaluate(student, task, batch_size=2, ranks=alone)["likelihood"]
    assert outcomes(0)[0]["metrics"]["likelihood"] == pytest.approx(metric, rel=1e-6)


def test_workers_share_the_evaluation(outcomes: Any) -> None:
    texts = [(outcomes.folder / f"evaluated-{rank}.json").read_text() for rank in (0, 1)]
    first, second = map(json.loads, texts)
    assert (first["samples"], second["samples"]) == (3, 2)
    assert first["figures"] == second["figures"]


def test_one_worker_may_stop_all_and_the_run_resumes_exactly(outcomes: Any) -> None:
    stopped = outcomes(1)
    assert [outcome["state"] for outcome in stopped] == ["stopped", "stopped"]
    assert [outcome["epochs"] for outcome in stopped] == [[1, 2], [1, 2]]
    resumed = outcomes(2)
    assert [outcome["epochs"] for outcome in resumed] == [[2, 3], [2, 3]]
    files = [outcomes.folder / name / "student.safetensors" for name in ("whole", "cut")]
    whole, cut = map(load_file, files)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_non_finite_term_of_one_worker_ends_all(outcomes: Any) -> None:
    for outcome in outcomes(3):
        assert outcome["state"] == "failed"
        assert "term 'poison' is not finite in epoch 2, step 2" in outcome["error"]


def test_a_batch_that_cannot_be_split_is_refused(
    run_spec: Callable[..., Any], place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    def three(device: torch.device) -> Ranks:
        ranks = Ranks(0, 3, device)
        return ranks

    monkeypatch.setattr(Ranks, "current", staticmethod(three))
    monkeypatch.setattr(Ranks, "from_first", lambda self, compute: compute())
    with pytest.raises(SpecError, match=r"batch_size 4 cannot be split over 3 workers; valid: mul"):
        execute(run_spec().undistilled(), place(), lambda _: True)


def test_workers_with_too_few_samples_for_the_task_are_refused(
    run_spec: Callable[..., Any], place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(data: Any, *, share: int) -> str:
        return "the task needs 3" if share < 3 else ""

    monkeypatch.setattr(tiny_world.TinyTask, "share_fault", staticmethod(fault))
    monkeypatch.setattr(Ranks, "current", staticmethod(lambda device: Ranks(0, 2, device)))
    monkeypatch.setattr(Ranks, "from_first", lambda self, compute: compute())
    with pytest.raises(SpecError, match="4 gives each of 2 workers 2, but the task needs 3 of eve"):
        execute(run_spec().undistilled(), place(), lambda _: True)
