"""What every tracker must do: the in-memory twin, a real MLflow store, a server on PostgreSQL."""

import math
import uuid

import pytest
from mlflow_server import Server
from postgres_server import postgres

from kdsweep.errors import TrackingError
from kdsweep.tracking import MemoryTracker, SweepInfo, TrialInfo
from kdsweep.tracking.mlflow import MlflowTracker

SPEC = {"objectives": {"miou": "max", "macs": "min"}, "run": {"task": "lidar_seg"}, "trials": 4}


@pytest.fixture(scope="session")
def mlflow_tracker(tmp_path_factory):
    return MlflowTracker(None, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def postgres_tracker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with postgres() as database:
        server = Server(folder, database.uri, PGPASSFILE=str(database.pgpass))
        try:
            server.start()
            yield MlflowTracker(server.uri, tmp_path_factory.mktemp("home"))
        finally:
            server.stop()


@pytest.fixture(params=["memory", "mlflow", pytest.param("postgres", marks=pytest.mark.slow)])
def tracker(request):
    if request.param != "memory":
        yield request.getfixturevalue(f"{request.param}_tracker")
    else:
        memory = MemoryTracker()
        yield memory
        memory.close()


@pytest.fixture
def sweep(tracker):
    name = f"sweep-{uuid.uuid4().hex[:8]}"
    tracker.open_sweep(SweepInfo(name, SPEC, "sweep: {}\n", {"git_commit": "abc", "node": "n1"}))
    return name


def open_trial(tracker, sweep, trial="t000", **given):
    info = {
        "kind": "search",
        "params": {"student.width": 0.25, "method.supervoxel": [60, 30, 4], "method.name": "pvd"},
        "spec": {"task": "lidar_seg", "student": {"model": "cylinder3d", "width": 0.25}},
        "identity": "0123456789abcdef",
        "seed": 3,
        "tags": {"node": "n1"},
    }
    tracker.open_trial(TrialInfo(sweep, trial, **{**info, **given}))


def the_record(tracker, sweep, trial="t000"):
    (found,) = [record for record in tracker.read_trials(sweep) if record.trial == trial]
    return found


def test_a_sweep_is_read_back_as_it_was_opened(tracker, sweep):
    info = tracker.read_sweep(sweep)
    assert info == SweepInfo(sweep, SPEC, "sweep: {}\n", {"git_commit": "abc", "node": "n1"})
    assert list(info.spec["objectives"]) == ["miou", "macs"]  # the first one leads


def test_a_trial_is_read_back_as_it_was_opened(tracker, sweep):
    open_trial(tracker, sweep)
    record = the_record(tracker, sweep)
    assert record.params == {
        "student.width": 0.25,
        "method.supervoxel": [60, 30, 4],
        "method.name": "pvd",
    }
    assert (record.sweep, record.kind, record.label, record.parent) == (sweep, "search", "", None)
    assert (record.identity, record.seed, record.tags) == ("0123456789abcdef", 3, {"node": "n1"})
    assert (record.state, record.epoch, record.ended_s) == ("running", 0, None)
    assert record.spec() == {
        "task": "lidar_seg",
        "student": {"model": "cylinder3d", "width": 0.25},
    }


@pytest.mark.parametrize("value", ["1", "true", "", "none", "null", '"quoted"', 1, 1.5, True, None])
def test_parameter_values_keep_their_type(tracker, sweep, value):
    open_trial(tracker, sweep, params={"method.value": value})
    (found,) = the_record(tracker, sweep).params.values()
    assert found == value and type(found) is type(value)


def test_epochs_are_read_back_in_order_and_the_latest_value_counts(tracker, sweep):
    open_trial(tracker, sweep)
    for epoch, miou in ((1, 0.3), (2, 0.5), (3, 0.4)):
        tracker.log_epoch(sweep, "t000", epoch, {"miou": miou, "loss/total": 1.0 / epoch})
    record = the_record(tracker, sweep)
    assert record.epoch == 3
    assert record.metrics == {"miou": 0.4, "loss/total": pytest.approx(1 / 3), "epoch": 3.0}
    assert record.history()["miou"] == [(1, 0.3), (2, 0.5), (3, 0.4)]


def test_an_epoch_that_is_logged_again_changes_nothing(tracker, sweep):
    open_trial(tracker, sweep)
    for epoch in (1, 2):
        tracker.log_epoch(sweep, "t000", epoch, {"miou": epoch / 10})
    for epoch in (1, 2):
        tracker.log_epoch(sweep, "t000", epoch, {"miou": 0.9})
    record = the_record(tracker, sweep)
    assert record.metrics["miou"] == 0.2
    assert record.history()["miou"] == [(1, 0.1), (2, 0.2)]


def test_epoch_zero_counts_as_an_epoch(tracker, sweep):
    open_trial(tracker, sweep)
    tracker.log_epoch(sweep, "t000", 0, {"miou": 0.1})
    tracker.log_epoch(sweep, "t000", 0, {"miou": 0.9})
    assert the_record(tracker, sweep).history()["miou"] == [(0, 0.1)]


def test_the_end_records_state_reason_metrics_and_files(tracker, sweep, tmp_path):
    student = tmp_path / "anything"
    student.mkdir()
    (student / "student.json").write_text("{}")
    single = tmp_path / "source.txt"
    single.write_text("why")
    open_trial(tracker, sweep)
    tracker.log_epoch(sweep, "t000", 1, {"miou": 0.3})
    tracker.end_trial(
        sweep,
        "t000",
        "finished",
        "reached the last epoch",
        {"miou": 0.2, "params_ratio": 4.0},
        {"student": student, "notes/log.txt": single},
    )
    record = the_record(tracker, sweep)
    assert (record.state, record.reason) == ("finished", "reached the last epoch")
    assert record.ended_s is not None and record.ended_s >= record.started_s
    assert record.metrics == {"miou": 0.2, "params_ratio": 4.0, "epoch": 1.0}
    assert record.history() == {"miou": [(1, 0.3)], "epoch": [(1, 1.0)]}
    assert (tracker.fetch(sweep, "t000", "student") / "student.json").read_text() == "{}"
    assert tracker.fetch(sweep, "t000", "notes/log.txt").read_text() == "why"


def test_an_end_told_twice_is_recorded_once(tracker, sweep):
    open_trial(tracker, sweep)
    tracker.end_trial(sweep, "t000", "finished", "first", {"miou": 0.2})
    first = the_record(tracker, sweep)
    tracker.end_trial(sweep, "t000", "finished", "second", {"miou": 0.9})
    second = the_record(tracker, sweep)
    assert (second.reason, second.metrics, second.ended_s) == (
        "first",
        {"miou": 0.2},
        first.ended_s,
    )


def test_a_trial_opened_again_is_the_same_trial(tracker, sweep):
    open_trial(tracker, sweep)
    tracker.log_epoch(sweep, "t000", 1, {"miou": 0.2})
    open_trial(tracker, sweep)
    assert [record.epoch for record in tracker.read_trials(sweep)] == [1]


@pytest.mark.parametrize(
    ("state", "after"),
    [
        ("finished", "finished"),
        ("stopped", "stopped"),
        ("rejected", "rejected"),
        ("reused", "reused"),
        ("failed", "running"),
        ("interrupted", "running"),
    ],
)
def test_only_failed_and_interrupted_trials_run_again(tracker, sweep, state, after):
    open_trial(tracker, sweep)
    tracker.end_trial(sweep, "t000", state, "why")
    open_trial(tracker, sweep)
    record = the_record(tracker, sweep)
    assert record.state == after
    assert (record.ended_s is None) == (after == "running")
    assert record.reason == ("" if after == "running" else "why")


def test_a_repetition_whose_original_runs_again_takes_another_result(tracker, sweep):
    open_trial(tracker, sweep)
    tracker.end_trial(sweep, "t000", "reused", "which failed", {"miou": 0.1})
    tracker.end_trial(sweep, "t000", "interrupted", "runs again")
    tracker.end_trial(sweep, "t000", "reused", "which finished", {"miou": 0.7})
    record = the_record(tracker, sweep)
    assert (record.state, record.reason) == ("reused", "which finished")
    assert record.metrics["miou"] == 0.7


def test_an_interrupted_trial_goes_on_where_it_was(tracker, sweep):
    open_trial(tracker, sweep)
    tracker.log_epoch(sweep, "t000", 1, {"miou": 0.1})
    tracker.end_trial(sweep, "t000", "interrupted")
    open_trial(tracker, sweep)
    tracker.log_epoch(sweep, "t000", 1, {"miou": 0.9})
    tracker.log_epoch(sweep, "t000", 2, {"miou": 0.2})
    tracker.end_trial(sweep, "t000", "finished", metrics={"miou": 0.2})
    record = the_record(tracker, sweep)
    assert (record.state, record.epoch) == ("finished", 2)
    assert record.history()["miou"] == [(1, 0.1), (2, 0.2)]


def test_nan_and_infinity_survive(tracker, sweep):
    open_trial(tracker, sweep)
    tracker.log_epoch(sweep, "t000", 1, {"iou/rider": math.nan, "loss/total": math.inf})
    metrics = the_record(tracker, sweep).metrics
    assert math.isnan(metrics["iou/rider"]) and metrics["loss/total"] == math.inf


def test_trials_come_in_the_order_of_their_creation(tracker, sweep):
    names = ["teacher", "t000", "t001", "t000-s1"]
    for name in names:
        open_trial(tracker, sweep, name, parent="t000" if "-s" in name else None)
    assert [record.trial for record in tracker.read_trials(sweep)] == names
    assert the_record(tracker, sweep, "t000-s1").parent == "t000"


def test_a_sweep_ends_and_runs_again(tracker, sweep):
    tracker.end_sweep(sweep, "finished")
    assert summary_of(tracker, sweep).state == "finished"
    assert summary_of(tracker, sweep).ended_s is not None
    tracker.open_sweep(SweepInfo(sweep, {**SPEC, "trials": 9}, "more"))
    assert summary_of(tracker, sweep).state == "running"
    assert summary_of(tracker, sweep).ended_s is None
    assert tracker.read_sweep(sweep).spec["trials"] == 9
    assert summary_of(tracker, sweep).trials == 9
    assert summary_of(tracker, sweep).task == "lidar_seg"


def summary_of(tracker, sweep):
    (found,) = [summary for summary in tracker.sweeps() if summary.name == sweep]
    return found


def test_the_summary_of_a_sweep_is_replaced_by_the_later_one(tracker, sweep, tmp_path):
    table = tmp_path / "pareto.csv"
    for text in ("old", "new"):
        table.write_text(text)
        tracker.log_summary(sweep, {"pareto.csv": table}, note=f"# {text}", headline=text)
    tracker.log_summary(sweep, {})
    assert tracker.fetch(sweep, None, "pareto.csv").read_text() == "new"
    assert summary_of(tracker, sweep).headline == "new"


def test_unknown_names_are_answered_with_the_nearest(tracker, sweep):
    open_trial(tracker, sweep, "t007")
    with pytest.raises(TrackingError, match=rf"no sweep '{sweep}x'.*Did you mean {sweep}\?"):
        tracker.read_trials(sweep + "x")
    with pytest.raises(TrackingError, match=r"no trial 't008'\. Did you mean t007\?"):
        tracker.end_trial(sweep, "t008", "finished")
    with pytest.raises(TrackingError, match=r"t007 of .* has no file 'student'"):
        tracker.fetch(sweep, "t007", "student")
    with pytest.raises(TrackingError, match=r"'done' is not a way to end\. Valid: finished,"):
        tracker.end_trial(sweep, "t007", "done")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "a'b", "x" * 201, "a b"])
