"""Where everything that kdsweep writes is: a folder, or remote storage and its stand-in here."""

from pathlib import Path

import pytest

from kdsweep.errors import StorageError
from kdsweep.home import home_folder, home_uri


def test_a_home_is_a_folder_unless_it_is_a_uri(tmp_path, monkeypatch):
    monkeypatch.delenv("KDSWEEP_HOME", raising=False)
    for folder in ("kdsweep_runs", "/data/s3://x", tmp_path, None):
        assert home_uri(folder) == ""
    assert home_uri("s3://bucket/runs/") == "s3://bucket/runs"
    assert home_folder(tmp_path) == tmp_path
    assert home_folder() == Path("kdsweep_runs").absolute()


def test_each_uri_has_a_folder_of_its_own_below_the_scratch_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSWEEP_SCRATCH", str(tmp_path))
    first, second = home_folder("s3://a/b"), home_folder("s3://a/c")
    assert first.parent == second.parent == tmp_path and first != second
    assert home_folder("s3://a/b/") == first


@pytest.mark.parametrize("find", [home_uri, home_folder])
def test_a_password_in_a_home_is_refused_and_not_repeated(find):
    with pytest.raises(StorageError, match=r"ftp://\.\.\. holds a password") as refused:
        find("ftp://me:hidden@host/runs")
    assert "hidden" not in str(refused.value)
    assert home_uri("abfs://container@account.net/runs") == "abfs://container@account.net/runs"


def test_the_environment_says_where_unless_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSWEEP_HOME", "s3://a/b")
    assert home_uri() == "s3://a/b"
    assert home_uri(tmp_path) == "" and home_folder(tmp_path) == tmp_path
