"""What goes wrong in a training fails that trial with its cause, and the sweep goes on."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from engine_faults import DIVERGES, EXECUTE, MISLABELLED, SOUND, STARVES, TRUNCATED
from small_lidar import write_root, write_sweep
from whole_sweep_checks import check_whole

from kdsweep.cli import main
from kdsweep.spec.load import load_sweep
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep import launch, resume
from kdsweep.sweep.ledger import Entry, Record
from kdsweep.sweep.tuner import Finished

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and files to the garbage collector, and warns of its own deprecations.
    pytest.mark.filterwarnings("ignore"),
]

FAULTS = {
    "loss became NaN": DIVERGES,
    "memory ran out": STARVES,
    "scan truncated": TRUNCATED,
    "labels do not fit their points": MISLABELLED,
}


@dataclass(frozen=True)
class Swept:
    """A sweep of real runs, four of five of which meet a fault; then those run again."""

    root: Path
    home: Path
    first: Finished
    states: dict[float, Entry]
    again: Finished


def faulty_sweep(folder: Path, root: Path) -> SweepSpec:
    """One trial after another, each with the learning rate that `engine_faults` knows."""
    values: dict[str, Any] = load_sweep(write_sweep(folder, root)).to_dict()
    # The loss is what tells of the NaN: no evaluation comes between its step and the next.
    values["run"]["train"] |= {"epochs": 3, "val_every": 3}
    rates = [SOUND, *FAULTS.values()]
    values |= {
        "trials": len(rates),
        "space": {"train.lr": {"log_uniform": [1e-4, 1e25]}},
        "start": [{"train.lr": rate} for rate in rates],
        "baselines": [],
        "resources": {"concurrent": 1},
    }
    return SweepSpec.from_dict(values)


@pytest.fixture(scope="module")
def swept(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    folder = tmp_path_factory.mktemp("sweep")
    root, home = write_root(folder / "root", points=6000), folder / "home"
    first = launch(faulty_sweep(folder, root), home=home, quiet=True, execute=EXECUTE)
    states = by_rate(Record.read(first.folder / "journal.jsonl"))
    # The files are sound again and there is memory; nothing helps against a rate of 1e25.
    yield Swept(root, home, first, states, resume("small", home=home, quiet=True, retry="failed"))


def by_rate(record: Record) -> dict[float, Entry]:
    return {entry.plan.params["train.lr"]: entry for entry in record.of_kind("search")}


@pytest.mark.ray
def test_the_sweep_goes_on_after_every_fault(swept: Swept) -> None:
    assert (swept.first.state, swept.first.reason) == ("finished", "")
    assert Counter(entry.state for entry in swept.states.values()) == {"finished": 1, "failed": 4}
    assert swept.states[SOUND].state == "finished"


@pytest.mark.ray
def test_a_loss_that_became_nan_is_told_by_term_epoch_and_step(swept: Swept) -> None:
    reason = swept.states[DIVERGES].reason
    assert reason.startswith("loss term 'voxel_ce'")
    assert "is not finite in epoch" in reason and "voxel_ce = nan" in reason
    assert "train.lr" in reason


@pytest.mark.ray
def test_memory_that_ran_out_is_told_by_stage_and_batch(swept: Swept) -> None:
    reason = swept.states[STARVES].reason
    assert "ran out of memory in stage" in reason
    assert "batches of 1 samples" in reason and "train.batch_size" in reason


@pytest.mark.ray
def test_a_file_damaged_during_the_sweep_is_named_with_both_sizes(swept: Swept) -> None:
    folder = swept.root / "sequences" / "00"
    truncated = swept.states[TRUNCATED].reason
    assert f"{folder / 'velodyne' / '000000.bin'}: damaged or truncated" in truncated
    assert "95993 bytes found" in truncated and "96000 for 6000 points" in truncated
    mislabelled = swept.states[MISLABELLED].reason
    assert str(folder / "labels" / "000000.label") in mislabelled
    assert "5999 labels (23996 bytes) found, expected 6000 (24000 bytes)" in mislabelled


@pytest.mark.ray
@pytest.mark.parametrize("fault", FAULTS)
def test_a_trial_that_failed_runs_again_once_its_cause_is_gone(
    swept: Swept, fault: str, fault_table: Callable[..., None]
) -> None:
    entry = by_rate(swept.again.record)[FAULTS[fault]]
    assert entry.state == ("failed" if fault == "loss became NaN" else "finished")
    row = check_whole(swept.home, "small", 5)
    assert (row.lost, row.duplicates) == (0, 0)
    fault_table(f"{fault}, failed ones run again", **asdict(row))


@pytest.fixture
def kdsweep(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Runs the command line in this process; gives its exit code and all that it printed."""

    def call(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "1000")
        with pytest.raises(SystemExit) as ended:
            main()
        told = capfd.readouterr()
        return int(ended.value.code or 0), " ".join((told.out + told.err).split())

    return call


@pytest.mark.parametrize(
    ("file", "cut", "words"),
    [
        ("velodyne/000000.bin", 7, ["6393 bytes found", "6400 for 400 points"]),
        ("labels/000000.label", 4, ["399 labels (1596 bytes) found", "400 (1600 bytes)"]),
        ("labels/000000.label", 1600, ["empty (0 bytes)"]),
    ],
)
def test_damage_is_found_before_the_sweep_and_refused_by_it(
    kdsweep: Callable[..., tuple[int, str]], tmp_path: Path, file: str, cut: int, words: list[str]
) -> None:
    root = write_root(tmp_path / "root")
    path = root / "sequences" / "00" / file
    sweep, home = write_sweep(tmp_path, root), tmp_path / "home"
    path.write_bytes(path.read_bytes()[:-cut])
    for expected, command in (
        (1, ["data", "check", root]),
        (2, ["check", sweep, "--home", home]),
        (2, ["run", sweep, "--home", home, "--out", tmp_path / "run"]),
    ):
        code, output = kdsweep(*command)
        assert code == expected, output
        assert str(path) in output and "Traceback" not in output
        assert all(word in output for word in words), output


@pytest.mark.ray
def test_a_sweep_on_damaged_data_is_refused_and_its_name_stays_free(
    ray_cluster: None, kdsweep: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    root = write_root(tmp_path / "root")
    scan = root / "sequences" / "00" / "velodyne" / "000000.bin"
    sound = scan.read_bytes()
    scan.write_bytes(sound[:-7])
    sweep, home = write_sweep(tmp_path, root), tmp_path / "home"
    code, output = kdsweep("launch", sweep, "--home", home)
    assert code == 2, output
    assert f"{scan}: damaged or truncated" in output and "6393 bytes found" in output
    record = Record.read(home / "sweeps" / "small" / "journal.jsonl")
    assert not record.trials
    assert record.state == "failed"
