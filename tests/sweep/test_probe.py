"""What a node is asked before it gets slots, without the nodes."""

from types import SimpleNamespace

import pytest

from kdsweep.errors import StorageError
from kdsweep.sweep.probe import Probes, missing


@pytest.fixture
def probes(tmp_path, monkeypatch):
    """Probes whose questions are answered by this process."""
    answered = SimpleNamespace(
        get=lambda answer: answer,
        remote=lambda call: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=call)),
        exceptions=SimpleNamespace(
            RayTaskError=ZeroDivisionError,
            RuntimeEnvSetupError=ZeroDivisionError,
            RayError=ZeroDivisionError,
        ),
    )
    monkeypatch.setattr("kdsweep.sweep.probe.ray", answered)
    monkeypatch.setattr("kdsweep.sweep.probe._PATIENCE_S", 0.0)
    inputs = {
        "run.data.root": str(tmp_path / "data"),
        "run.teacher.checkpoint": str(tmp_path / "t"),
    }
    with Probes(tmp_path / "home", inputs) as made:
        yield made


def test_a_node_that_sees_everything_lacks_nothing(probes, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "t").touch()
    assert probes.answer(probes.ask("ab" * 28)) == ""


def test_inputs_that_a_node_does_not_see_are_named_by_path_and_key(probes, tmp_path):
    assert probes.answer(probes.ask("ab" * 28)) == (
        f"does not see {tmp_path / 'data'} (run.data.root) and {tmp_path / 't'} "
        "(run.teacher.checkpoint). Put it there, or where all nodes mount the same storage."
    )


@pytest.mark.parametrize("content", [None, "of another sweep's probe"])
def test_another_folder_of_the_same_name_is_not_the_home(probes, tmp_path, content):
    asked = probes.ask("ab" * 28)  # it sees the marker
    assert "home folder" not in probes.answer(asked)
    (marker,) = (tmp_path / "home").iterdir()
    marker.unlink() if content is None else marker.write_text(content)
    told = probes.answer(probes.ask("cd" * 28))
    assert told.startswith(f"does not see the home folder {tmp_path / 'home'} (or another folder")
    assert "--home" in told


def test_a_home_that_a_node_may_not_write_to_is_named(probes, monkeypatch):
    monkeypatch.setattr("kdsweep.sweep.probe.os.access", lambda *_: False)  # root may do anything
    assert "may not write" in probes.answer(probes.ask("ab" * 28))


def test_nothing_is_left_in_the_home(tmp_path):
    with Probes(tmp_path, {}) as probes:
        probes._write()
        (marker,) = tmp_path.iterdir()
        assert missing(str(marker), marker.read_text(), {}) == []
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_is_away_at_the_end_does_not_change_how_a_sweep_ended(tmp_path, monkeypatch):
    storage = f"file://{tmp_path / 'bucket'}"

    def away(*_):
        raise StorageError("no route to host")

    with Probes(tmp_path / "home", {}, storage) as probes:
        probes._write()
        monkeypatch.setattr("kdsweep.sweep.probe.Mirror.write", away)
