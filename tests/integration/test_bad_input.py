"""What the command line says to bad input: one clear message, exit code 2, never a traceback."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_lidar import write_root, write_sweep

from kdsweep.cli import main
from kdsweep.sweep.lock import SweepLock

QUICKSTART = str(Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml")


@pytest.fixture
def kdsweep(capfd, monkeypatch, tmp_path):
    """Runs the command line; gives what it printed to the error stream."""
    monkeypatch.setenv("KDSWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capfd.readouterr()
        assert ended.value.code == 2, told
        assert "Traceback" not in told.err + told.out
        return " ".join(told.err.split())

    return call


@pytest.fixture
def sweep_file(tmp_path) -> Path:
    """A small sweep on a SemanticKITTI root of two scans."""
    return write_sweep(tmp_path, write_root(tmp_path / "root"))


def test_an_unknown_key_is_answered_with_file_line_and_the_nearest_name(kdsweep, sweep_file):
    text = sweep_file.read_text().replace("method.point_output:", "method.point_ouput:")
    sweep_file.write_text(text)
    told = kdsweep("check", str(sweep_file))
    assert f"{sweep_file}:10:" in told and "point_ouput" in told
    assert "method.point_output" in told


def test_a_range_outside_the_bounds_names_the_end_that_breaks_them(kdsweep):
    told = kdsweep("check", QUICKSTART, "space.method.point_output={uniform: [-1, 10]}")
    assert "method.point_output" in told and "must be >= 0, got -1.0" in told


def test_all_faults_are_told_at_once(kdsweep):
    told = kdsweep("check", QUICKSTART, "run.train.epoch=3", "sweep.sampler=tpee")
    assert "train.epochs" in told and "tpee" in told and "2 faults" in told


def test_a_missing_data_root_is_named_before_anything_starts(kdsweep, sweep_file, tmp_path):
    told = kdsweep("launch", str(sweep_file), "run.data.root=/no/such/root")
    assert "/no/such/root" in told and "sequences" in told
    assert not (tmp_path / "home" / "sweeps" / "small" / "runs").exists()


def check(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kdsweep", "check", *words, "--home", str(home)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("more", [[], ["--no-macs"]])
def test_check_refuses_a_missing_root_as_launch_would_but_shows_the_rest(
    tmp_path, sweep_file, more
):
    ended = check(str(sweep_file), "run.data.root=/no/such/root", *more, home=tmp_path)
    assert ended.returncode == 2, ended
    assert "there is no folder /no/such/root" in ended.stderr
    assert "run.data.root=PATH" in ended.stderr and "Traceback" not in ended.stderr
    assert "method.point_output" in ended.stdout and "undistilled" in ended.stdout
    rows = [line for line in ended.stdout.splitlines() if "as written" in line]
    if more:
        assert not rows
    else:
        (row,) = rows
        assert re.search(r"[\d,]{4,} +\d\.\d\dx +needs data +may train", row)


def test_check_of_data_that_kdsweep_makes_itself_needs_no_root(tmp_path):
    ended = check(QUICKSTART, "--no-macs", home=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_unknown_command_is_answered_with_the_nearest(kdsweep):
    told = kdsweep("lanch")
    assert "Unknown command 'lanch'. Did you mean launch? Valid: launch, " in told
    assert "Unknown command 'chek'. Did you mean check? Valid: check, synth." in kdsweep(
        "data", "chek"
    )
    assert "--cluster" in kdsweep("launch", QUICKSTART, "--cluter", "x")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data", "synth", "kity", "--out", "x"], "'kity' is not known. Valid: semantickitti."),
        (["data", "check", "x", "--format", "cub"], "'cub' is not known. Did you mean cub200?"),
        (["resume", "x", "--retry", "all"], "'all' is not known. Valid: failed."),
        (["resume", "x", "--more", "-1"], "must be >= 0, got '-1'"),
        (["ui", "--port", "99999"], "must be <= 65535, got '99999'"),
        (["run", QUICKSTART, "--out", ""], "the argument after '--out' is empty"),
        (["resume", "x", "--more", "two"], "must be a whole number, got 'two'"),
        (
            ["data", "synth", "semantickitti", "--out", "x", "--scenes", "0", "--beams", "1"],
            "--scenes must be >= 1, got 0; --beams must be >= 4, got 1",
        ),
    ],
)
def test_a_wrong_value_of_an_option_is_told_in_plain_words(kdsweep, words, told):
    answer = kdsweep(*words)
    assert told in answer
    assert "Value error" not in answer and "Input should" not in answer


def test_a_file_where_a_folder_is_needed_is_told(kdsweep, sweep_file):
    told = kdsweep("run", str(sweep_file), "--out", str(sweep_file))
    assert f"{sweep_file}: is a file, where a folder is needed" in told


def test_a_truncated_scan_is_named_with_expected_and_found_sizes(kdsweep, sweep_file, tmp_path):
    scan = tmp_path / "root" / "sequences" / "00" / "velodyne" / "000000.bin"
    scan.write_bytes(scan.read_bytes()[:-7])
    told = kdsweep("run", str(sweep_file), "--out", str(tmp_path / "run"))
    assert str(scan) in told and "6393" in told and "16" in told


def test_labels_that_do_not_fit_their_points_are_counted(kdsweep, sweep_file, tmp_path):
    labels = tmp_path / "root" / "sequences" / "00" / "labels" / "000000.label"
    np.full(399, 40, "<u4").tofile(labels)
    told = kdsweep("run", str(sweep_file), "--out", str(tmp_path / "run"))
    assert str(labels) in told and "399" in told and "400" in told


def test_a_checkpoint_of_another_width_is_told_by_tensor_and_width(kdsweep, sweep_file, tmp_path):
    kdsweep_run = [str(sweep_file), "--out", str(tmp_path / "run")]
    weights = tmp_path / "teacher.safetensors"
    save_file({"unet.head.weight": torch.zeros(20, 3, 3, 3, 8)}, weights)
    weights.with_suffix(".json").write_text(json.dumps({"model": "cylinder3d", "width": 0.03125}))
    text = sweep_file.read_text().replace("train: {epochs: 1}}", f"checkpoint: {weights}}}")
    sweep_file.write_text(text)
    told = kdsweep("run", *kdsweep_run)
    assert str(weights) in told and "teacher" in told.lower()


def test_a_gpu_that_is_not_there_is_refused_before_ray_starts(kdsweep, sweep_file):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    told = kdsweep("launch", str(sweep_file), "sweep.resources.gpus_per_worker=1")
    assert "GPU" in told
    told = kdsweep("run", str(sweep_file), "--device", "cuda", "--out", "/nowhere")
    assert "cuda" in told and "GPU" in told and "--device cpu" in told


def test_a_name_that_runs_is_refused_with_who_runs_it(kdsweep, sweep_file, tmp_path):
    with SweepLock((tmp_path / "home" / "sweeps" / "small").resolve()):
        told = kdsweep("launch", str(sweep_file))
    assert "'small'" in told and "running" in told


def test_an_unknown_sweep_is_answered_with_the_nearest_names(kdsweep):
    assert "nothing" in kdsweep("resume", "nothing")


def test_a_bound_that_is_none_is_explained(kdsweep):
    assert "params_ratio >= 4" in kdsweep("best", "quickstart", "--where", "params_ratio")


def test_a_file_that_is_not_there_is_named(kdsweep, tmp_path):
    assert "nosuch.yaml" in kdsweep("launch", str(tmp_path / "nosuch.yaml"))


def test_a_place_that_cannot_be_written_is_named(kdsweep, tmp_path, sweep_file):
    (tmp_path / "home").write_text("a file, not a folder")
    assert "home" in kdsweep("check", str(sweep_file))


def test_a_name_cannot_leave_the_storage_folder(kdsweep, tmp_path):
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "sweep.json").write_text("{bad")
    assert "no sweep '../../evil'" in kdsweep("resume", "../../evil")


UNFIT = """\
run:
  task: metric_learning
  data: {format: digits}
  teacher: {model: small_cnn, train: {epochs: 1, batch_size: 64}}
  student: {model: small_cnn, width: 0.5}
  method: {name: fitnet, tap: layer3}
  train: {epochs: 1, batch_size: 64}
