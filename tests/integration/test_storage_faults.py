"""The tracking server, the disk and the checkpoint file fail in the middle of real work."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from closed_form import SLOWLY, sweep
from full_disk import fill
from mlflow_server import Server
from safetensors.torch import load_file
from small_lidar import write_root, write_sweep
from sweep_process import TIMEOUT_S, Process, command_line, counted
from watched import Watched
from whole_sweep_checks import check_whole

from kdsweep.engine import checkpoint
from kdsweep.engine.load import load_student
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.spec.load import load_sweep
from kdsweep.sweep import resume
from kdsweep.sweep.ledger import Record
from kdsweep.sweep.publisher import Publisher, unsent
from kdsweep.tracking import connect

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and files to the garbage collector, and warns of its own deprecations.
    pytest.mark.filterwarnings("ignore"),
]

FaultTable = Callable[..., None]
_HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tracking server whose silence is noticed within two seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        server = Server(tmp_path_factory.mktemp("server"))
        server.start()
        yield server
        server.stop()


@pytest.mark.faults
@pytest.mark.ray
def test_a_tracking_server_that_hangs_and_then_dies_for_a_while_misses_nothing(
    ray_cluster: None, server: Server, tmp_path: Path, fault_table: FaultTable
) -> None:
    spec = sweep(name="outage", trials=12)
    with Watched(spec, tmp_path, execute=SLOWLY, tracking_uri=server.uri) as watched:

        def after(epochs: int) -> None:
            target = counted(watched.journal)["epoch"] + epochs
            watched.wait_until("epochs", lambda: counted(watched.journal)["epoch"] >= target)

        after(6)
        server.freeze()
        after(10)  # training goes on
        server.thaw()
        after(4)
        server.stop()
        after(10)
        server.start()
    assert watched.finished is not None, watched.error
    assert unsent(watched.folder, server.uri) == 0
    row = check_whole(tmp_path, "outage", 12, tracking_uri=server.uri)
    assert (row.repeated, row.lost, row.duplicates) == (0, 0, 0)
    assert told(server, tmp_path, "outage") == recorded(watched.folder)
    fault_table("tracking server hung, then killed, for a while", **asdict(row))


@pytest.mark.faults
@pytest.mark.ray
def test_what_a_server_missed_that_stayed_away_to_the_end_is_sent_by_a_resume(
    ray_cluster: None,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault_table: FaultTable,
) -> None:
    finish = Publisher.finish
    impatient = lambda self, timeout_s=60.0: finish(self, min(timeout_s, 3.0))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "finish", impatient)  # a minute of waiting would tell no more
        spec = sweep(name="absent", trials=4)
        with Watched(spec, tmp_path, execute=SLOWLY, tracking_uri=server.uri) as watched:
            watched.wait_until("epochs", lambda: counted(watched.journal)["epoch"] >= 8)
            server.stop()
    assert watched.finished is not None, watched.error
    assert watched.finished.state == "finished"
    assert unsent(watched.folder, server.uri) > 0
    server.start()
    assert resume("absent", home=tmp_path, tracking_uri=server.uri, quiet=True).state == "finished"
    row = check_whole(tmp_path, "absent", 4, tracking_uri=server.uri)
    assert (row.repeated, row.lost, row.duplicates) == (0, 0, 0)
    assert told(server, tmp_path, "absent") == recorded(watched.folder)
    assert connect(server.uri, tmp_path).sweeps()[0].state == "finished"
    fault_table("tracking server away to the end, resumed", **asdict(row))


def told(server: Server, home: Path, name: str) -> dict[str, Any]:
    """Per trial what the server has of it: its state and the metric of every epoch."""
    return {
        trial.trial: (trial.state, trial.history(["miou"]).get("miou", []))
        for trial in connect(server.uri, home).read_trials(name)
    }


def recorded(folder: Path) -> dict[str, Any]:
    """The same from the sweep's own record."""
    return {
        name: (entry.state, [(epoch, m["miou"]) for epoch, m in sorted(entry.history.items())])
        for name, entry in Record.read(folder / "journal.jsonl").trials.items()
    }


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own with 64 MB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_disk(tmp_path_factory.mktemp("disk")) as folder:
        yield folder


