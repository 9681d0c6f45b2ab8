"""One process writes a run's folder at a time, and a later attempt takes it from an earlier one."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kdsweep.engine import checkpoint, files
from kdsweep.engine.claim import Turn, claimed
from kdsweep.errors import SupersededError


def content(folder: Path) -> dict[str, bytes]:
    """All files of a run's folder but its lock, and no desk."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def save(folder: Path, epoch: int, desk: Path) -> None:
    weights = {"student/w": torch.full((2,), float(epoch))}
    checkpoint.save(
        folder / "checkpoint", epoch, weights, {}, best_epoch=epoch, best=weights, desk=desk
    )


@contextlib.contextmanager
def taken_over(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The desk of an attempt that never ends, and that of the next one."""
    with claimed(folder, Turn("sweep.t001", 1)) as stale:
        save(folder, 1, stale)
        with claimed(folder, Turn("sweep.t001", 2), patience_s=0.0) as own:
            yield stale, own


def test_a_later_attempt_takes_over_from_one_that_does_not_end(tmp_path: Path) -> None:
    with taken_over(tmp_path) as (_, own):
        save(tmp_path, 2, own)
        files.write_json(tmp_path / "metrics.json", {"a": 1}, own)
    loaded = checkpoint.load(tmp_path / "checkpoint")
    assert loaded is not None and loaded[1]["epoch"] == 2


def test_nothing_of_an_attempt_that_was_taken_over_is_written_or_removed(tmp_path: Path) -> None:
    with taken_over(tmp_path) as (stale, own):
        save(tmp_path, 2, own)
        before = content(tmp_path)
        for late in (
            lambda: save(tmp_path, 2, stale),
            lambda: save(tmp_path, 3, stale),
            lambda: files.write_json(tmp_path / "metrics.json", {}, stale),
            lambda: files.remove(tmp_path / "checkpoint", stale),
            lambda: files.remove(tmp_path / "not there", stale),
        ):
            with pytest.raises(SupersededError):
                late()
        assert content(tmp_path) == before


def test_an_attempt_that_is_taken_over_while_it_writes_changes_nothing(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("late")
        took_over.__enter__()

    took_over = claimed(tmp_path, Turn("sweep.t001", 2), patience_s=0.0)
    with claimed(tmp_path, Turn("sweep.t001", 1)) as stale, pytest.raises(SupersededError):
        files.write_file(tmp_path / "metrics.json", write, stale)
    took_over.__exit__(None, None, None)
    assert content(tmp_path) == {}


def test_an_attempt_that_ends_late_leaves_its_successor_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdsweep.engine.claim._TOLD_S", 0.0)
    waits = threading.Event()

    def wait() -> None:
        with claimed(tmp_path, Turn(), waits=lambda _: waits.set()):
            pass

    first = claimed(tmp_path, Turn("sweep.t001", 1))
    first.__enter__()
    with claimed(tmp_path, Turn("sweep.t001", 2), patience_s=0.0) as own:
        first.__exit__(None, None, None)
        files.write_json(tmp_path / "metrics.json", {}, own)
        other = threading.Thread(target=wait, daemon=True)
        other.start()
        assert waits.wait(60)  # the lock is the successor's now
    other.join(60)
    assert not other.is_alive()


def test_an_earlier_attempt_that_comes_late_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with claimed(tmp_path, Turn("sweep.t001", 2)) as own:
        monkeypatch.setattr(files, "try_lock", lambda _: None)  # a file system without locks
        with pytest.raises(SupersededError), claimed(tmp_path, Turn("sweep.t001", 1)):
            pass
        files.write_json(tmp_path / "metrics.json", {}, own)


@pytest.mark.parametrize("other", [Turn(), Turn("other.t001", 9), Turn("sweep.t001", 1)])
def test_whoever_does_not_come_later_waits_and_says_what_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Turn
) -> None:
    monkeypatch.setattr("kdsweep.engine.claim._TOLD_S", 0.0)
    order: list[str] = []
    told: list[str] = []
    waits = threading.Event()

    def say(words: str) -> None:
        told.append(words)
        waits.set()

    def second() -> None:
        with claimed(tmp_path, other, waits=say, patience_s=0.0):
            order.append("second")

    thread = threading.Thread(target=second)
    with claimed(tmp_path, Turn("sweep.t001", 1)) as own:
        thread.start()
        assert waits.wait(60)
        files.write_json(tmp_path / "metrics.json", {}, own)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert told == [f"waits for sweep.t001 to leave {tmp_path}"]


@pytest.mark.parametrize("turn", [Turn(), Turn("sweep.t001", 10), Turn("sweep.t001", 1)])
def test_the_folder_of_a_process_that_died_is_free_at_once_and_tidied(
    tmp_path: Path, turn: Turn
) -> None:
    """Also for a sweep of the same name that began anew and counts from one."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from kdsweep.engine.claim import Turn, claimed\n"
        "with claimed(Path(sys.argv[1]), Turn('sweep.t001', 9)) as desk:\n"
        "    (desk / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert died.returncode == -9
    assert len(content(tmp_path)) == 1
    with claimed(tmp_path, turn):
        assert content(tmp_path) == {}
    assert os.listdir(tmp_path) == ["lock"]


def test_a_holder_that_is_frozen_before_it_has_a_desk_is_taken_over_and_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    successors: list[Path] = []
    took_over = claimed(tmp_path, Turn("sweep.t001", 2), patience_s=0.0)
    make = Path.mkdir

    def frozen(folder: Path, **options: Any) -> None:
        """The time between the lock and the desk, in which the successor comes."""
        if folder.name.startswith(".desk-000000000001"):
            successors.append(took_over.__enter__())
        make(folder, **options)

    monkeypatch.setattr(Path, "mkdir", frozen)
    with pytest.raises(SupersededError), claimed(tmp_path, Turn("sweep.t001", 1)):
        pass
    files.write_json(tmp_path / "metrics.json", {"a": 1}, successors[0])
    took_over.__exit__(None, None, None)
    assert content(tmp_path).keys() == {"metrics.json"}
