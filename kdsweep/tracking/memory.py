"""A tracker that keeps everything in memory: the twin of the MLflow tracker, for tests."""

import copy
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdsweep.errors import TrackingError, did_you_mean
from kdsweep.tracking.base import (
    RESUMABLE,
    SWEEP_STATES,
    TRIAL_STATES,
    Histories,
    SweepInfo,
    SweepState,
    SweepSummary,
    TrialInfo,
    TrialRecord,
    TrialState,
)
from kdsweep.tracking.checks import (
    check_artifact,
    check_files,
    check_metrics,
    check_name,
    check_state,
    check_tags,
)


@dataclass
class _Trial:
    info: TrialInfo
    started_s: float
    state: TrialState = "running"
    reason: str = ""
    ended_s: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)


@dataclass
class _Sweep:
    info: SweepInfo
    started_s: float
    state: SweepState = "running"
    ended_s: float | None = None
    note: str = ""
    headline: str = ""
    best: str = ""
    trials: dict[str, _Trial] = field(default_factory=dict)


class MemoryTracker:
    """Implements `Tracker` in memory; files are copied to a temporary folder.

    Attributes:
        writes: Names of the calls that changed something, in order: lets a test see idempotence.
    """

    def __init__(self) -> None:
        self.writes: list[str] = []
        self._sweeps: dict[str, _Sweep] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="kdsweep-")
        self._root = Path(self._folder.name)

    def close(self) -> None:
        """Removes the copied files."""
        self._folder.cleanup()

    def open_sweep(self, info: SweepInfo) -> None:
        """See `Tracker.open_sweep`."""
        check_name("sweep", info.name)
        check_tags(info.tags)
        sweep = self._sweeps.get(info.name)
        if sweep is None:
            self._sweeps[info.name] = _Sweep(copy.deepcopy(info), time.time())
            self.writes.append("open_sweep")
        elif sweep.state != "running" or sweep.info != info:
            sweep.state, sweep.ended_s, sweep.info = "running", None, copy.deepcopy(info)
            self.writes.append("open_sweep")

    def open_trial(self, info: TrialInfo) -> None:
        """See `Tracker.open_trial`."""
        sweep = self._sweep(info.sweep)
        check_name("trial", info.trial)
        check_tags(info.tags)
        trial = sweep.trials.get(info.trial)
        if trial is None:
            sweep.trials[info.trial] = _Trial(copy.deepcopy(info), time.time())
            self.writes.append("open_trial")
        elif trial.state in RESUMABLE - {"running"}:
            trial.state, trial.reason, trial.ended_s = "running", "", None
            self.writes.append("open_trial")

    def log_epoch(self, sweep: str, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker.log_epoch`."""
        found = self._trial(sweep, trial)
        values = check_metrics(metrics)
        if epoch <= max(found.epochs, default=-1):
            return
        found.epochs[epoch] = {**values, "epoch": float(epoch)}
        found.metrics.update(found.epochs[epoch])
        self.writes.append("log_epoch")

    def end_trial(
        self,
        sweep: str,
        trial: str,
        state: TrialState,
        reason: str = "",
        metrics: Mapping[str, float] | None = None,
        artifacts: Mapping[str, Path] | None = None,
    ) -> None:
        """See `Tracker.end_trial`."""
        check_state(state, TRIAL_STATES)
        found = self._trial(sweep, trial)
        values = check_metrics(metrics)
        files = check_files(artifacts or {})
        if found.state == state:
            return
        for name, path in files.items():
            _copy(path, self._root / sweep / trial / name)
        found.metrics.update(values)
        found.state, found.reason, found.ended_s = state, reason, time.time()
        self.writes.append("end_trial")

    def log_summary(
        self, sweep: str, files: Mapping[str, Path], *, note: str = "", headline: str = ""
    ) -> None:
        """See `Tracker.log_summary`."""
        found = self._sweep(sweep)
        for name, path in check_files(files).items():
            _copy(path, self._root / sweep / ".sweep" / name)
        found.note, found.headline = note or found.note, headline or found.headline
        self.writes.append("log_summary")

    def end_sweep(self, sweep: str, state: SweepState) -> None:
        """See `Tracker.end_sweep`."""
        check_state(state, SWEEP_STATES)
        found = self._sweep(sweep)
        if found.state != state:
            found.state, found.ended_s = state, time.time()
            self.writes.append("end_sweep")

    def sweeps(self) -> list[SweepSummary]:
        """See `Tracker.sweeps`."""
        return [
            SweepSummary(
                name=name,
                state=sweep.state,
                started_s=sweep.started_s,
                ended_s=sweep.ended_s,
                task=sweep.info.task,
                method=sweep.info.method,
                trials=sweep.info.trials,
                headline=sweep.headline,
                location=f"memory:{name}",
            )
            for name, sweep in reversed(self._sweeps.items())
        ]

    def read_sweep(self, name: str) -> SweepInfo:
        """See `Tracker.read_sweep`."""
        return copy.deepcopy(self._sweep(name).info)

    def read_trials(self, name: str) -> list[TrialRecord]:
        """See `Tracker.read_trials`."""
        return [self._record(trial) for trial in self._sweep(name).trials.values()]

    def fetch(self, sweep: str, trial: str | None, name: str) -> Path:
        """See `Tracker.fetch`."""
        check_artifact(name)
        if trial is None:
            self._sweep(sweep)
        else:
            self._trial(sweep, trial)
        path = self._root / sweep / (trial or ".sweep") / name
        if not path.exists():
            raise TrackingError(f"{trial or 'the sweep'} of {sweep!r} has no file {name!r}.")
        return path

    def register_best(self, sweep: str, trial: str) -> str:
        """See `Tracker.register_best`."""
        self.fetch(sweep, trial, "student")
        if self._sweep(sweep).best != trial:
            self._sweep(sweep).best = trial
            self.writes.append("register_best")
        return f"memory:{sweep}@best"

    def _sweep(self, name: str) -> _Sweep:
        if name not in self._sweeps:
            raise TrackingError(f"there is no sweep {name!r}. {did_you_mean(name, self._sweeps)}")
        return self._sweeps[name]

    def _trial(self, sweep: str, trial: str) -> _Trial:
        trials = self._sweep(sweep).trials
        if trial not in trials:
            raise TrackingError(
                f"sweep {sweep!r} has no trial {trial!r}. {did_you_mean(trial, trials)}"
            )
        return trials[trial]

    def _record(self, trial: _Trial) -> TrialRecord:
        def spec() -> dict[str, Any]:
            return copy.deepcopy(trial.info.spec)

        def history(names: Collection[str] | None) -> Histories:
            series: Histories = {}
            for epoch, metrics in sorted(trial.epochs.items()):
                for name, value in metrics.items():
                    if names is None or name in names:
                        series.setdefault(name, []).append((epoch, value))
            return series

        info = copy.deepcopy(trial.info)
        return TrialRecord(
            sweep=info.sweep,
            trial=info.trial,
            kind=info.kind,
            label=info.label,
            parent=info.parent,
            params=info.params,
            identity=info.identity,
            seed=info.seed,
            tags=info.tags,
            state=trial.state,
            reason=trial.reason,
            metrics=dict(trial.metrics),
            epoch=max(trial.epochs, default=0),
            started_s=trial.started_s,
            ended_s=trial.ended_s,
            location=str(self._root / info.sweep / info.trial),
            read_spec=spec,
            read_history=history,
        )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(source).is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