@pytest.fixture(scope="module")
def disk_of_full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_disk(tmp_path_factory.mktemp("disk")) as folder:
        yield folder


@dataclass(frozen=True)
class Full:
    """A sweep whose disk became full, and what could be read of it before room was made."""

    home: Path
    stopped: tuple[int, str]
    shown: tuple[int, str]
    finished: dict[str, dict[str, float]]
    weights: dict[str, int]
    checkpoints: list[int]
    resumed: tuple[int, str]


@pytest.fixture(scope="module")
def full(disk_of_full: Path, tmp_path_factory: pytest.TempPathFactory) -> Full:
    """Real trainings; the disk is filled to the last byte when the first of them has finished."""
    folder = tmp_path_factory.mktemp("sweep")
    file = write_sweep(folder, write_root(folder / "root"))
    home = disk_of_full / "home"
    journal = home / "sweeps" / "small" / "journal.jsonl"
    overrides = ["run.train.epochs=4", "sweep.trials=4", "sweep.baselines=[]"]
    process = Process("launch", file, *overrides, "--home", home)
    process.wait_until("a finished trial", lambda: bool(finished_trials(journal)))
    ballast = disk_of_full / "ballast"
    fill(ballast)
    stopped = process.end()
    runs = home / "sweeps" / "small" / "runs"
    finished = {name: dict(entry.metrics) for name, entry in finished_trials(journal).items()}
    weights = {name: len(load_student(runs / name).state_dict()) for name in finished}
    saved = [checkpoint.load(path) for path in runs.glob("*/checkpoint")]
    shown = command_line("show", "small", "--home", home)
    ballast.unlink()
    resumed = command_line("resume", "small", "--home", home)
    epochs = [facts["epoch"] for _, facts in filter(None, saved)]
    return Full(home, stopped, shown, finished, weights, epochs, resumed)


def finished_trials(journal: Path) -> dict[str, Any]:
    """Sampled trials that have finished."""
    record = Record.read(journal)
    return {e.plan.trial: e for e in record.of_kind("search") if e.state == "finished"}


@pytest.mark.faults
@pytest.mark.ray
def test_a_full_disk_stops_the_sweep_with_one_clear_message(full: Full) -> None:
    code, output = full.stopped
    assert code != 0
    assert "No space left" in output or "the disk is full" in output
    assert "resume" in output
    assert "Traceback" not in output


@pytest.mark.faults
@pytest.mark.ray
def test_what_was_there_before_the_disk_was_full_stays_readable(full: Full) -> None:
    assert full.finished
    assert all(count > 0 for count in full.weights.values())
    assert full.weights.keys() == full.finished.keys()
    assert all(1 <= epoch <= 4 for epoch in full.checkpoints)
    code, output = full.shown
    assert code == 0, output
    assert "small" in output  # its database is on the full disk: it may miss the last events


@pytest.mark.faults
@pytest.mark.ray
def test_with_room_made_a_resume_completes_the_sweep(full: Full, fault_table: FaultTable) -> None:
    code, output = full.resumed
    assert code == 0, output
    row = check_whole(full.home, "small", 4)
    assert (row.lost, row.duplicates) == (0, 0)
    record = Record.read(full.home / "sweeps" / "small" / "journal.jsonl")
    ended = {name: (entry.state, entry.reason) for name, entry in record.trials.items()}
    assert ended == dict.fromkeys(ended, ("finished", ""))
    for name, metrics in full.finished.items():
        assert dict(record.trials[name].metrics) == metrics
    fault_table("disk full, resumed with room", **asdict(row))


@pytest.mark.faults
@pytest.mark.ray
def test_a_disk_that_is_full_when_the_first_trial_would_start_ends_in_one_clear_message(
    disk: Path, tmp_path: Path, fault_table: FaultTable
) -> None:
    file = write_sweep(tmp_path, write_root(tmp_path / "root"))
    home, ballast = disk / "home", disk / "ballast"
    process = Process("launch", file, "sweep.baselines=[]", "--home", home)
    journal = home / "sweeps" / "small" / "journal.jsonl"
    process.wait_until("the start", lambda: counted(journal)["sweep_started"] > 0)
    fill(ballast)  # Ray is about to start
    code, output = process.end()
    assert code == 2, output
    assert "the disk is full" in output or "No space left" in output
    assert "resume" in output
    assert "Traceback" not in output
    ballast.unlink()
    code, output = command_line("resume", "small", "--home", home)
    assert code == 0, output
    row = check_whole(home, "small", 1)
    assert (row.finished, row.lost, row.duplicates) == (1, 0, 0)
    fault_table("disk full before the first trial, resumed with room", **asdict(row))


