"""Reads sweeps from MLflow, and finds the runs that belong to them."""

import functools
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from kdsweep.errors import TrackingError, did_you_mean
from kdsweep.tracking import _layout as layout
from kdsweep.tracking import _view as view
from kdsweep.tracking._store import Store
from kdsweep.tracking.base import (
    Histories,
    SweepInfo,
    SweepSummary,
    TrialInfo,
    TrialRecord,
)
from kdsweep.tracking.checks import (
    check_artifact,
    check_name,
)

_PAGE = 1000


class MlflowReader:
    """The reading half of the MLflow tracker.

    Runs are found by tag, never by MLflow's active run. What has been learned of a run is
    remembered for the life of this object.
    """

    def __init__(self, uri: str | None, home: Path) -> None:
        """Connects to the store.

        Args:
            uri: MLflow tracking URI, or None for ``mlflow.db`` in `home`.
            home: Folder for the artifacts of a local store, and for fetched files.

        Raises:
            TrackingUnavailable: The store cannot be reached.
        """
        self.store = Store(uri, home)
        with self.store.asked("open the tracking store"):
            from mlflow import MlflowClient

            self._client = MlflowClient(self.store.uri, registry_uri=self.store.uri)
            # The client connects lazily; ask something small, so that a wrong address shows here.
            self._client.get_experiment_by_name("Default")
        self._experiments: dict[str, str] = {}
        self._runs: dict[tuple[str, str], str] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._states: dict[tuple[str, str], str] = {}
        self._names: dict[tuple[str, str], str] = {}

    def sweeps(self) -> list[SweepSummary]:
        """See `Tracker.sweeps`."""
        with self.store.asked("list sweeps"):
            experiments = [
                experiment.experiment_id
                for experiment in self._client.search_experiments(
                    filter_string=f"tags.`{layout.OWNER}` = 'kdsweep'"
                )
            ]
            runs = self._pages(
                experiments, f"{layout.TRIAL_IS} = '{layout.SWEEP}'", "attributes.start_time DESC"
            )
        return [layout.summary(run, self._location(run)) for run in layout.that_count(runs)]

    def read_sweep(self, name: str) -> SweepInfo:
        """See `Tracker.read_sweep`."""
        run_id = self._run(name, layout.SWEEP)
        document = json.loads(self.fetch(name, None, layout.SWEEP_JSON).read_text("utf-8"))
        with self.store.asked(f"read sweep {name!r}"):
            self._client.get_run(run_id)
        return layout.sweep_info(document)

    def read_trials(self, name: str) -> list[TrialRecord]:
        """See `Tracker.read_trials`."""
        experiment = self._experiment(name)
        with self.store.asked(f"read the trials of sweep {name!r}"):
            runs = self._pages(
                [experiment], f"{layout.TRIAL_IS} != '{layout.SWEEP}'", "attributes.start_time ASC"
            )
        records = [
            layout.record(name, run, self._read_spec(name, run), self._read_history(run))
            for run in layout.that_count(runs)
        ]
        return sorted(records, key=lambda record: (record.started_s, record.trial))

    def fetch(self, sweep: str, trial: str | None, name: str) -> Path:
        """See `Tracker.fetch`."""
        check_name("sweep", sweep)  # a server may hold anything, and this becomes a folder's name
        check_artifact(name)
        run_id = self._run(sweep, trial or layout.SWEEP)
        with self.store.asked(f"fetch {name!r} of {trial or 'the sweep'} of {sweep!r}"):
            folder = name.rpartition("/")[0]
            there = [file.path for file in self._client.list_artifacts(run_id, folder or None)]
            if name not in there:
                raise TrackingError(
                    f"{trial or 'the sweep'} of {sweep!r} has no file {name!r}. "
                    f"{did_you_mean(name, there)}"
                )
            if self.store.remote:
                target = self.store.home / "fetched" / sweep / (trial or layout.SWEEP)
                target.mkdir(parents=True, exist_ok=True)
                return Path(self._client.download_artifacts(run_id, name, str(target)))
            return Path(self._client.download_artifacts(run_id, name))

    def _read_spec(self, sweep: str, run: Any) -> Callable[[], dict[str, Any]]:
        trial = run.data.tags[layout.TRIAL]

        @functools.cache  # a server answers each reading with two requests
        def text() -> str:
            return self.fetch(sweep, trial, layout.SPEC_FILE).read_text("utf-8")

        def read() -> dict[str, Any]:
            document: dict[str, Any] = json.loads(text())
            return document

        return read

    def _read_history(self, run: Any) -> Callable[[Collection[str] | None], Histories]:
        there = sorted(run.data.metrics)

        def read(names: Collection[str] | None) -> Histories:
            wanted = there if names is None else [name for name in there if name in names]
            with self.store.asked(f"read the history of trial {run.data.tags[layout.TRIAL]!r}"):
                points = {
                    name: self._client.get_metric_history(run.info.run_id, name)
                    for name in dict.fromkeys([*wanted, *(["epoch"] if wanted else [])])
                }
            found = layout.histories(points)
            return {name: series for name, series in found.items() if name in wanted}

        return read

    def _experiment(self, sweep: str) -> str:
        if sweep not in self._experiments:
            with self.store.asked(f"find sweep {sweep!r}"):
                found = self._client.get_experiment_by_name(sweep)
            ours = found is not None and found.tags.get(layout.OWNER) == "kdsweep"
            if found is None or not ours or found.lifecycle_stage == "deleted":
                names = [summary.name for summary in self.sweeps()]
                raise TrackingError(
                    f"there is no sweep {sweep!r} in {self.store.name}. "
                    f"{did_you_mean(sweep, names)}"
                )
            self._experiments[sweep] = found.experiment_id
        return self._experiments[sweep]

    def _search(self, experiment: str, trial: str) -> list[Any]:
        """Runs of a trial, the one that counts first; mostly there is one."""
        runs = self._pages([experiment], f"{layout.TRIAL_IS} = '{trial}'", "attributes.start_time")
        return sorted(runs, key=layout.rank)

    def _pages(self, experiments: list[str], condition: str, order: str) -> list[Any]:
        if not experiments:
            return []
        runs: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                experiments,
                condition,
                max_results=_PAGE,
                order_by=[order],
                page_token=token,
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def _run(self, sweep: str, trial: str) -> str:
        key = (sweep, trial)
        if key not in self._runs or key not in self._states or key not in self._epochs:
            experiment = self._experiment(sweep)
            if trial != layout.SWEEP:
                check_name("trial", trial)
            with self.store.asked(f"find trial {trial!r} of sweep {sweep!r}"):
                runs = self._search(experiment, trial)
            if not runs:
                names = [record.trial for record in self.read_trials(sweep)]
                raise TrackingError(
                    f"sweep {sweep!r} has no trial {trial!r}. {did_you_mean(trial, names)}"
                )
            self._remember(key, runs[0])
        return self._runs[key]

    def _parent_run(self, info: TrialInfo) -> str:
        if info.parent is not None:
            return self._run(info.sweep, info.parent)
        return self._run(info.sweep, layout.SWEEP)

    def _remember(self, key: tuple[str, str], run: Any) -> None:
        self._runs[key] = run.info.run_id
        self._names[key] = run.info.run_name
        self._states[key] = run.data.tags.get(layout.STATE, "running")
        self._epochs[key] = int(run.data.metrics.get("epoch", -1))

    def _location(self, run: Any) -> str:
        base = self.store.name.rstrip("/") if self.store.remote else ""
        return f"{base}/{view.path(run.info.experiment_id)}"
