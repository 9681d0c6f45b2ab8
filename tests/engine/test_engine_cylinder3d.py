"""Whole runs of the real thing, small: Cylinder3D distilled by PVD on synthetic streets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.native_roots import write_kitti
from safetensors.torch import load_file

from kdsweep.engine import load_student
from kdsweep.engine.evaluate import evaluate
from kdsweep.engine.knowledge import Knowledge, open_store
from kdsweep.engine.load import build_model
from kdsweep.engine.place import Place
from kdsweep.engine.profile import static_profile
from kdsweep.engine.ranks import Ranks
from kdsweep.engine.run import RunResult, execute
from kdsweep.engine.teacher import teacher_dir
from kdsweep.errors import CheckpointError, DataError
from kdsweep.spec.run import RunSpec, task_of

TERMS = ("point_output", "voxel_output", "point_affinity", "voxel_affinity")
SUPERVISED = ("voxel_ce", "voxel_lovasz", "point_ce")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def spec(**overrides: Any) -> RunSpec:
    small = {"model": "cylinder3d", "slim_encoder": True, "width": 0.0625}
    run = RunSpec.from_dict(
        {
            "task": "lidar_seg",
            "data": {
                "synth": {"scenes": 4, "beams": 16, "columns": 128, "seed": 1},
                "grid": [32, 24, 8],
            },
            "teacher": {**small, "width": 0.125, "train": {"epochs": 1, "lr": 0.002}},
            "student": small,
            "method": {"name": "pvd", "supervoxel": [8, 6, 4], "num_points": 64, "num_voxels": 32},
            "train": {"epochs": 2, "lr": 0.002, "views": 1},
        }
    )
    return run.with_overrides({key.replace("__", "."): value for key, value in overrides.items()})


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Callable[..., Any]:
    """Executes a run below the module's home; gives its result and the reports of its epochs."""

    def execute_in(
        name: str, run_spec: RunSpec, stop_at: int = 0, **fields: Any
    ) -> tuple[RunResult, list[dict[str, float]]]:
        reports = []

        def report(progress: Any) -> bool:
            if progress.stage == "train":
                reports.append(progress.metrics)
            return progress.stage != "train" or progress.epoch != stop_at

        place = Place(home, tmp_path / name, device="cpu", threads=1, **fields)
        return execute(run_spec, place, report), reports

    return execute_in


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    return load_file(result.run_dir / "student.safetensors")


def test_a_student_is_distilled_and_comes_back_with_its_metric(run: Any, home: Path) -> None:
    result, reports = run("run", spec())
    assert len(reports) == 2
    for term in TERMS + SUPERVISED:
        assert reports[-1][f"loss/{term}"] > 0
    shares = [reports[-1][f"grad_share/{term}"] for term in TERMS + SUPERVISED]
    assert sum(shares) == pytest.approx(1.0, abs=1e-5) and min(shares) > 0
    assert result.metrics["params_ratio"] > 3
    assert static_profile(spec(), Place(home, home / "unused"))["macs"] == result.metrics["macs"]

    task = task_of("lidar_seg")(spec().data, spec().loss, home=home)
    alone = Ranks(0, 1, torch.device("cpu"))
    measured = evaluate(load_student(result.run_dir), task, batch_size=2, ranks=alone)
    assert measured == {name: result.metrics[name] for name in measured}


def test_stopped_and_resumed_equals_whole_bit_for_bit(run: Any) -> None:
    whole, _ = run("whole", spec())
    stopped, _ = run("cut", spec(), stop_at=1)
    assert stopped.state == "stopped"
    resumed, _ = run("cut", spec())
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_stored_and_live_knowledge_give_the_same_losses(run: Any) -> None:
    one = {"train__epochs": 1}  # the same student in both: its weights have not parted yet
    _, (live,) = run("live", spec(**one), knowledge_gb=0.0)
    _, (stored,) = run("stored", spec(**one))
    for term in TERMS:
        assert stored[f"loss/{term}"] == pytest.approx(live[f"loss/{term}"], rel=2e-3)


