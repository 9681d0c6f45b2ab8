"""Writes sweeps to MLflow: one experiment per sweep, one parent run, one child run per trial."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdsweep.errors import TrackingError
from kdsweep.tracking import _layout as layout
from kdsweep.tracking import _registry as registry
from kdsweep.tracking import _view as view
from kdsweep.tracking._reader import MlflowReader
from kdsweep.tracking._store import found_already
from kdsweep.tracking.base import (
    RESUMABLE,
    SWEEP_STATES,
    TRIAL_STATES,
    SweepInfo,
    SweepState,
    TrialInfo,
    TrialState,
)
from kdsweep.tracking.checks import (
    check_files,
    check_metrics,
    check_name,
    check_state,
    check_tags,
)

_METRICS_PER_CALL = 1000
_ANALYZE_EVERY = 500


class MlflowTracker(MlflowReader):
    """Implements `Tracker` on an MLflow store.

    A sweep that is resumed, or published again after an outage, goes on in the runs it has. One
    process writes a sweep at a time.
    """

    def __init__(self, uri: str | None, home: Path) -> None:
        """See `MlflowReader`."""
        super().__init__(uri, home)
        self._opened = 0
        self._stamp_ms = 0

    def open_sweep(self, info: SweepInfo) -> None:
        """See `Tracker.open_sweep`."""
        check_name("sweep", info.name)
        key = (info.name, layout.SWEEP)
        with self.store.asked(f"open sweep {info.name!r}"):
            experiment = self._create_experiment(info)
            run = self._only(experiment, layout.SWEEP)
            if run is None:
                run = self._client.create_run(
                    experiment,
                    start_time=_now_ms(),
                    run_name=info.name,
                    tags=layout.sweep_tags(info),
                )
            run_id = run.info.run_id
            if run.data.tags.get(layout.SPEC_DIGEST) != layout.spec_digest(info):
                self._client.log_text(run_id, info.sweep_yaml, layout.SWEEP_FILE)
                self._client.log_text(run_id, _json(layout.sweep_document(info)), layout.SWEEP_JSON)
                self._tag(run_id, layout.sweep_tags(info))
                self._client.set_experiment_tag(experiment, view.TAG, view.state(info))
            if run.data.tags.get(layout.STATE) != "running":
                self._client.update_run(run_id, status="RUNNING")
            self._tag(
                run_id,
                {layout.STATE: "running", layout.SPEC_DIGEST: layout.spec_digest(info)},
            )
        self._runs[key], self._states[key] = run_id, "running"

    def open_trial(self, info: TrialInfo) -> None:
        """See `Tracker.open_trial`."""
        check_name("trial", info.trial)
        check_tags(info.tags)
        key = (info.sweep, info.trial)
        known = self._states.get(key)
        if known is not None and known not in RESUMABLE - {"running"}:
            return
        experiment = self._experiment(info.sweep)
        with self.store.asked(f"open trial {info.trial!r} of sweep {info.sweep!r}"):
            run = self._only(experiment, info.trial)
            if run is None:
                parent = self._parent_run(info)
                run = self._client.create_run(
                    experiment,
                    start_time=_now_ms(),
                    run_name=layout.run_name(info),
                    tags={**layout.trial_tags(info), layout.PARENT_RUN: parent},
                )
            self._remember(key, run)
            del self._states[key]  # until it is certain: an opening that is cut off is done again
            state = run.data.tags.get(layout.STATE)
            if state is None:  # new, or its opening was cut off half-way
                self._client.log_text(run.info.run_id, _json(info.spec), layout.SPEC_FILE)
                self._log_params(run.info.run_id, info.params)
            elif state in RESUMABLE:
                self._set_status(key, "RUNNING", "running")
            if state is None or state in RESUMABLE:
                self._tag(run.info.run_id, {layout.STATE: "running", layout.REASON: ""})
                state = "running"
        self._states[key] = state
        self._opened += 1
        if self._opened % _ANALYZE_EVERY == 0:
            self.store.analyze()

    def log_epoch(self, sweep: str, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker.log_epoch`."""
        values = check_metrics(metrics)
        key = (sweep, trial)
        run_id = self._run(sweep, trial)
        if epoch <= self._epochs[key]:
            return
        # Forgotten until it is certain: after a failure the store is asked what it has.
        del self._epochs[key]
        with self.store.asked(f"log epoch {epoch} of trial {trial!r}"):
            self._log_metrics(run_id, {**values, "epoch": float(epoch)}, epoch)
        self._epochs[key] = epoch

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
        values = check_metrics(metrics)
        files = check_files(artifacts or {})
        key = (sweep, trial)
        run_id = self._run(sweep, trial)
        if self._states[key] == state:
            return
        with self.store.asked(f"end trial {trial!r} of sweep {sweep!r}"):
            for name, path in files.items():
                self._upload(run_id, path, name)
            self._log_metrics(run_id, values, max(self._epochs[key], 0))
            self._client.set_terminated(run_id, status=layout.STATUS[state], end_time=_now_ms())
            self._set_status(key, layout.STATUS[state], state)
            # The state is written last: a call that was cut off is done again as a whole.
            self._tag(run_id, {layout.REASON: layout.cut(reason), layout.NOTE: layout.cut(reason)})
            self._tag(run_id, {layout.STATE: state})
        self._states[key] = state

    def log_summary(
        self, sweep: str, files: Mapping[str, Path], *, note: str = "", headline: str = ""
    ) -> None:
        """See `Tracker.log_summary`."""
        existing = check_files(files)
        run_id = self._run(sweep, layout.SWEEP)
        with self.store.asked(f"store the summary of sweep {sweep!r}"):
            for name, path in existing.items():
                self._upload(run_id, path, name)
            experiment = self._experiments[sweep]
            if note:
                note = f"{note}\n\n[Charts and runs of this sweep]({view.path(experiment)})"
            tags = {layout.NOTE: layout.cut(note), layout.HEADLINE: layout.cut(headline)}
            self._tag(run_id, {name: text for name, text in tags.items() if text})
            if note:
                self._client.set_experiment_tag(experiment, layout.NOTE, layout.cut(note))
        self.store.analyze()

    def end_sweep(self, sweep: str, state: SweepState) -> None:
        """See `Tracker.end_sweep`."""
        check_state(state, SWEEP_STATES)
        key = (sweep, layout.SWEEP)
        run_id = self._run(*key)
        if self._states[key] == state:
            return
        experiment = self._experiment(sweep)
        with self.store.asked(f"end sweep {sweep!r}"):
            self._remove_surplus(experiment)
            self._client.set_terminated(run_id, status=layout.STATUS[state], end_time=_now_ms())
            self._tag(run_id, {layout.STATE: state})
        self._states[key] = state
        self.store.analyze()

    def register_best(self, sweep: str, trial: str) -> str:
        """See `Tracker.register_best`."""
        student = self.fetch(sweep, trial, "student")
        run_id = self._run(sweep, trial)
        with self.store.asked(f"register the student of trial {trial!r}"):
            return registry.register(
                self._client, sweep=sweep, trial=trial, run_id=run_id, student=student
            )

    def _only(self, experiment: str, trial: str) -> Any:
        """The run of a trial, or None; others that an answer that came late has left are removed.

        Only runs that nobody went on with are, and `mlflow runs restore` brings them back.
        """
        from mlflow.exceptions import MlflowException

        runs = self._search(experiment, trial)
        for run in runs[1:]:
            if layout.STATE not in run.data.tags:
                try:
                    self._client.delete_run(run.info.run_id)
                except MlflowException as error:
                    if error.error_code != "PERMISSION_DENIED":  # readers pass it over as well
                        raise
        return runs[0] if runs else None

    def _remove_surplus(self, experiment: str) -> None:
        """Removes runs that came into being after their trial had gone on in another one."""
        condition = "attributes.status = 'RUNNING'"
        for run in self._pages([experiment], condition, "attributes.start_time"):
            tags = run.data.tags
            if layout.TRIAL in tags and layout.STATE not in tags:
                self._only(experiment, tags[layout.TRIAL])

    def _create_experiment(self, info: SweepInfo) -> str:
        found = self._client.get_experiment_by_name(info.name)
        if found is None:
            with found_already():
                self._client.create_experiment(
                    info.name,
                    artifact_location=self.store.artifacts_of(info.name),
                    tags=layout.experiment_tags(info),
                )
            found = self._client.get_experiment_by_name(info.name)
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"sweep {info.name!r} was deleted in {self.store.name}, which still holds its "
                f"name. Restore it (mlflow experiments restore -x {found.experiment_id}), remove "
                "it for good (mlflow gc), or choose another name."
            )
        if found.tags.get(layout.OWNER) != "kdsweep":
            raise TrackingError(
                f"{self.store.name} has an experiment {info.name!r} that is not a sweep of "
                "kdsweep: choose another name for the sweep."
            )
        self._experiments[info.name] = found.experiment_id
        return found.experiment_id

    def _set_status(self, key: tuple[str, str], status: str, state: str) -> None:
        name = layout.name_with_state(self._names[key], state)
        self._client.update_run(self._runs[key], status=status, name=name)
        self._names[key] = name

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        items = [RunTag(name, text) for name, text in tags.items()]
        for start in range(0, len(items), layout.BATCH):
            self._client.log_batch(run_id, tags=items[start : start + layout.BATCH])

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        items = [Param(name, text) for name, text in layout.param_texts(params).items()]
        for start in range(0, len(items), layout.BATCH):
            self._client.log_batch(run_id, params=items[start : start + layout.BATCH])

    def _log_metrics(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        # Strictly later than before: the latest value of a step is told by its time, and the time
        # of the metric "epoch" tells the values of an epoch from the final ones.
        now = self._stamp_ms = max(_now_ms(), self._stamp_ms + 1)
        items = [Metric(name, value, now, step) for name, value in values.items()]
        for start in range(0, len(items), _METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=items[start : start + _METRICS_PER_CALL])

    def _upload(self, run_id: str, path: Path, name: str) -> None:
        path.stat()  # raises where it has gone: MLflow would leave an empty folder of its name
        folder, _, last = name.rpartition("/")
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), name)
        elif path.name == last:
            self._client.log_artifact(run_id, str(path), folder or None)
        else:
            with layout.renamed(path, last) as copy:
                self._client.log_artifact(run_id, str(copy), folder or None)


def _json(document: Any) -> str:
    return json.dumps(document, indent=2)  # in the given order: the first objective leads


def _now_ms() -> int:
    return int(time.time() * 1000)
