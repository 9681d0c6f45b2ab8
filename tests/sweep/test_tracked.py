"""A resume reports to the tracker of the launch, unless it is told another one."""

import json
import shlex
from collections import defaultdict
from pathlib import Path

import pytest

from kdsweep.errors import ResourceError, SweepError
from kdsweep.spec.load import load_sweep
from kdsweep.sweep import launch, resume, tracked
from kdsweep.sweep.ledger import Ledger, Plan
from kdsweep.sweep.settings import Settings
from kdsweep.sweep.tuner import JOURNAL
from kdsweep.tracking import MemoryTracker

ONE, TWO = "http://one:5000", "http://two:5000"


@pytest.fixture(autouse=True)
def trackers(monkeypatch):
    """The trackers that were opened, by address; None is the home's own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    opened = defaultdict(MemoryTracker)
    monkeypatch.setattr("kdsweep.sweep.tuner.connect", lambda uri, home: opened[uri])
    yield opened
    for tracker in opened.values():
        tracker.close()


@pytest.fixture
def settings(tmp_path):
    folder = tmp_path / "sweeps" / "small"
    folder.mkdir(parents=True)
    return Settings(tmp_path, folder)


@pytest.fixture
def finished(spec, settings):
    """A sweep that has finished while its tracker, at `ONE`, was away."""
    with Ledger.open(settings.folder / JOURNAL) as ledger:
        ledger.write("sweep_started", sweep="small", spec=spec().to_dict(), trials=6)
        ledger.created(Plan("t001", "search", {}, "a"))
        ledger.ended("t001", "finished", epoch=4, metrics={"miou": 0.5})
        ledger.write("sweep_ended", state="finished", reason="")
    (settings.folder / "sweep.json").write_text(json.dumps(spec().to_dict()))
    tracked.tracking_uri(spec(), settings, ONE)
    return settings.home


def go_on(home, **given):
    return resume("small", home=home, quiet=True, **given)


def trials(trackers):
    return {
        uri: [one.trial for one in found.read_trials("small")] for uri, found in trackers.items()
    }


def test_a_resume_that_says_nothing_goes_on_in_the_store_of_the_launch(finished, trackers):
    assert go_on(finished).state == "finished"
    assert trials(trackers) == {ONE: ["t001"]}
    with pytest.raises(SweepError, match="nothing is left to do"):
        go_on(finished)


@pytest.mark.parametrize("through", ["argument", "environment"])
def test_another_store_gets_the_whole_sweep_and_what_follows(
    finished, trackers, monkeypatch, through
):
    go_on(finished)
    if through == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", TWO)
    assert go_on(finished, **({"tracking_uri": TWO} if through == "argument" else {})).state
    assert trials(trackers) == {ONE: ["t001"], TWO: ["t001"]}
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SweepError, match="nothing is left to do"):
        go_on(finished)


def test_credentials_are_not_written_down_and_asked_for_again(finished, spec, settings, trackers):
    tracked.tracking_uri(spec(), settings, "http://user:hidden@one:5000/?token=hidden")
    assert all("hidden" not in path.read_text() for path in settings.folder.glob("*.json"))
    with pytest.raises(SweepError, match=r"http://one:5000.* credentials .*\$MLFLOW_TRACKING_URI"):
        go_on(finished)
    assert go_on(finished, tracking_uri="http://user:hidden@one:5000").state == "finished"


def test_a_launch_remembers_its_store_and_one_that_got_nowhere_leaves_none(
    spec, settings, monkeypatch
):
    monkeypatch.setattr("kdsweep.sweep.connection.local_node", lambda: {"CPU": 2.0, "GPU": 0.0})
    for uri in (ONE, None):
        with pytest.raises(ResourceError):
            greedy = spec(resources={"gpus_per_worker": 1.0})
            launch(greedy, home=settings.home, tracking_uri=uri, quiet=True)
        assert json.loads((settings.folder / tracked.FILE).read_text())["uri"] == uri


def test_the_sweep_file_names_the_store_until_a_command_names_another(spec, settings):
    own = spec(tracking={"uri": ONE})
    assert tracked.tracking_uri(own, settings, None) == ONE
    assert tracked.tracking_uri(own, settings, TWO) == TWO
    assert tracked.tracking_uri(own, settings, None) == TWO


def test_a_database_is_found_again_from_another_folder(spec, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = tracked.tracking_uri(spec(), settings, "sqlite:///runs.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert tracked.tracking_uri(spec(), settings, None) == first == f"sqlite:///{tmp_path}/runs.db"


def test_the_stored_sweep_file_tells_with_what_it_was_launched(tmp_path, monkeypatch):
    """Read as a file and a command, it gives the sweep that ran."""
    digits = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
    given = ["run.train.epochs=1", "sweep.resources.gpus_per_worker=1", "sweep.constraints={}"]
    monkeypatch.setattr("kdsweep.sweep.connection.local_node", lambda: {"CPU": 2.0, "GPU": 0.0})
    with pytest.raises(ResourceError):
        launch(digits, given, home=tmp_path, quiet=True)
    folder = tmp_path / "sweeps" / "digits"
    text = (folder / "sweep.yaml").read_text()
    assert text.endswith(digits.read_text())
    command = next(line for line in text.splitlines() if "kdsweep launch" in line)
    _, *words = shlex.split(command.removeprefix("#"))
    assert words[:2] == ["launch", "sweep.yaml"]
    ran = load_sweep(folder / "sweep.yaml", words[2:])
    assert ran.to_dict() == json.loads((folder / "sweep.json").read_text())
