"""What a publisher and a real MLflow store do to each other."""

import pytest
from mlflow import MlflowClient

from kdsweep.errors import TrackingError
from kdsweep.sweep.ledger import Ledger, Plan
from kdsweep.sweep.publisher import Publisher, unsent
from kdsweep.tracking import connect
from kdsweep.tracking.mlflow import MlflowTracker


@pytest.fixture
def folder(tmp_path):
    """A sweep's folder in which one trial has finished."""
    folder = tmp_path / "sweeps" / "s"
    run = folder / "runs" / "t001"
    run.mkdir(parents=True)
    for name in ("student.safetensors", "student.json", "adapters.safetensors"):
        (run / name).write_text(name)
    with Ledger.open(folder / "journal.jsonl") as ledger:
        ledger.write("sweep_started", sweep="s", spec={"name": "s"}, tags={})
        ledger.created(Plan("t001", "search", {}, "a"))
        ledger.started("t001", slot="x", node="n")
        ledger.epoch("t001", 1, {"miou": 0.5})
        ledger.ended("t001", "finished", epoch=1, metrics={"miou": 0.5}, run_dir=str(run))
    return folder


def publish(folder, tracker):
    notes = []
    with Publisher("s", folder, lambda: tracker, notes.append, wait_s=0.001) as publisher:
        publisher.finish(20.0)
    return notes


def end(folder):
    with Ledger.open(folder / "journal.jsonl") as ledger:
        ledger.created(Plan("t002", "search", {}, "b"))
        ledger.ended("t002", "stopped", epoch=1, metrics={"miou": 0.4})
        ledger.write("sweep_ended", state="finished", reason="")


def states(tracker):
    return {record.trial: record.state for record in tracker.read_trials("s")}


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("mended", ["restored", "removed"])
def test_an_experiment_that_was_deleted_is_told_once_and_everything_is_sent_later(
    folder, tmp_path, begun, mended
):
    tracker = connect(None, tmp_path)
    client = MlflowClient(tracker.store.uri)
    if begun:
        assert publish(folder, tracker) == []
    else:
        files = (tmp_path / "artifacts").as_uri()
        client.create_experiment("s", files, tags={"kdsweep.owner": "kdsweep"})
    experiment = client.get_experiment_by_name("s").experiment_id
    client.delete_experiment(experiment)
    end(folder)
    notes = publish(folder, tracker)
    assert len(notes) == 2 and unsent(folder, "") == 8
    assert "Tracking refuses the sweep" in notes[0]
    assert f"mlflow experiments restore -x {experiment}" in notes[0]
    if mended == "restored":
        client.restore_experiment(experiment)
    else:
        client._tracking_client.store._hard_delete_experiment(experiment)  # what mlflow gc does
    assert publish(folder, connect(None, tmp_path)) == []
    assert states(tracker if mended == "restored" else connect(None, tmp_path)) == {
        "t001": "finished",
        "t002": "stopped",
    }
    assert tracker.sweeps()[0].state == "finished"


class Pruned(MlflowTracker):
    """Loses a file of the trial as the driver prunes it: before the check, or before the upload."""

    def __init__(self, home, lost, when):
        super().__init__(None, home)
        self._lost, self._when = lost, when

    def end_trial(self, *args):
        if self._when == "checked":
            self._lost.unlink(missing_ok=True)
        super().end_trial(*args)

    def _upload(self, run_id, path, name):
        if self._when == "uploaded":
            self._lost.unlink(missing_ok=True)
        super()._upload(run_id, path, name)


@pytest.mark.parametrize("when", ["checked", "uploaded"])
@pytest.mark.parametrize("name", ["student.safetensors", "adapters.safetensors"])
def test_weights_that_are_pruned_while_they_are_sent_are_left_out(folder, tmp_path, name, when):
    tracker = Pruned(tmp_path, folder / "runs" / "t001" / name, when)
    end(folder)
    assert publish(folder, tracker) == []
    assert unsent(folder, "") == 0
    assert states(tracker) == {"t001": "finished", "t002": "stopped"}
    if name == "adapters.safetensors":
        sent = [path.name for path in tracker.fetch("s", "t001", "student").iterdir()]
        assert sorted(sent) == ["student.json", "student.safetensors"]
    else:
        with pytest.raises(TrackingError, match="has no file 'student'"):
            tracker.fetch("s", "t001", "student")
