"""Launching and resuming, as far as no trial runs."""

import json

import pytest

from kdsweep.errors import ResourceError, SpecError, SweepError
from kdsweep.sweep import launch, resume
from kdsweep.sweep.ledger import Ledger, Plan, Record
from kdsweep.sweep.lock import SweepLock
from kdsweep.sweep.tuner import JOURNAL
from kdsweep.tracking import MemoryTracker


@pytest.fixture(autouse=True)
def tracker(monkeypatch):
    tracker = MemoryTracker()
    monkeypatch.setattr("kdsweep.sweep.tuner.connect", lambda uri, home: tracker)
    yield tracker
    tracker.close()


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """Tests before these may have left this process connected to one."""
    monkeypatch.setattr("kdsweep.sweep.connection.is_connected", lambda: False)


def test_a_gpu_that_is_not_there_is_refused_and_the_name_stays_free(spec, tmp_path, monkeypatch):
    node = {"CPU": 2.0, "GPU": 0.0}
    monkeypatch.setattr("kdsweep.sweep.connection.local_node", lambda: node)
    greedy = spec(resources={"gpus_per_worker": 1.0})
    for _ in range(2):
        with pytest.raises(ResourceError, match="There is no GPU here"):
            launch(greedy, home=tmp_path, quiet=True)
    record = Record.read(tmp_path / "sweeps" / "small" / JOURNAL)
    assert record.state == "failed"
    assert "There is no GPU here" in record.ends[-1]["reason"]


def test_a_running_sweep_is_refused_with_its_process(spec, tmp_path):
    with (
        SweepLock(tmp_path / "sweeps" / "small"),
        pytest.raises(SweepError, match="'small' is running already: process"),
    ):
        launch(spec(), home=tmp_path, quiet=True)


@pytest.mark.parametrize("state", ["finished", "interrupted", None])
def test_a_sweep_with_trials_is_not_launched_again(spec, tmp_path, state):
    folder = tmp_path / "sweeps" / "small"
    with Ledger.open(folder / JOURNAL) as ledger:
        ledger.write("sweep_started", sweep="small", trials=6)
        ledger.created(Plan("t001", "search", {}, "a"))
        if state:
            ledger.write("sweep_ended", state=state, reason="")
    with pytest.raises(SweepError, match=r"exists already.*kdsweep resume small"):
        launch(spec(), home=tmp_path, quiet=True)


def test_an_unknown_sweep_is_answered_with_the_nearest_name(tmp_path):
    with pytest.raises(SweepError, match="it holds none"):
        resume("pvd", home=tmp_path)
    (tmp_path / "sweeps" / "pvd-2").mkdir(parents=True)
    (tmp_path / "sweeps" / "pvd-2" / "sweep.json").write_text("{}")
    with pytest.raises(SweepError, match="Did you mean pvd-2"):
        resume("pvd-1", home=tmp_path)


def test_a_finished_sweep_is_sent_by_a_resume_to_a_tracker_that_was_away(spec, tmp_path, tracker):
    folder = tmp_path / "sweeps" / "small"
    with Ledger.open(folder / JOURNAL) as ledger:
        ledger.write("sweep_started", sweep="small", spec=spec().to_dict(), trials=6)
        ledger.created(Plan("t001", "search", {}, "a"))
        ledger.ended("t001", "finished", epoch=4, metrics={"miou": 0.5})
        ledger.write("sweep_ended", state="finished", reason="")
    (folder / "sweep.json").write_text(json.dumps(spec().to_dict()))
    assert resume("small", home=tmp_path, quiet=True).state == "finished"
    assert [(t.trial, t.state) for t in tracker.read_trials("small")] == [("t001", "finished")]
    with pytest.raises(SweepError, match="nothing is left to do"):
        resume("small", home=tmp_path, quiet=True)


@pytest.mark.parametrize("state", ["finished", "interrupted"])
@pytest.mark.parametrize("asked", [{}, {"more": 3}, {"retry": "failed"}], ids=str)
def test_a_resume_with_a_spent_budget_runs_nothing_and_says_how_to_raise_it(
    spec, tmp_path, tracker, monkeypatch, state, asked
):
    """Ray is not even started; what the tracker has not got is sent."""
    folder = tmp_path / "sweeps" / "small"
    sweep = spec(budget={"hours": 1e-9})
    with Ledger.open(folder / JOURNAL) as ledger:
        ledger.write("sweep_started", sweep="small", spec=sweep.to_dict(), trials=6)
        ledger.created(Plan("t001", "search", sweep.run.to_dict(), "a"))
        ledger.created(Plan("t002", "search", sweep.run.to_dict(), "b"))
        ledger.ended("t001", "failed", reason="out of memory")
        ledger.ended("t002", state, metrics={"miou": 0.5})
        ledger.write("sweep_ended", state=state, reason="", over_budget=state == "finished")
    (folder / "sweep.json").write_text(json.dumps(sweep.to_dict()))
    ended = resume("small", home=tmp_path, quiet=True, **asked)
    assert ended.state == state
    assert "the budget of 1e-09 hours is spent" in ended.reason
    assert ended.reason.endswith("resume small --home " + f"{tmp_path} --budget NAME=LIMIT")
    assert ("t002 did not run to the end" in ended.reason) == (state == "interrupted")
    assert [entry.leases for entry in ended.record.trials.values()] == [[], []]
    assert {t.trial: t.state for t in tracker.read_trials("small")} == {
        "t001": "failed",
        "t002": state,
    }
    assert (folder / "summary" / "report.html").is_file()

    def began():
        raise ResourceError("it would have begun")

    monkeypatch.setattr("kdsweep.sweep.connection.local_node", began)
    with pytest.raises(
        SpecError, match=r"budget\.hous is not a field(.|\n)*Did you mean budget\.hours"
    ):
        resume("small", home=tmp_path, quiet=True, budget={"hous": 1.0}, **asked)
    for budget in ({"hours": 1.0}, None):  # it is kept
        with pytest.raises(ResourceError, match="it would have begun"):
            resume("small", home=tmp_path, quiet=True, budget=budget, **asked)
