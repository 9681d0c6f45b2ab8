"""PostgreSQL as MLflow's database: its password, its absence, and a missing driver."""

import logging

import pytest
from mlflow_server import Server
from ports import free_ports
from postgres_server import PASSWORD, postgres

from kdsweep.errors import TrackingError
from kdsweep.tracking import SweepInfo, TrackingUnavailable, TrialInfo, connect
from kdsweep.tracking.server import server_command, server_environment


def test_a_database_that_is_away_is_told_within_seconds_and_without_its_password(tmp_path):
    (port,) = free_ports(1)
    uri = f"postgresql+psycopg://kdsweep:{PASSWORD}@127.0.0.1:{port}/mlflow"
    with pytest.raises(TrackingUnavailable, match="does not answer") as caught:
        connect(uri, tmp_path)
    assert "postgresql+psycopg://127.0.0.1" in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.slow
def test_a_wrong_password_is_told_before_mlflow_asks_again_and_again(tmp_path):
    with postgres() as database:
        wrong = database.uri.replace("kdsweep@", "kdsweep:guessed@")
        with pytest.raises(TrackingUnavailable, match="password authentication failed") as caught:
            connect(wrong, tmp_path)
        refused = database.log.read_text().count("password authentication failed")
    assert refused == 1
    assert "guessed" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_told(tmp_path):
    with pytest.raises(TrackingError, match="pip install 'psycopg"):
        connect("postgresql+pg8000:///mlflow", tmp_path)


def test_no_command_line_of_the_server_holds_the_address_of_its_database(tmp_path):
    uri = f"postgresql+psycopg://kdsweep:{PASSWORD}@db/mlflow"
    assert PASSWORD not in " ".join(server_command(tmp_path))
    assert server_environment(uri, tmp_path)["MLFLOW_BACKEND_STORE_URI"] == uri


@pytest.mark.slow
def test_the_password_of_a_cluster_file_in_pgpass_is_shown_nowhere(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    home, folder = tmp_path / "home", tmp_path / "server"
    folder.mkdir()
    with postgres() as database:
        monkeypatch.setenv("PGPASSFILE", str(database.pgpass))
        server = Server(folder, database.uri)
        try:
            server.start()
            through = connect(server.uri, home)
            through.open_sweep(SweepInfo("s", {"objectives": {"miou": "max"}}, "sweep: {}\n"))
            through.open_trial(TrialInfo("s", "t000", "search", spec={"x": 1}))
            through.end_trial("s", "t000", "finished", metrics={"miou": 0.2})
        finally:
            server.stop()
        direct = connect(database.uri, home)  # what the server wrote, without it
        (trial,) = direct.read_trials("s")
        assert (trial.state, trial.metrics["miou"]) == ("finished", 0.2)
        written = [path for path in tmp_path.rglob("*") if path.is_file()] + [database.log]
        shown = "".join(path.read_text(errors="replace") for path in written)
    assert server.log in written
    assert PASSWORD not in shown + caplog.text
