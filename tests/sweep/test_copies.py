"""What comes back from remote storage, and what it must not overwrite."""

import pytest

from kdsweep.errors import StorageError, SweepError
from kdsweep.sweep import resume
from kdsweep.sweep.copies import RECORD, SweepCopies, fetch_record
from kdsweep.sweep.journal import Journal, events
from kdsweep.sweep.lock import SweepLock
from kdsweep.sweep.mirror import Mirror


@pytest.fixture
def nodes(tmp_path):
    uri = f"file://{tmp_path / 'bucket'}"
    return Mirror(uri, tmp_path / "one"), Mirror(uri, tmp_path / "two")


def write(folder, *names):
    with Journal(folder / "journal.jsonl", clock=lambda: 1.0) as journal:
        for name in names:
            journal.append(name)


def held(folder):
    return [event["event"] for event in events(folder / "journal.jsonl")]


def test_another_machine_gets_the_whole_record(nodes):
    one, two = (mirror.root / "sweeps" / "pvd" for mirror in nodes)
    write(one, "sweep_started", "trial_ended")
    (one / "sweep.yaml").write_text("run:")
    nodes[0].push(one, only=RECORD)
    write(two, "sweep_started")  # of an earlier time
    fetch_record(nodes[1], two)
    assert held(two) == ["sweep_started", "trial_ended"]
    assert (two / "sweep.yaml").read_text() == "run:"


def test_a_record_that_the_storage_did_not_get_is_not_overwritten(nodes, monkeypatch):
    mirror = nodes[0]
    folder, notes = mirror.root / "sweeps" / "pvd", []
    copies = SweepCopies(mirror, folder, notes.append)
    write(folder, "sweep_started")
    copies.after("sweep_started")
    with monkeypatch.context() as patch:
        patch.setattr(type(mirror._storage), "put_file", _away)
        for name in ("trial_ended", "sweep_ended"):
            write(folder, name)
            copies.after(name)
    assert len(notes) == 1 and "The sweep goes on" in notes[0]
    fetch_record(mirror, folder)
    assert held(folder) == ["sweep_started", "trial_ended", "sweep_ended"]
    copies.after("sweep_started")
    fetch_record(nodes[1], nodes[1].root / "sweeps" / "pvd")
    assert held(nodes[1].root / "sweeps" / "pvd") == held(folder)


def _away(*_args, **_kwargs):
    raise StorageError("no route to host")


def test_a_refused_resume_leaves_the_running_record_alone(nodes, tmp_path, monkeypatch):
    monkeypatch.setenv("KDSWEEP_SCRATCH", str(tmp_path / "scratch"))
    from kdsweep.home import home_folder

    uri = nodes[0].uri
    mirror = Mirror(uri, home_folder(uri))
    folder = mirror.root / "sweeps" / "pvd"
    write(folder, "sweep_started")
    mirror.push(folder, only=RECORD)
    with SweepLock(folder), Journal(folder / "journal.jsonl") as running:
        running.append("trial_created")
        with pytest.raises(SweepError, match="is running already"):
            resume("pvd", home=uri)
        running.append("trial_ended")
    assert held(folder) == ["sweep_started", "trial_created", "trial_ended"]