def test_names_that_could_leave_the_folder_or_the_query_are_refused(tracker, sweep, name):
    with pytest.raises(TrackingError, match="cannot be the name of a sweep"):
        tracker.open_sweep(SweepInfo(name, SPEC))
    with pytest.raises(TrackingError, match="cannot be the name of a trial"):
        open_trial(tracker, sweep, name)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a\\b", "", "%2e%2e/x", "."])
def test_files_cannot_leave_the_folder_of_their_trial(tracker, sweep, tmp_path, name):
    source = tmp_path / "file"
    source.write_text("x")
    open_trial(tracker, sweep)
    for call in (
        lambda: tracker.end_trial(sweep, "t000", "finished", artifacts={name: source}),
        lambda: tracker.log_summary(sweep, {name: source}),
        lambda: tracker.fetch(sweep, "t000", name),
        lambda: tracker.fetch(sweep, None, name),
    ):
        with pytest.raises(TrackingError, match="cannot be the name of a file"):
            call()
    assert the_record(tracker, sweep).state == "running"


@pytest.mark.parametrize("name", ["", "loss total!", "/miou", "miou/", "a//b", "a/../b", "mIoU%"])
def test_metric_names_that_mlflow_would_refuse_are_refused_at_once(tracker, sweep, name):
    open_trial(tracker, sweep)
    with pytest.raises(TrackingError, match="cannot be the name of a metric"):
        tracker.log_epoch(sweep, "t000", 1, {name: 1.0})
    with pytest.raises(TrackingError, match="cannot be the name of a metric"):
        tracker.end_trial(sweep, "t000", "finished", metrics={name: 1.0})


def test_a_file_that_is_not_there_is_refused_before_anything_is_written(tracker, sweep, tmp_path):
    open_trial(tracker, sweep)
    with pytest.raises(TrackingError, match="does not exist"):
        tracker.end_trial(sweep, "t000", "finished", artifacts={"student": tmp_path / "gone"})
    assert the_record(tracker, sweep).state == "running"
    with pytest.raises(TrackingError, match="does not exist"):
        tracker.log_summary(sweep, {"pareto.csv": tmp_path / "gone"})


@pytest.mark.parametrize("name", ["kdsweep.state", "mlflow.runName"])
def test_tags_cannot_pretend_to_be_ours(tracker, sweep, name):
    with pytest.raises(TrackingError, match="are taken"):
        open_trial(tracker, sweep, tags={name: "x"})
