"""What comes back from remote storage, and what it must not overwrite."""

import pytest

from kdsweep.errors import StorageError, SweepError
from kdsweep.sweep import resume
from kdsweep.sweep.copies import RECORD, SweepCopies, fetch_record
from kdsweep.sweep.journal import Journal, events
from kdsweep.sweep.ledger import Entry, Plan, Record
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
    (one / "tracking.json").write_text("{}")
    nodes[0].push(one, only=RECORD)
    write(two, "sweep_started")  # of an earlier time
    fetch_record(nodes[1], two)
    assert held(two) == ["sweep_started", "trial_ended"]
    assert (two / "sweep.yaml").read_text() == "run:"
    assert (two / "tracking.json").read_text() == "{}"


def test_a_record_that_the_storage_did_not_get_is_not_overwritten(nodes, monkeypatch):
    mirror = nodes[0]
    folder, notes = mirror.root / "sweeps" / "pvd", []
    copies = SweepCopies(mirror, folder, 1, notes.append, pytest.fail)
    write(folder, "sweep_started")
    copies.after("sweep_started")
    with monkeypatch.context() as patch:
        patch.setattr(type(mirror._storage), "open", _away)
        for name in ("trial_ended", "sweep_ended"):
            write(folder, name)
            copies.after(name)
    assert len(notes) == 1 and "The sweep goes on" in notes[0]
    fetch_record(mirror, folder)
    assert held(folder) == ["sweep_started", "trial_ended", "sweep_ended"]
    copies.after("sweep_started")
    fetch_record(nodes[1], nodes[1].root / "sweeps" / "pvd")
    assert held(nodes[1].root / "sweeps" / "pvd") == held(folder)


def test_what_could_not_be_thinned_in_the_storage_is_thinned_later(nodes, spec, monkeypatch):
    mirror = nodes[0]
    folder = mirror.root / "sweeps" / "small"
    run = folder / "runs" / "t001"
    (run / "checkpoint").mkdir(parents=True)
    (run / "checkpoint" / "state").write_text("large")
    mirror.push(run)
    ended = Entry(Plan("t001", "search", {}, "a"), "finished", metrics={"miou": 0.5})
    copies = SweepCopies(mirror, folder, 1, lambda _: None, pytest.fail)
    with monkeypatch.context() as patch:
        patch.setattr(type(mirror._storage), "open", _away)
        copies.thin(spec(), Record({"t001": ended}))
    assert mirror.content(run, "checkpoint/state") == b"large"
    copies.thin(spec(), Record({"t001": ended}))
    assert mirror.content(run, "checkpoint/state") is None


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


def test_a_driver_that_was_cut_off_writes_nothing_over_its_successor(nodes):
    folders = [mirror.root / "sweeps" / "pvd" for mirror in nodes]
    reasons = []
    first = SweepCopies(nodes[0], folders[0], 1, pytest.fail, reasons.append)
    second = SweepCopies(nodes[1], folders[1], 2, pytest.fail, pytest.fail)
    write(folders[0], "sweep_started")
    first.after("sweep_started")
    fetch_record(nodes[1], folders[1])
    write(folders[1], "sweep_started", "trial_ended")
    second.after("trial_ended")
    write(folders[0], "trial_created")
    first.after("trial_created")
    assert reasons == ["another process has taken the sweep over"]
    fetch_record(nodes[0], folders[0])
    assert held(folders[0]) == ["sweep_started", "sweep_started", "trial_ended"]


def test_a_worker_that_comes_back_late_replaces_nothing_in_the_storage(nodes):
    one, two = nodes
    for mirror, text in ((one, "old"), (two, "new")):
        (mirror.root / "run").mkdir(parents=True)
        (mirror.root / "run" / "student").write_text(text)
    assert one.push(one.root / "run", writer=1_000_001)
    assert two.push(two.root / "run", writer=1_000_002)
    assert not one.push(one.root / "run", writer=1_000_001)
    one.pull(one.root / "run")
    assert (one.root / "run" / "student").read_text() == "new"
    # a later process of the sweep counts its attempts anew
    assert one.push(one.root / "run", writer=2_000_001)


def test_the_lock_of_a_run_stays_on_its_node(nodes):
    one, two = nodes
    for mirror in nodes:
        (mirror.root / "run").mkdir(parents=True)
        (mirror.root / "run" / "lock").write_text("")
    (one.root / "run" / "log").write_text("1")
    one.push(one.root / "run")
    inode = (two.root / "run" / "lock").stat().st_ino
    two.pull(two.root / "run")
    assert (two.root / "run" / "lock").stat().st_ino == inode
    assert (two.root / "run" / "log").read_text() == "1"
