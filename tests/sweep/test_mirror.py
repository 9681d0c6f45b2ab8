"""Folders in storage without rename or append; fsspec's own file storage stands for a bucket."""

import json
import math
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.engine import files
from kdsweep.errors import StorageError
from kdsweep.sweep import mirror as mirror_module
from kdsweep.sweep.mirror import Mirror


@pytest.fixture
def nodes(tmp_path):
    """Two nodes that share nothing but the bucket."""
    uri = f"file://{tmp_path / 'bucket'}"
    return Mirror(uri, tmp_path / "one"), Mirror(uri, tmp_path / "two")


def fill(folder, **texts):
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def held(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_one_node_pushes_another_one_pulls(nodes):
    one, two = nodes
    fill(one.root / "runs" / "t1", state="a", checkpoint__epoch1__tensors="b")
    one.push(one.root / "runs" / "t1")
    two.pull(two.root / "runs" / "t1")
    assert held(two.root / "runs" / "t1") == {"state": "a", "checkpoint/epoch1/tensors": "b"}


def test_a_pull_takes_away_what_the_copy_no_longer_holds(nodes):
    one, two = nodes
    for root in (one.root, two.root):
        fill(root / "run", checkpoint__epoch1__tensors="old", log="1")
    fill(one.root / "run", checkpoint__epoch2__tensors="new", log="1 2")
    (one.root / "run" / "checkpoint" / "epoch1" / "tensors").unlink()
    one.push(one.root / "run")
    two.pull(two.root / "run")
    assert held(two.root / "run") == {"checkpoint/epoch2/tensors": "new", "log": "1 2"}
    assert not (two.root / "run" / "checkpoint" / "epoch1").exists()


def test_a_folder_that_was_never_pushed_is_left_alone(nodes):
    one, two = nodes
    fill(two.root / "run", log="mine")
    two.pull(two.root / "run")
    one.push(one.root / "run")
    assert held(two.root / "run") == {"log": "mine"}


def test_only_what_changed_is_sent_and_what_is_gone_is_removed(nodes, tmp_path):
    one, _ = nodes
    content = tmp_path / "bucket" / "run" / "content"
    fill(one.root / "run", big="same", log="1")
    one.push(one.root / "run")
    before = {path.name: path.stat().st_mtime_ns for path in content.iterdir()}
    fill(one.root / "run", log="1 2")
    one.push(one.root / "run")
    after = {path.name: path.stat().st_mtime_ns for path in content.iterdir()}
    kept = before.keys() & after.keys()
    assert len(before) == len(after) == 2 and len(kept) == 1
    assert all(before[name] == after[name] for name in kept)


@pytest.mark.parametrize(("kind", "call"), [("file", "open"), ("memory", "pipe_file")])
def test_an_interrupted_push_leaves_the_copy_of_the_last_whole_one(
    tmp_path, monkeypatch, kind, call
):
    uri = f"{kind}://{tmp_path / 'bucket'}"
    one, two = Mirror(uri, tmp_path / "one"), Mirror(uri, tmp_path / "two")
    fill(one.root / "run", student="1", facts="1")
    one.push(one.root / "run")
    fill(one.root / "run", student="2", facts="2")

    def fails(*_args, **_kwargs):
        raise ConnectionError("no route to host")

    with monkeypatch.context() as patch:
        patch.setattr(type(one._storage), call, fails)
        with pytest.raises(StorageError, match=r"does not answer for run: ConnectionError: no r"):
            one.push(one.root / "run")
    two.pull(two.root / "run")
    assert held(two.root / "run") == {"student": "1", "facts": "1"}
    one.push(one.root / "run")
    two.pull(two.root / "run")
    assert held(two.root / "run") == {"student": "2", "facts": "2"}


def test_files_that_are_still_being_written_are_not_sent(nodes):
    one, two = nodes
    fill(one.root / "run", log="1")
    (one.root / "run" / ".student.safetensors.77.tmp").write_text("half")
    one.push(one.root / "run")
    two.pull(two.root / "run")
    assert held(two.root / "run") == {"log": "1"}


def test_a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was(nodes, monkeypatch):
    """As the publisher's thread replaces its note while the driver's thread sends the record."""
    one, two = nodes
    path = one.root / "sweep" / "published.json"
    fill(one.root / "sweep", **{"published.json": "1"})
    digest_of = mirror_module._digest

    def digest_then_replace(file):
        digest = digest_of(file)
        files.write_file(path, lambda temporary: temporary.write_text("2"))
        return digest

    monkeypatch.setattr(mirror_module, "_digest", digest_then_replace)
    one.push(one.root / "sweep")
    monkeypatch.undo()
    two.pull(two.root / "sweep")
    assert held(two.root / "sweep") == {"published.json": "1"}
    one.push(one.root / "sweep")
    two.pull(two.root / "sweep")
    assert held(two.root / "sweep") == {"published.json": "2"}


def test_named_files_are_copied_without_the_rest(nodes):
    one, two = nodes
    fill(one.root / "sweep", journal="1", lock="not this", runs__t1__log="nor this")
    one.push(one.root / "sweep", only=("journal", "spec"))
    fill(two.root / "sweep", runs__t2__log="mine")
    two.pull(two.root / "sweep", only=("journal", "spec"))
    assert held(two.root / "sweep") == {"journal": "1", "runs/t2/log": "mine"}


def test_parts_of_a_copy_can_be_fetched(nodes):
    one, two = nodes
    fill(one.root / "run", student="1", checkpoint__state="large")
    one.push(one.root / "run")
    two.pull(two.root / "run", only=("student",))
    assert held(two.root / "run") == {"student": "1"}


def test_a_copy_can_be_thinned_without_the_folder(nodes, tmp_path):
    one, two = nodes
    fill(one.root / "run", student="1", checkpoint__state="large")
    one.push(one.root / "run")
    two.thin(two.root / "run", drop=lambda name: name.startswith("checkpoint/"))
    two.pull(two.root / "run")
    assert held(two.root / "run") == {"student": "1"}
    assert len(list((tmp_path / "bucket" / "run" / "content").iterdir())) == 1


def test_notes_beside_the_copies_are_written_read_and_removed(nodes):
    one, two = nodes
    assert two.read(two.root / "sweep" / "lease.json") is None
    one.write(one.root / "sweep" / "lease.json", {"host": "a"})
    assert two.read(two.root / "sweep" / "lease.json") == {"host": "a"}
    for _ in range(2):
        two.write(two.root / "sweep" / "lease.json", None)
    assert one.read(one.root / "sweep" / "lease.json") is None


@pytest.mark.parametrize("name", ["note.json", "run/files.json"])
def test_on_a_mounted_share_who_reads_during_a_write_gets_the_whole_file_before_it(
    nodes, tmp_path, name
):
    one, _ = nodes

    def write(text):
        fill(one.root / "run", log=text)
        one.push(one.root / "run")
        one.write(one.root / "note.json", {"host": text})

    write("before")
    path = tmp_path / "bucket" / name
    whole = path.read_text()
    with path.open() as reader:
        write("after")
        assert reader.read() == whole != path.read_text()
    assert not [*(tmp_path / "bucket").rglob("*.tmp")]


def test_a_share_that_is_full_keeps_the_note_that_was_there(nodes, monkeypatch):
    one, two = nodes
    note = one.root / "lease.json"
    one.write(note, {"host": "a"})

    def nothing_fits(path, _):
        with type(path)("/dev/full").open("wb", buffering=0) as full:
            return full.write(b"{")

    with monkeypatch.context() as patch:
        patch.setattr(type(note), "write_bytes", nothing_fits)
        with pytest.raises(StorageError, match="the disk is full"):
            one.write(note, {"host": "b"})
    assert two.read(two.root / "lease.json") == {"host": "a"}


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_the_storage_says_how_old_a_note_is(tmp_path, kind):
    mirror = Mirror(f"{kind}://{tmp_path / 'bucket'}", tmp_path / "root")
    note = mirror.root / "sweep" / "lease.json"
    assert mirror.age_s(note) == math.inf
    before = time.monotonic()
    mirror.write(note, {"host": "a"})
    assert 0.0 <= mirror.age_s(note) <= time.monotonic() - before + 1.0
    assert len(mirror._storage.ls(mirror._path(note.parent))) == 1


def test_a_note_is_as_old_as_its_file(nodes, tmp_path):
    one, two = nodes
    note = one.root / "sweep" / "lease.json"
    one.write(note, {"host": "a"})
    hour_ago = time.time() - 3600.0
    os.utime(tmp_path / "bucket" / "sweep" / "lease.json", (hour_ago, hour_ago))
    assert 3599.0 <= two.age_s(two.root / "sweep" / "lease.json") < 7200.0


def test_damaged_content_is_named(nodes, tmp_path):
    one, two = nodes
    fill(one.root / "run", log="1")
    one.push(one.root / "run")
    next((tmp_path / "bucket" / "run" / "content").iterdir()).write_text("2")
    with pytest.raises(StorageError, match=r"-log is damaged"):
        two.pull(two.root / "run")
    assert held(two.root / "run") == {}


@given(name=st.sampled_from(["../x", "a/../../x", "/etc/x", ".."]))
def test_a_foreign_list_cannot_write_outside_its_folder(tmp_path_factory, name):
    bucket = tmp_path_factory.mktemp("bucket")
    (bucket / "run").mkdir()
    (bucket / "run" / "files.json").write_text(json.dumps({"files": {name: "00"}}))
    mirror = Mirror(f"file://{bucket}", bucket / "root")
    with pytest.raises(StorageError, match="outside its folder"):
        mirror.pull(bucket / "root" / "run")


def test_storage_whose_library_is_missing_says_which(tmp_path):
    with pytest.raises(StorageError, match=r"home gs://b/x cannot be used here: .*gcsfs"):
        Mirror("gs://b/x", tmp_path)


def test_unknown_kinds_of_storage_are_refused(tmp_path):
    with pytest.raises(StorageError, match="home nowhere://b is no place to store in"):
        Mirror("nowhere://b", tmp_path)


def test_storage_that_refuses_this_node_says_so(tmp_path, monkeypatch):
    def refused(*_args, **_kwargs):
        raise RuntimeError("no credentials")  # their libraries have classes of their own

    monkeypatch.setattr("fsspec.core.url_to_fs", refused)
    with pytest.raises(StorageError, match=r"home gs://b/x does not answer: RuntimeError: no cred"):
        Mirror("gs://b/x", tmp_path)