@pytest.mark.faults
def test_whatever_write_meets_the_full_disk_says_so_and_a_second_run_has_the_same_bits(
    disk: Path, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path, write_root(tmp_path / "root"))
    ran = subprocess.run(
        [sys.executable, _HERE / "full_disk.py", disk, file],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *wrong, last = ran.stdout.splitlines()
    assert wrong == []
    assert int(last.split()[0]) > 20, last


# Ends the process by SIGKILL at a moment of writing the checkpoint of the second epoch.
_KILLED_WRITER = """
import os, signal, sys
from kdsweep.cli import main
from kdsweep.engine import checkpoint, files

moment, *sys.argv[1:] = sys.argv[1:]
save_tensors, rename, checksum = checkpoint.save_tensors, os.rename, files.checksum

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def half_written(tensors, path):
    save_tensors(tensors, path)
    if "epoch-0002" in str(path):
        os.truncate(path, path.stat().st_size // 2)
        die()

def without_facts(path):
    return die() if "epoch-0002" in str(path) else checksum(path)

def not_in_place(source, target):
    die() if "epoch-0002" in str(target) else rename(source, target)

def beside_the_older(source, target):
    rename(source, target)
    if "epoch-0002" in str(target):
        die()

if moment == "half of the tensors written":
    checkpoint.save_tensors = half_written
elif moment == "tensors written, facts not":
    files.checksum = without_facts
elif moment == "written, not yet in place":
    os.rename = not_in_place
elif moment == "in place beside the older one":
    os.rename = beside_the_older
main()
"""

_MOMENTS = {
    "half of the tensors written": 1,
    "tensors written, facts not": 1,
    "written, not yet in place": 1,
    "in place beside the older one": 2,
}
"""Moments in the writing of the second checkpoint, and the epoch from which a resume goes on."""


@dataclass(frozen=True)
class Run:
    """A run of three epochs, and where it was executed without interruption."""

    file: Path
    home: Path
    whole: Path

    @property
    def overrides(self) -> list[str]:
        return ["run.train.epochs=3"]

    def execute(self, run_dir: Path) -> list[int]:
        """Executes it in this process; gives the epochs that were computed."""
        done = []

        def report(progress: Any) -> bool:
            if progress.stage == "train":
                done.append(progress.epoch)
            return True

        spec = load_sweep(self.file, self.overrides).run
        execute(spec, Place(self.home, run_dir, device="cpu", threads=1), report)
        return done


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    file = write_sweep(folder, write_root(folder / "root", scans=2))
    found = Run(file, folder / "home", folder / "whole")
    threads = torch.get_num_threads()
    assert found.execute(found.whole) == [1, 2, 3]
    torch.set_num_threads(threads)
    return found


@pytest.mark.parametrize("moment", _MOMENTS)
def test_a_run_killed_within_a_checkpoint_write_ends_with_the_same_bits(
    run: Run, tmp_path: Path, moment: str, fault_table: FaultTable
) -> None:
    out = tmp_path / "cut"
    words = ["run", run.file, *run.overrides, "--out", out, "--home", run.home]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_WRITER, moment, *map(str, words), "--threads", "1"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = checkpoint.load(out / "checkpoint")
    assert left is not None
    assert left[1]["epoch"] == _MOMENTS[moment]
    told_again = _MOMENTS[moment]  # nobody may have heard of the last epoch, so it is told again
    assert run.execute(out) == list(range(told_again, 4))
    whole, resumed = (load_file(path / "student.safetensors") for path in (run.whole, out))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not list(out.rglob("*.tmp"))
    repeated = 2 - _MOMENTS[moment]
    counts = {"asked": 1, "finished": 1, "repeated": repeated, "lost": 0, "duplicates": 0}
    fault_table(f"run killed with its checkpoint {moment}", **counts)