def test_only_the_taps_of_active_terms_are_stored(run: Any, home: Path) -> None:
    switched_off = {f"method__{term}": 0.0 for term in TERMS[1:]}
    before = set((home / "knowledge").glob("*")) if (home / "knowledge").exists() else set()
    run("one", spec(train__epochs=1, seed=77, **switched_off))
    (folder,) = set((home / "knowledge").glob("*")) - before
    # without refinement the logits of points are rows of those of cells
    assert {path.name for path in folder.iterdir()} == {"about.json", "voxel_logits"}


@pytest.mark.parametrize("refinement", [False, True])
def test_taps_that_are_rows_of_others_come_back_from_them(home: Path, refinement: bool) -> None:
    task = task_of("lidar_seg")(spec().data, spec().loss, home=home)
    task.prepare()
    config = {"width": 0.0625, "slim_encoder": True, "refinement": refinement}
    teacher = build_model("cylinder3d", config, task.model_input())
    dataset = task.train_set(seed=0, epoch=0, views=1)
    samples = [dataset[0], dataset[1]]
    store = open_store(home, cap_gb=1.0, teacher_digest=f"rows-{refinement}")
    wanted = frozenset({"point_logits", "point_features"})
    knowledge = Knowledge(teacher, wanted, device=torch.device("cpu"), store=store)
    item = knowledge.collate(task.collate)(samples)
    with torch.no_grad():
        expected = teacher.eval()(task.collate(samples))
    taps = knowledge(item)
    assert set(taps) == wanted
    for name in wanted:
        torch.testing.assert_close(taps[name], expected[name], rtol=1e-3, atol=1e-5)
    assert store is not None
    kind = "point" if refinement else "voxel"
    stored = {path.name for path in store.folder.iterdir()} - {"about.json"}
    assert stored == {f"{kind}_logits", f"{kind}_features"}


def test_a_student_can_start_from_the_sliced_teacher(run: Any, home: Path) -> None:
    sliced, _ = run("sliced", spec(train__init="sliced_teacher", train__lr=1e-12, train__epochs=1))
    random, _ = run("random", spec(train__lr=1e-12, train__epochs=1))
    teacher = load_file(teacher_dir(spec(), home) / "student.safetensors")
    name = "encoder.compress.weight"
    rows, columns = weights(sliced)[name].shape
    expected = teacher[name][:rows, :columns]
    assert torch.allclose(weights(sliced)[name], expected, atol=1e-6)
    assert not torch.allclose(weights(random)[name], expected, atol=1e-3)


def test_a_teacher_of_another_width_is_named(run: Any) -> None:
    given, _ = run("narrow", spec(train__epochs=1).undistilled())
    wrong = spec(teacher__train=None, teacher__checkpoint=str(given.run_dir))
    with pytest.raises(CheckpointError) as error:
        run("wrong", wrong)
    told = str(error.value)
    assert "run.teacher: " in told and "in the file" in told and "in the model" in told
    assert "does not fit model 'cylinder3d' of width 0.125" in told
    assert "student.json says: cylinder3d of width 0.0625. Set run.teacher.model and its" in told


def test_a_teacher_trained_without_the_unlabelled_scans_of_a_root_fits_its_students(
    run: Any, tmp_path: Path
) -> None:
    root = write_kitti(tmp_path / "kitti", {"00": 2, "01": 2, "08": 1})
    given = {"data__root": str(root), "data__train_sequences": ["00"]}
    wanted = {"data__unlabelled_sequences": ["01"], "train__epochs": 1}
    result, _ = run("semi", spec(data__synth=None, **given, **wanted))
    assert (result.state, result.epoch) == ("finished", 1)


def test_a_missing_data_root_is_named(run: Any) -> None:
    with pytest.raises(DataError, match="/nowhere/at/all"):
        run("no-data", spec(data__synth=None, data__root="/nowhere/at/all"))


def test_bfloat16_trains_in_autocast(run: Any) -> None:
    _, reports = run("amp", spec(train__amp="bfloat16", train__epochs=1))
    assert all(torch.isfinite(torch.tensor(value)) for value in reports[0].values())
