"""Answers of a real MLflow server that are late or never come: nothing is there twice or lost."""

import uuid

import pytest
from late_proxy import Proxy
from mlflow import MlflowClient
from mlflow_server import Server

from kdsweep.sweep.ledger import Ledger, Plan
from kdsweep.sweep.publisher import Publisher
from kdsweep.tracking import SweepInfo, TrackingUnavailable, TrialInfo, connect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxy(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture(params=["0", "1"], ids=["never", "once"])
def repeats(request, monkeypatch):
    """How often MLflow itself repeats a request, which a user may choose."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", request.param)


@pytest.fixture
def name():
    return f"late-{uuid.uuid4().hex[:8]}"


def runs_of(server, name):
    """Trial and state of all runs that stand in MLflow, deleted ones left out."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(name).experiment_id
    runs = client.search_runs([experiment])
    return sorted(
        (run.data.tags["kdsweep.trial"], run.data.tags.get("kdsweep.state", "")) for run in runs
    )


@pytest.mark.usefixtures("repeats")
@pytest.mark.parametrize("how", ["cut", "held"])
@pytest.mark.parametrize(
    ("path", "number"), [("experiments/create", 1), ("runs/create", 1), ("runs/create", 2)]
)
def test_a_creation_whose_answer_never_came_stands_once(
    server, proxy, tmp_path, name, how, path, number
):
    with Ledger.open(tmp_path / "journal.jsonl") as ledger:
        ledger.write("sweep_started", sweep=name, spec={"name": name}, tags={})
        ledger.created(Plan("t001", "search", {}, "a"))
        ledger.started("t001", slot="x", node="n")
        ledger.epoch("t001", 1, {"miou": 0.5})
        ledger.ended("t001", "finished", epoch=1, metrics={"miou": 0.5})
        ledger.write("sweep_ended", state="finished", reason="")
    proxy.spoil(path, how, number)
    notes = []
    connected = lambda: connect(proxy.uri, tmp_path / "home")  # noqa: E731
    with Publisher(name, tmp_path, connected, notes.append, wait_s=0.01) as publisher:
        assert publisher.finish() == 0
    assert proxy.spoiled.is_set()
    assert not [note for note in notes if "refuses" in note]
    assert runs_of(server, name) == [(".sweep", "finished"), ("t001", "finished")]
    (record,) = connect(server.uri, tmp_path / "home").read_trials(name)
    assert record.history() == {"miou": [(1, 0.5)], "epoch": [(1, 1.0)]}


def test_a_creation_that_is_done_after_it_was_repeated_leaves_no_second_run(
    server, proxy, tmp_path, name
):
    tracker = connect(proxy.uri, tmp_path)
    tracker.open_sweep(SweepInfo(name, {}))
    proxy.spoil("runs/create", "delayed")
    info = TrialInfo(name, "t001", "search")
    with pytest.raises(TrackingUnavailable):
        tracker.open_trial(info)
    tracker.open_trial(info)
    proxy.release()
    assert runs_of(server, name) == [(".sweep", "running"), ("t001", ""), ("t001", "running")]
    tracker.end_trial(name, "t001", "finished", metrics={"miou": 0.5})
    for reader in (tracker, connect(server.uri, tmp_path)):
        (record,) = reader.read_trials(name)
        assert (record.state, record.metrics) == ("finished", {"miou": 0.5})
    tracker.end_sweep(name, "finished")
    assert runs_of(server, name) == [(".sweep", "finished"), ("t001", "finished")]


@pytest.mark.parametrize("path", ["runs/log-batch", "artifacts/spec.json"])
def test_an_opening_that_is_cut_off_is_completed_by_the_same_process(proxy, tmp_path, name, path):
    tracker = connect(proxy.uri, tmp_path)
    tracker.open_sweep(SweepInfo(name, {}))
    info = TrialInfo(name, "t001", "search", params={"a.b": 1}, spec={"x": 1})
    proxy.spoil(path, "lost")
    with pytest.raises(TrackingUnavailable):
        tracker.open_trial(info)
    assert proxy.spoiled.is_set()
    tracker.open_trial(info)
    (record,) = tracker.read_trials(name)
    assert (record.state, record.params, record.spec()) == ("running", {"a.b": 1}, {"x": 1})


@pytest.mark.usefixtures("repeats")
@pytest.mark.parametrize("how", ["cut", "held"])
def test_a_model_whose_creation_was_not_answered_is_ones_own(server, proxy, tmp_path, name, how):
    student = tmp_path / "student"
    student.mkdir()
    (student / "student.json").write_text("{}")
    tracker = connect(proxy.uri, tmp_path)
    tracker.open_sweep(SweepInfo(name, {}))
    tracker.open_trial(TrialInfo(name, "t001", "search"))
    tracker.end_trial(name, "t001", "finished", artifacts={"student": student})
    proxy.spoil("registered-models/create", how)
    try:
        uri = tracker.register_best(name, "t001")
    except TrackingUnavailable:
        uri = tracker.register_best(name, "t001")
    assert proxy.spoiled.is_set()
    assert uri == f"models:/{name}@best"
    assert len(MlflowClient(server.uri).search_model_versions(f"name = '{name}'")) == 1