sweep:
  name: unfit
  objectives: {recall_at_1: max}
space:
  method.hint: {log_uniform: [0.1, 10]}
  method.tap: {choice: [layer3, layer4]}
  train.batch_size: {choice: [64, 2000]}
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "launch"])
def test_what_does_not_fit_together_is_refused_before_any_trial(kdsweep, tmp_path, command):
    path = tmp_path / "unfit.yaml"
    path.write_text(UNFIT)
    told = kdsweep(command, str(path))
    assert "method.tap = layer4: method 'fitnet' needs tap 'layer4'" in told and "layer3" in told
    assert "train.batch_size = 2000: train.batch_size 2000 is larger than the 901" in told
    assert "Tracking has not got" not in told


@pytest.mark.slow
def test_check_opens_the_teachers_file(kdsweep, tmp_path):
    path = tmp_path / "given.yaml"
    path.write_text(
        UNFIT.replace("train: {epochs: 1, batch_size: 64}}", "checkpoint: t.safetensors}", 1)
    )
    told = kdsweep("check", str(path), "space={method.hint: {uniform: [0, 1]}}")
    assert "run.teacher.checkpoint: there is no file t.safetensors" in told
    save_file({"wrong": torch.zeros(1)}, tmp_path / "t.safetensors")
    given = f"run.teacher.checkpoint={tmp_path / 't.safetensors'}"
    told = kdsweep("check", str(path), "space={method.hint: {uniform: [0, 1]}}", given)
    assert "t.safetensors" in told and "name another file in run.teacher.checkpoint" in told
