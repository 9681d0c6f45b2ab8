"""Sweeps whose home is remote storage; fsspec's own file storage stands for a bucket."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch
from closed_form import sweep as formula
from mlflow_server import Server
from sweep_process import Driver, counted
from whole_sweep_checks import check_whole

import kdsweep
from kdsweep.engine.evaluate import evaluate
from kdsweep.engine.ranks import Ranks
from kdsweep.errors import SweepError
from kdsweep.home import home_folder
from kdsweep.spec.load import load_sweep
from kdsweep.spec.run import task_of
from kdsweep.sweep import launch

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server.uri
    server.stop()


@pytest.fixture
def bucket(tmp_path):
    return f"file://{tmp_path / 'bucket'}"


@pytest.mark.faults
def test_another_machine_goes_on_from_nothing_but_the_storage(
    bucket, tracking, tmp_path, monkeypatch, fault_table
):
    home = {}
    for machine in ("one", "two"):
        monkeypatch.setenv("KDSWEEP_SCRATCH", str(tmp_path / machine))
        home[machine] = home_folder(bucket)
    options = {"tracking_uri": tracking}
    first = Driver(
        home["one"],
        "launch",
        epoch_s=0.4,
        storage=bucket,
        options=options,
        KDSWEEP_SCRATCH=str(tmp_path / "one"),
    )
    first.wait_for("epoch", 18)
    first.kill()
    # In one step: its workers may write there for a moment longer.
    (tmp_path / "one").rename(tmp_path / "lost")
    second = Driver(
        home["two"],
        "resume",
        epoch_s=0.02,
        storage=bucket,
        options=options,
        KDSWEEP_SCRATCH=str(tmp_path / "two"),
    )
    code, output = second.end()
    assert code == 0, output
    row = check_whole(home["two"], "formula", asked=8, tracking_uri=tracking)
    assert row.lost == row.duplicates == 0
    assert row.repeated <= 2  # two slots
    kept = tmp_path / "bucket" / "sweeps" / "formula"
    assert counted(home["two"] / "sweeps" / "formula" / "journal.jsonl")["sweep_ended"] == 1
    names = json.loads((kept / "files.json").read_text())["files"]
    assert {"journal.jsonl", "sweep.json", "published.json"} <= set(names)
    assert not (kept / "lease.json").exists()
    fault_table("driver's machine lost, resumed on another from remote storage", **asdict(row))


@pytest.mark.faults
def test_a_student_comes_back_from_remote_storage(bucket, tracking, tmp_path, monkeypatch):
    monkeypatch.setenv("KDSWEEP_SCRATCH", str(tmp_path / "node"))
    changes = ["run.train.epochs=1", "run.teacher.train.epochs=1", "sweep.trials=2"]
    spec = load_sweep("search_spaces/digits.yaml", [*changes, "sweep.confirm.seeds=1"])
    end = launch(spec, home=bucket, tracking_uri=tracking, quiet=True)
    assert end.state == "finished", end.reason
    shutil.rmtree(tmp_path / "node")
    best = kdsweep.open_sweep("digits", tracking_uri=tracking, home=tmp_path).best()
    task = task_of("metric_learning")(spec.run.data, spec.run.loss, home=tmp_path)
    alone = Ranks(0, 1, torch.device("cpu"))
    found = evaluate(best.load_student(), task, batch_size=64, ranks=alone)
    assert found["recall_at_1"] == best.metrics["recall_at_1"]
    runs = tmp_path / "bucket" / "sweeps" / "digits" / "runs"
    left = [json.loads(path.read_text())["files"] for path in runs.glob("*/files.json")]
    assert left and not [name for files in left for name in files if "checkpoint/" in name]


def test_results_need_a_server_where_no_database_can_live(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("KDSWEEP_SCRATCH", str(tmp_path / "node"))
    with pytest.raises(SweepError, match=r"tracking is not set.*--tracking-uri http://HOST:5000"):
        launch(formula(), home=bucket, quiet=True)
