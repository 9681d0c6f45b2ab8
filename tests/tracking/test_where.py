"""Commands and calls that find the same sweeps again."""

import ast
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.tracking import Where, where
from kdsweep.tracking.where import asked_uri

NAMES = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A working folder, in a shell that sets no variable of ours."""
    monkeypatch.chdir(tmp_path)
    for name in ("KDSWEEP_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_nothing_has_to_be_said_for_the_defaults(bare, monkeypatch):
    for home in (None, "kdsweep_runs", bare / "kdsweep_runs"):
        assert where(home) == Where()
    assert Where().command("resume", "pvd") == "kdsweep resume pvd"
    assert Where().call("pvd") == 'kdsweep.open_sweep("pvd")'
    monkeypatch.setenv("KDSWEEP_HOME", "s3://bucket/runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://head:5000")
    assert where("s3://bucket/runs/", "http://head:5000") == where(None, None) == Where()


def test_what_was_given_is_said_again(bare, monkeypatch):
    found = where("/data/runs", "http://head:5000")
    given_again = "--home /data/runs --tracking-uri http://head:5000"
    assert found.command("show", "pvd") == f"kdsweep show pvd {given_again}"
    assert found.call("pvd") == (
        'kdsweep.open_sweep("pvd", home="/data/runs", tracking_uri="http://head:5000")'
    )
    monkeypatch.setenv("KDSWEEP_HOME", "/data/runs")
    assert where("/data/runs").command("ls") == "kdsweep ls"
    assert where("kdsweep_runs").command("ls") == "kdsweep ls --home kdsweep_runs"


def test_credentials_of_an_address_are_not_said(bare):
    assert "hidden" not in where(None, "http://user:hidden@head:5000").command("show", "pvd")


def test_the_environment_names_the_store_where_no_argument_does(bare, monkeypatch):
    assert asked_uri() is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://head:5000")
    assert asked_uri() == "http://head:5000"
    assert asked_uri("http://other:5000") == "http://other:5000"


@given(name=NAMES, home=NAMES)
def test_any_name_and_home_can_be_pasted(name, home):
    found = Where({"home": home})
    assert shlex.split(found.command("show", name)) == ["kdsweep", "show", name, "--home", home]
    call = ast.parse(found.call(name), mode="eval").body
    assert [call.args[0].value, call.keywords[0].value.value] == [name, home]
