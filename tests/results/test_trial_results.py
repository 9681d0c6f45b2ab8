"""What one trial gives: configuration, history, files, the student."""

import pytest
import torch
from made_up_sweep import fill
from torch import nn

import kdsweep.engine
from kdsweep.errors import SweepError
from kdsweep.results import Sweep


def test_config_metrics_and_history_are_those_of_the_run(sweep):
    trial = sweep["t001"]
    assert trial.config == {"task": "lidar_seg", "student": {"width": 0.5}}
    assert trial.params == {"student.width": 0.5, "method.point_output": 0.6}
    assert trial.metrics["miou"] == 0.556
    history = trial.history()
    assert history.index.tolist() == [1, 2, 3, 4]
    assert set(history.columns) == {"miou", "loss/total", "lr"}
    assert history["miou"].is_monotonic_increasing


def test_a_trial_that_never_ran_has_an_empty_history(sweep):
    assert sweep["t007"].history().empty


def test_the_student_is_loaded_from_the_folder_that_was_stored(
    tracker, student_folder, monkeypatch
):
    def load(path, device):
        assert (path / "student.safetensors").is_file() and (path / "student.json").is_file()
        return nn.Linear(1, 1).to(device).eval()

    monkeypatch.setattr(kdsweep.engine, "load_student", load)
    student = Sweep("pvd", fill(tracker, artifacts={"student": student_folder}))["t001"]
    module = student.load_student()
    assert isinstance(module, torch.nn.Module) and not module.training


def test_weights_that_were_not_kept_say_how_to_get_them(sweep):
    with pytest.raises(SweepError, match=r"t002 of sweep 'pvd' were not kept.*kdsweep run FILE"):
        sweep["t002"].load_student()
    with pytest.raises(SweepError, match=r"it is stopped, and only finished trials"):
        sweep["t006"].load_student()


def test_a_trial_shows_what_it_is(sweep):
    assert repr(sweep["t003"]) == (
        "<Trial t003 of pvd: search, finished, student.width=0.25, method.point_output=0.3>"
    )
    assert repr(sweep) == "<Sweep pvd: 20 trials, 18 finished>"
    assert sweep.teacher.id == "teacher"
    assert [trial.id for trial in sweep.baselines] == ["undistilled", "published"]
