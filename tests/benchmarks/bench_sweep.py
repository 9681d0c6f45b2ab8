"""What a trial costs in kdsweep's stack, against plain Ray Tune and a TorchTrainer per trial.

    python tests/benchmarks/bench_sweep.py [--trials 100] [--trainers 4]

A trial is a formula (`tests/integration/closed_form.py`): four epochs of 20 ms, so that nearly all
of its time is overhead. Each way runs in a process of its own, one after the other, on a Ray that
it starts itself with 2 CPU cores:

- *kdsweep*: the whole stack (Tune, Optuna, slots of Ray Train workers, journal, MLflow);
- *plain Tune*: a function trainable with `reuse_actors`, OptunaSearch and MLflowLoggerCallback, as
  one writes it by hand: no Ray Train worker, no checkpoint, nothing to resume from;
- *TorchTrainer*: the same with a new TorchTrainer for each trial, as Ray's documentation has it,
  and once more with Ray Train's health check at 0.2 s instead of its default.

Printed: seconds from the start of the process to the first epoch of a trial (imports, Ray and the
first worker included), seconds per trial from there to the last epoch, seconds from start to end of
the process, and MLflow runs that were finished. The sweep has no baselines and trains no teacher.

Figures depend on an idle machine; the first line printed tells cores and load.

Measured on 2026-11-25 on 2 CPU cores of an idle virtual machine (Python 3.11, ray 2.60.0):

                      first epoch  per trial    whole  trials  runs
kdsweep                    15.2 s    0.251 s   46.2 s     100   100
plain Tune                  9.0 s    0.163 s   28.8 s     100   100
TorchTrainer               19.4 s   12.662 s   80.4 s       4     4
TorchTrainer, 0.2 s        18.2 s    4.695 s   41.8 s       4     4

The limit is the driver's one thread, where Tune's loop runs: three of four of its samples (py-spy)
were work. Until that day kdsweep kept one trial more than slots in Tune's hands; for each of them
Tune started a process that it threw away unused: 0.919 s per trial.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "integration"))

EPOCHS, EPOCH_S, CORES = 4, 0.02, 2
NAME = "formula"


def kdsweep(home: Path, trials: int) -> None:
    """The whole stack."""
    from closed_form import EXECUTE, sweep

    from kdsweep.sweep import launch

    run = sweep().run.to_dict()
    run["teacher"] |= {"train": None, "checkpoint": "given.safetensors"}  # formulas need none
    spec = sweep(run=run, trials=trials, baselines=[])
    launch(spec, home=home, quiet=True, execute=EXECUTE)


def plain_tune(home: Path, trials: int) -> None:
    """A function trainable, as short as it can be."""
    _tune(home, trials, _epochs)


def trainer_per_trial(home: Path, trials: int) -> None:
    """A new TorchTrainer in every trial."""
    _tune(home, trials, _trainer)


def _tune(home: Path, trials: int, trainable: Callable[[Mapping[str, Any]], None]) -> None:
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", num_cpus=CORES, include_dashboard=True, log_to_driver=False)
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{home / 'mlflow.db'}", experiment_name=NAME
    )
    tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1 if trainable is _epochs else 0.01}),
        param_space={"weight": tune.loguniform(1e-4, 100), "log": str(home / "epochs.log")},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric="miou", mode="max"),
            num_samples=trials,
            max_concurrent_trials=CORES,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=NAME, storage_path=str(home), verbose=0, callbacks=[callback]
        ),
    ).fit()
    ray.shutdown()


def _epochs(config: Mapping[str, Any]) -> None:
    from ray import tune

    _compute(config, tune.report)


def _trainer(config: Mapping[str, Any]) -> None:
    import ray.train
    from ray import tune
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def loop(settings: Mapping[str, Any]) -> None:
        _compute(settings, ray.train.report)

    TorchTrainer(
        loop,
        train_loop_config=dict(config),
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(
            name=f"trainer-{tune.get_context().get_trial_id()}",
            storage_path=str(Path(config["log"]).parent),
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


def _compute(config: Mapping[str, Any], report: Callable[[dict[str, float]], object]) -> None:
    """The formula of `closed_form`; notes when each epoch was done."""
    value = 0.6 - 0.02 * math.log10(config["weight"]) ** 2
    for epoch in range(1, EPOCHS + 1):
        time.sleep(EPOCH_S)
        with open(config["log"], "a") as file:
            file.write(f"{time.time()}\n")
        report({"miou": value * (1 - 0.5**epoch), "epoch": epoch})


WAYS: dict[str, tuple[Callable[[Path, int], None], dict[str, str]]] = {
    "kdsweep": (kdsweep, {}),
    "plain Tune": (plain_tune, {}),
    "TorchTrainer": (trainer_per_trial, {}),
    "TorchTrainer, 0.2 s": (trainer_per_trial, {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}),
}


def measure(way: str, trials: int) -> dict[str, float]:
    """Runs one way in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-sweep-") as folder:
        home = Path(folder)
        environment = {
            **os.environ,
            **WAYS[way][1],
            "CLOSED_FORM_EPOCH_S": str(EPOCH_S),
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1] / "integration"), *sys.path[1:]]),
        }
        began = time.time()
        command = [sys.executable, str(HERE), "--way", way, "--trials", str(trials), folder]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        ended = time.time()
        first, last = _epoch_times(home)
        return {
            "first": first - began,
            "trial": (last - first) / trials,
            "whole": ended - began,
            "trials": trials,
            "runs": _runs(home),
        }


def _epoch_times(home: Path) -> tuple[float, float]:
    """When the first epoch was computed and when the last was, seconds since 1970."""
    journal, log = home / "sweeps" / NAME / "journal.jsonl", home / "epochs.log"
    if log.exists():
        times = [float(line) for line in log.read_text().splitlines()]
    else:
        events = [json.loads(line) for line in journal.read_text().splitlines()]
        times = [event["t"] for event in events if event["event"] == "epoch"]
    return min(times), max(times)


def _runs(home: Path) -> int:
    """Finished MLflow runs of trials."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(NAME)
    runs = client.search_runs([experiment.experiment_id], max_results=10_000)
    trials = [run for run in runs if run.data.tags.get("kdsweep.trial") != ".sweep"]
    return sum(run.info.status == "FINISHED" for run in trials)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--trainers", type=int, default=4, help="trials with a TorchTrainer each")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("home", nargs="?", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        WAYS[arguments.way][0](arguments.home, arguments.trials)
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.processor()}")
    print(f"{'':20} {'first epoch':>12} {'per trial':>10} {'whole':>8} {'trials':>7} {'runs':>5}")
    for way in WAYS:
        trials = arguments.trainers if way.startswith("TorchTrainer") else arguments.trials
        found = measure(way, trials)
        print(
            f"{way:20} {found['first']:10.1f} s {found['trial']:8.3f} s {found['whole']:6.1f} s "
            f"{found['trials']:7} {found['runs']:5}",
            flush=True,
        )


if __name__ == "__main__":
    main()
