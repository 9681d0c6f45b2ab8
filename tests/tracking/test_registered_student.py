"""The registered student, loaded as MLflow loads models and as kdsweep does."""

import mlflow
import pytest
import torch

from kdsweep.engine import load_student
from kdsweep.engine.load import build_model, describe, export_student
from kdsweep.results import Sweep
from kdsweep.tracking import SweepInfo, TrialInfo
from kdsweep.tracking.mlflow import MlflowTracker
from kdsweep.types import ModelInput


@pytest.fixture
def exported(tmp_path):
    """A small untrained student, exported as a run does it."""
    torch.manual_seed(0)
    config, model_input = {"width": 0.125}, ModelInput(20, 9, (48, 36, 8))
    student = build_model("cylinder3d", config, model_input)
    folder = tmp_path / "student"
    folder.mkdir()
    description = describe(model="cylinder3d", config=config, model_input=model_input)
    export_student(folder, student.state_dict(), description)
    return folder


@pytest.fixture
def tracker(tmp_path):
    tracker = MlflowTracker(None, tmp_path / "home")
    mlflow.set_tracking_uri(tracker.store.uri)
    mlflow.set_registry_uri(tracker.store.uri)
    yield tracker
    mlflow.set_tracking_uri(None)  # and no longer in $MLFLOW_TRACKING_URI
    mlflow.set_registry_uri(None)


def test_registry_results_and_file_give_the_same_student(tracker, exported):
    tracker.open_sweep(SweepInfo("pvd", {"objectives": {"miou": "max"}}))
    tracker.open_trial(TrialInfo("pvd", "t000", "search"))
    tracker.end_trial("pvd", "t000", "finished", "", {"miou": 0.5}, {"student": exported})
    uri = tracker.register_best("pvd", "t000")

    registered = mlflow.pyfunc.load_model(uri).unwrap_python_model().module
    asked = Sweep("pvd", tracker).best("miou").load_student()
    wanted = load_student(exported).state_dict()
    for module in (registered, asked):
        assert not module.training
        state = module.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)
