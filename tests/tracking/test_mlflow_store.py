"""What stands in MLflow after a sweep, and what MLflow must not do to us."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient
from sqlalchemy import orm
from sqlalchemy.exc import OperationalError

from kdsweep.errors import TrackingError
from kdsweep.tracking import SweepInfo, TrackingUnavailable, TrialInfo, connect
from kdsweep.tracking._layout import name_with_state, run_name
from kdsweep.tracking._store import Store, _first_line, redact, redact_words
from kdsweep.tracking.mlflow import MlflowTracker
from kdsweep.tracking.server import server_environment

SPEC = {
    "objectives": {"miou": "max", "macs": "min"},
    "constraints": {"latency_ms": "<= 50"},
    "space": {"student.width": {"choice": [0.25, 0.5]}},
    "run": {"task": "lidar_seg"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tracker(home):
    return MlflowTracker(None, home)


@pytest.fixture(scope="module")
def client(tracker):
    return MlflowClient(tracker.store.uri, registry_uri=tracker.store.uri)


def run_of(client, sweep, trial):
    experiment = client.get_experiment_by_name(sweep)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`kdsweep.trial` = '{trial}'")
    return run


def test_a_sweep_is_an_experiment_with_nested_runs(tracker, client, home):
    tracker.open_sweep(SweepInfo("nested", SPEC, "sweep: {}\n", {"git_commit": "abc"}))
    params = {"student.width": 0.25, "method.supervoxel": [60, 30, 4]}
    tracker.open_trial(TrialInfo("nested", "t000", "search", params=params, identity="1234"))
    tracker.open_trial(TrialInfo("nested", "t000-s1", "confirm", parent="t000", seed=1))
    tracker.log_epoch("nested", "t000", 1, {"miou": 0.5})
    tracker.end_trial("nested", "t000", "finished", metrics={"miou": 0.5})
    parent, child = run_of(client, "nested", ".sweep"), run_of(client, "nested", "t000")
    confirm = run_of(client, "nested", "t000-s1")
    assert parent.info.run_name == "nested" and parent.data.tags["kdsweep.kind"] == "sweep"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert confirm.data.tags["mlflow.parentRunId"] == child.info.run_id
    assert child.info.run_name == "t000 width=0.25 supervoxel=[60,30,4]"
    assert child.info.status == "FINISHED" and child.data.tags["kdsweep.identity"] == "1234"
    assert child.data.params == {"student.width": "0.25", "method.supervoxel": "[60, 30, 4]"}
    assert [m.step for m in client.get_metric_history(child.info.run_id, "miou")] == [1, 1]
    assert parent.data.tags["mlflow.source.git.commit"] == "abc"
    assert Path(home / "artifacts" / "nested").is_dir()


def test_the_experiment_opens_with_the_trade_off(tracker, client):
    tracker.open_sweep(SweepInfo("viewed", SPEC))
    tags = client.get_experiment_by_name("viewed").tags
    view = json.loads(tags["mlflow.sharedViewState.kdsweep"])
    assert view["orderByKey"] == "metrics.`miou`" and view["orderByAsc"] is False
    assert "params.`student.width`" in view["selectedColumns"]
    assert view["compareRunCharts"][0]["yaxis"] == {"key": "miou", "type": "METRIC"}
    assert tags["mlflow.experiment.primaryMetric.name"] == "miou"
    (summary,) = [one for one in tracker.sweeps() if one.name == "viewed"]
    assert summary.location.startswith("/#/experiments/")
    assert "viewStateShareKey=kdsweep" in summary.location


@pytest.mark.parametrize(
    ("state", "status", "name"),
    [
        ("finished", "FINISHED", "t000 width=0.5"),
        ("stopped", "FINISHED", "t000 (stopped) width=0.5"),
        ("failed", "FAILED", "t000 (failed) width=0.5"),
        ("rejected", "KILLED", "t000 (rejected) width=0.5"),
        ("interrupted", "KILLED", "t000 (interrupted) width=0.5"),
    ],
)
def test_status_and_name_of_a_run_say_how_it_ended(tracker, client, state, status, name):
    sweep = f"ended-{state}"
    tracker.open_sweep(SweepInfo(sweep, SPEC))
    info = TrialInfo(sweep, "t000", "search", params={"student.width": 0.5})
    tracker.open_trial(info)
    tracker.end_trial(sweep, "t000", state, "because")
    run = run_of(client, sweep, "t000")
    assert (run.info.status, run.info.run_name) == (status, name)
    assert run.data.tags["kdsweep.state"] == state
    assert run.data.tags["kdsweep.reason"] == run.data.tags["mlflow.note.content"] == "because"
    tracker.open_trial(info)
    again = run_of(client, sweep, "t000").info
    resumable = state in ("failed", "interrupted")
    assert again.status == ("RUNNING" if resumable else status)
    assert again.run_name == ("t000 width=0.5" if resumable else name)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"trial": "teacher", "kind": "teacher"}, "teacher"),
        ({"trial": "undistilled", "kind": "baseline", "label": "undistilled"}, "undistilled"),
        ({"trial": "t001", "kind": "baseline", "label": "published"}, "t001 published"),
        ({"trial": "t001-s2", "kind": "confirm", "seed": 2, "parent": "t001"}, "t001-s2 seed 2"),
        ({"trial": "t1", "kind": "search", "params": {"a.k": 1, "b.k": 2}}, "t1 a.k=1 b.k=2"),
    ],
)
def test_runs_are_named_so_that_a_table_can_be_read(given, name):
    assert run_name(TrialInfo("s", **given)) == name
    assert name_with_state(name_with_state(name, "failed"), "finished") == name


def test_a_second_process_goes_on_in_the_same_runs(tracker, client, home):
    tracker.open_sweep(SweepInfo("resumed", SPEC))
    tracker.open_trial(TrialInfo("resumed", "t000", "search"))
    tracker.log_epoch("resumed", "t000", 1, {"miou": 0.1})
    second = MlflowTracker(None, home)
    second.open_sweep(SweepInfo("resumed", SPEC))
    second.open_trial(TrialInfo("resumed", "t000", "search"))
    for epoch in (1, 2):
        second.log_epoch("resumed", "t000", epoch, {"miou": 0.2})
    run = run_of(client, "resumed", "t000")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "miou")] == [
        (1, 0.1),
        (2, 0.2),
    ]


def test_an_opening_that_was_cut_off_is_completed(tracker, client):
    tracker.open_sweep(SweepInfo("cut", SPEC))
    experiment = client.get_experiment_by_name("cut").experiment_id
    client.create_run(experiment, tags={"kdsweep.trial": "t000", "kdsweep.kind": "search"})
    tracker.open_trial(TrialInfo("cut", "t000", "search", params={"a.b": 1}, spec={"x": 1}))
    (record,) = tracker.read_trials("cut")
    assert (record.state, record.params, record.spec()) == ("running", {"a.b": 1}, {"x": 1})


def test_a_run_that_nobody_went_on_with_is_passed_over_and_then_removed(tracker, client, home):
    tracker.open_sweep(SweepInfo("surplus", SPEC))
    tracker.open_trial(TrialInfo("surplus", "t000", "search", spec={"x": 1}))
    tracker.end_trial("surplus", "t000", "finished", metrics={"miou": 0.5})
    experiment = client.get_experiment_by_name("surplus").experiment_id
    for trial in ("t000", ".sweep"):
        tags = {"kdsweep.trial": trial, "kdsweep.kind": "search", "kdsweep.sweep": "surplus"}
        client.create_run(experiment, tags=tags)
    for reader in (tracker, MlflowTracker(None, home)):
        (record,) = reader.read_trials("surplus")
        assert (record.state, record.metrics, record.spec()) == (
            "finished",
            {"miou": 0.5},
            {"x": 1},
        )
        assert [summary.name for summary in reader.sweeps()].count("surplus") == 1
    tracker.end_sweep("surplus", "finished")
    runs = client.search_runs([experiment])
    assert sorted(run.data.tags["kdsweep.state"] for run in runs) == ["finished", "finished"]


def test_a_home_that_is_a_file_is_told_as_such(tmp_path):
    (tmp_path / "file").write_text("x")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TrackingError, match=r"/file is a file, where a folder is needed"):
            connect(None, home)


def test_a_deleted_sweep_and_a_foreign_experiment_are_named(tracker, client):
    client.create_experiment("foreign")
    with pytest.raises(TrackingError, match="experiment 'foreign' that is not a sweep of kdsweep"):
        tracker.open_sweep(SweepInfo("foreign", SPEC))
    with pytest.raises(TrackingError, match="there is no sweep 'foreign'"):
        tracker.read_trials("foreign")
    tracker.open_sweep(SweepInfo("gone", SPEC))
    client.delete_experiment(client.get_experiment_by_name("gone").experiment_id)
    with pytest.raises(TrackingError, match=r"'gone' was deleted .*mlflow experiments restore -x"):
        tracker.open_sweep(SweepInfo("gone", SPEC))
    assert "gone" not in {summary.name for summary in tracker.sweeps()}


def test_the_best_student_is_a_model_version_without_pickles(tracker, client, tmp_path):
    student = tmp_path / "student"
    student.mkdir()
    (student / "student.json").write_text("{}")
    (student / "student.safetensors").write_bytes(b"\0" * 8)
    tracker.open_sweep(SweepInfo("registered", SPEC))
    for trial in ("t000", "t001"):
        tracker.open_trial(TrialInfo("registered", trial, "search"))
        tracker.end_trial("registered", trial, "finished", artifacts={"student": student})
        for _ in range(2):
            uri = tracker.register_best("registered", trial)
        assert uri == "models:/registered@best"
        best = client.get_model_version_by_alias("registered", "best")
        assert best.tags["kdsweep.trial"] == trial
    tracker.register_best("registered", "t000")
    versions = client.search_model_versions("name = 'registered'")
    assert sorted(int(version.version) for version in versions) == [1, 2]
    assert int(client.get_model_version_by_alias("registered", "best").version) == 1
    model = tracker.fetch("registered", "t000", "model")
    names = [path.name for path in model.rglob("*") if path.is_file()]
    assert "student.safetensors" in names and "model.py" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]


def test_somebody_elses_registered_model_is_left_alone(tracker, client, tmp_path):
    (tmp_path / "student").mkdir()
    client.create_registered_model("taken")
    tracker.open_sweep(SweepInfo("taken", SPEC))
    tracker.open_trial(TrialInfo("taken", "t000", "search"))
    tracker.end_trial("taken", "t000", "finished", artifacts={"student": tmp_path / "student"})
    with pytest.raises(TrackingError, match="a model 'taken' that is not kdsweep's"):
        tracker.register_best("taken", "t000")


def test_long_reasons_are_shortened_to_what_a_tag_holds(tracker):
    tracker.open_sweep(SweepInfo("long", SPEC))
    tracker.open_trial(TrialInfo("long", "t000", "search"))
    tracker.end_trial("long", "t000", "failed", "x" * 20000)
    (record,) = tracker.read_trials("long")
    assert 7000 < len(record.reason) < 8000


def test_a_server_that_is_not_there_is_reported_at_once(tmp_path):
    with pytest.raises(TrackingUnavailable, match=r"127\.0\.0\.1:1 does not answer"):
        connect("http://user:hidden@127.0.0.1:1", tmp_path)


def test_credentials_are_never_shown(tmp_path):
    with pytest.raises(TrackingUnavailable) as failure:
        connect("http://user:hidden@127.0.0.1:1/path?token=secret", tmp_path)
    assert "hidden" not in str(failure.value) and "secret" not in str(failure.value)
    assert redact("https://user:hidden@host:5000/x?token=1") == "https://host:5000/x"
    assert redact_words("at https://u:p@host/x now") == "at https://host/x now"
    assert redact("https://token@host/x") == "https://host/x"
    assert redact("postgresql://me:hidden@db/x?sslpassword=1") == "postgresql://db/x"
    for harmless in ("sqlite:////tmp/mlflow.db", "postgresql://me@db/x"):
        assert redact(harmless) == harmless


def test_the_users_own_settings_of_mlflow_win(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    Store(None, tmp_path)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"


def test_the_default_store_lies_in_the_home_and_prints_nothing(tmp_path):
    code = (
        "from kdsweep.tracking import connect, SweepInfo, TrialInfo\n"
        "tracker = connect()\n"
        "tracker.open_sweep(SweepInfo('s', {}))\n"
        "tracker.open_trial(TrialInfo('s', 't000', 'search'))\n"
        "tracker.end_trial('s', 't000', 'finished')\n"
        "tracker.end_sweep('s', 'finished')\n"
    )
    assert printed_by(code, tmp_path) == ""
    assert (tmp_path / "home" / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def printed_by(code: str, folder: Path) -> str:
    """Everything that a Python process prints whose default home is ``home`` in a folder."""
    environment = {**os.environ, "KDSWEEP_HOME": str(folder / "home")}
    program = [sys.executable, "-c", code]
    done = subprocess.run(
        program, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_a_database_that_cannot_grow_is_told_in_one_line(tmp_path):
    """The system refuses every byte beyond the present end, as a full disk does."""
    code = (
        "import pathlib, resource\n"
        "from kdsweep.tracking import connect, SweepInfo, TrialInfo, TrackingUnavailable\n"
        "tracker = connect()\n"
        "tracker.open_sweep(SweepInfo('s', {}))\n"
        "size = pathlib.Path('home/mlflow.db').stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    for number in range(1000):\n"
        "        tracker.open_trial(TrialInfo('s', f't{number:03}', 'search'))\n"
        "except TrackingUnavailable as error:\n"
        "    print(error)\n"
    )
    printed = printed_by(code, tmp_path)
    assert printed.count("\n") == 1, printed
    assert printed.startswith("could not open trial 't0") and "mlflow.db" in printed
    assert "disk" in printed


def test_a_write_that_fails_when_something_is_read_names_the_cause():
    """SQLAlchemy writes what is pending before it reads, and says that first."""
    engine = sqlalchemy.create_engine("sqlite://")
    Base = orm.declarative_base()

    class Row(Base):
        __tablename__ = "rows"
        words = sqlalchemy.Column(sqlalchemy.Text, primary_key=True)

    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.execute(sqlalchemy.text("PRAGMA max_page_count = 1"))  # it cannot grow any more
        session.add(Row(words="x" * 100_000))
        with pytest.raises(OperationalError, match=r"^\(raised as a result of") as raised:
            session.query(Row).all()
    told = _first_line(raised.value)
    assert told == "(sqlite3.OperationalError) database or disk is full"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503, 504])
def test_an_answer_that_people_or_time_mend_is_no_refusal(tmp_path, status):
    """A proxy in front of a server that restarts, or a login that has expired, loses no result."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"not now")

        do_GET = do_HEAD = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(TrackingUnavailable):
            connect(f"http://127.0.0.1:{server.server_port}", tmp_path).sweeps()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("name", ["x%20y", "q?z", "h#i", "it's é", "a+b&c=d", "[e]"])
def test_a_home_of_any_name_holds_its_own_database_and_no_file_lies_beside_it(tmp_path, name):
    if "?" in name and sqlalchemy.__version__ < "2.1":
        with pytest.raises(TrackingError, match=r"q\?z.*Choose another --home"):
            connect(None, tmp_path / name)
        return
    connect(None, tmp_path / name).open_sweep(SweepInfo("s", SPEC, "", {}))
    assert (tmp_path / name / "mlflow.db").stat().st_size > 0
    beside = [path for path in tmp_path.iterdir() if path.name != name]
    assert not [file for path in beside for file in path.rglob("*")]  # MLflow makes empty folders
    uri = server_environment(None, tmp_path / name)["MLFLOW_BACKEND_STORE_URI"]
    assert Store(uri, tmp_path).database == tmp_path / name / "mlflow.db"
