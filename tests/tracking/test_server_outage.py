"""A real MLflow server that goes away and comes back."""

import pytest
from mlflow_server import Server

from kdsweep.tracking import SweepInfo, TrackingUnavailable, TrialInfo, connect

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    yield server
    server.stop()


def test_what_failed_while_the_server_was_down_is_recorded_once_when_it_is_back(server, tmp_path):
    student = tmp_path / "student"
    student.mkdir()
    (student / "student.json").write_text("{}")
    tracker = connect(server.uri, tmp_path / "home")
    tracker.open_sweep(SweepInfo("s", {"objectives": {"miou": "max"}}, "sweep: {}\n"))
    tracker.open_trial(TrialInfo("s", "t000", "search", params={"a.b": 0.5}, spec={"x": 1}))
    tracker.log_epoch("s", "t000", 1, {"miou": 0.1})
    server.stop()

    calls = [
        lambda: tracker.log_epoch("s", "t000", 2, {"miou": 0.2}),
        lambda: tracker.open_trial(TrialInfo("s", "t001", "search")),
        lambda: tracker.end_trial("s", "t000", "finished", "", {"miou": 0.2}, {"student": student}),
        lambda: tracker.log_summary("s", {"sweep.txt": student / "student.json"}, headline="x"),
    ]
    for call in calls:
        with pytest.raises(TrackingUnavailable, match="could not"):
            call()
    with pytest.raises(TrackingUnavailable, match="does not answer"):
        connect(server.uri, tmp_path / "home")

    server.start()
    for call in [*calls, *calls]:
        call()
    first, second = tracker.read_trials("s")
    assert (first.trial, first.state, first.epoch) == ("t000", "finished", 2)
    assert first.history()["miou"] == [(1, 0.1), (2, 0.2)]
    assert first.params == {"a.b": 0.5} and first.spec() == {"x": 1}
    assert (second.trial, second.state) == ("t001", "running")
    fetched = tracker.fetch("s", "t000", "student")
    assert (fetched / "student.json").read_text() == "{}"
    assert fetched.is_relative_to(tmp_path / "home")
    assert tracker.sweeps()[0].location.startswith(f"{server.uri}/#/experiments/")
