"""How a sweep is laid out in MLflow: names of tags and files, and records to and from runs."""

import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from kdsweep.tracking.base import (
    RESUMABLE,
    TRIAL_STATES,
    Histories,
    SweepInfo,
    SweepState,
    SweepSummary,
    TrialInfo,
    TrialKind,
    TrialRecord,
    TrialState,
)
from kdsweep.tracking.checks import (
    check_metric,
    check_tags,
)

SWEEP = ".sweep"
"""Stands for the parent run where a trial's id is expected; no trial can have this id."""

SWEEP_FILE, SWEEP_JSON, SPEC_FILE = "sweep.yaml", "sweep.json", "spec.json"

OWNER, TRIAL, STATE, REASON = "kdsweep.owner", "kdsweep.trial", "kdsweep.state", "kdsweep.reason"
KIND, LABEL, PARENT, SEED = "kdsweep.kind", "kdsweep.label", "kdsweep.parent", "kdsweep.seed"
IDENTITY, HEADLINE, TASK = "kdsweep.identity", "kdsweep.headline", "kdsweep.task"
METHOD, TRIALS = "kdsweep.method", "kdsweep.trials"
NAME, SPEC_DIGEST = "kdsweep.sweep", "kdsweep.spec_digest"
NOTE, PARENT_RUN = "mlflow.note.content", "mlflow.parentRunId"

TRIAL_IS = f"tags.`{TRIAL}`"
"""How a search names a trial's id."""

BATCH = 100
"""Parameters or tags in one call (MLflow's limit)."""

_STATE_WORD = re.compile(rf" \((?:{'|'.join(TRIAL_STATES)})\)")
_TAG_LENGTH, _PARAM_LENGTH, _NAME_LENGTH = 7900, 6000, 90
_LARGEST = 1.7e308  # MLflow stores infinity as 1.797e308

STATUS = {
    "finished": "FINISHED",
    "reused": "FINISHED",
    "failed": "FAILED",
    "stopped": "FINISHED",  # MLflow draws KILLED like a failure, and stopping early is none
    "rejected": "KILLED",
    "interrupted": "KILLED",
}
"""What MLflow's own status says of each way to end; the tag `kdsweep.state` says it exactly."""


def cut(text: str) -> str:
    """Shortens a text to what a tag can hold."""
    return text if len(text) <= _TAG_LENGTH else text[:_TAG_LENGTH] + " ..."


# ---- to MLflow ---------------------------------------------------------------------------------


def experiment_tags(info: SweepInfo) -> dict[str, str]:
    """Tags of a new experiment; the last two choose what MLflow's pages show first."""
    objectives = info.spec.get("objectives") or {}
    tags = {OWNER: "kdsweep", "mlflow.experimentKind": "custom_model_development"}
    if objectives:
        metric, direction = next(iter(objectives.items()))
        tags["mlflow.experiment.primaryMetric.name"] = metric
        tags["mlflow.experiment.primaryMetric.greaterIsBetter"] = str(direction == "max")
    return tags


def sweep_tags(info: SweepInfo) -> dict[str, str]:
    """Tags of a sweep's parent run."""
    check_tags(info.tags)
    return {
        **_common(info.tags),
        TRIAL: SWEEP,
        KIND: "sweep",
        NAME: info.name,
        TASK: info.task,
        METHOD: info.method,
        TRIALS: str(info.trials),
    }


def trial_tags(info: TrialInfo) -> dict[str, str]:
    """Tags of a trial's run, but for its state."""
    return {
        **_common(info.tags),
        TRIAL: info.trial,
        KIND: info.kind,
        **({LABEL: info.label} if info.label else {}),
        **({PARENT: info.parent} if info.parent else {}),
        IDENTITY: info.identity,
        SEED: str(info.seed),
        NAME: info.sweep,
    }


def _common(tags: Mapping[str, str]) -> dict[str, str]:
    found = {name: cut(str(text)) for name, text in tags.items()}
    found |= {"mlflow.source.name": "kdsweep", "mlflow.source.type": "LOCAL"}
    if "git_commit" in tags:
        found["mlflow.source.git.commit"] = tags["git_commit"]
    return found


def sweep_document(info: SweepInfo) -> dict[str, Any]:
    """What `sweep_info` needs to rebuild a sweep's information."""
    return {
        "name": info.name,
        "spec": info.spec,
        "sweep_yaml": info.sweep_yaml,
        "tags": info.tags,
    }


def spec_digest(info: SweepInfo) -> str:
    """Tells whether a sweep's information has changed since it was stored."""
    text = json.dumps(sweep_document(info))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_name(info: TrialInfo) -> str:
    """What MLflow's table shows for a trial: ``t003 width=0.25 point_output=0.31``."""
    if info.trial in (info.kind, info.label):  # "teacher", "undistilled", "published"
        words = [info.trial]
    elif info.kind == "confirm":
        words = [info.trial, f"seed {info.seed}"]
    elif info.label:
        words = [info.trial, info.label]
    else:
        words = [info.trial, *_short_params(info.params)]
    name = " ".join(words)
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"


def name_with_state(name: str, state: str) -> str:
    """A run's name with how it ended, where that was not by finishing: ``t003 (failed) k=4``."""
    bare = _STATE_WORD.sub("", name)
    if state in ("running", "finished"):
        return bare
    first, _, rest = bare.partition(" ")
    return f"{first} ({state}) {rest}".strip()


def _short_params(params: Mapping[str, Any]) -> list[str]:
    lasts = [name.rpartition(".")[2] for name in params]
    words = []
    for (name, value), last in zip(params.items(), lasts, strict=True):
        shown = f"{value:.3g}" if isinstance(value, float) else str(value).replace(" ", "")
        words.append(f"{last if lasts.count(last) == 1 else name}={shown}")
    return words


def param_texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Values as texts that are good to read and give the value back by `param_value`."""
    texts = {}
    for name, value in params.items():
        text = json.dumps(value)
        if isinstance(value, str) and value and param_value(value) == value:
            text = value  # no quotes where nothing else can be meant
        texts[check_metric(name)] = text[:_PARAM_LENGTH]
    return texts


def param_value(text: str) -> Any:
    """The value that `param_texts` made a text of."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


@contextmanager
def renamed(path: Path, name: str) -> Iterator[Path]:
    """A copy of a file under another name, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="kdsweep-") as folder:
        copy = Path(folder) / name
        shutil.copy2(path, copy)
        yield copy


# ---- from MLflow -------------------------------------------------------------------------------


def sweep_info(document: Mapping[str, Any]) -> SweepInfo:
    """The inverse of `sweep_document`."""
    return SweepInfo(
        document["name"], document["spec"], document["sweep_yaml"], dict(document["tags"])
    )


def summary(run: Any, location: str) -> SweepSummary:
    """One line of a listing, from a sweep's parent run."""
    tags = run.data.tags
    return SweepSummary(
        name=tags[NAME],
        state=cast(SweepState, tags.get(STATE, "running")),
        started_s=run.info.start_time / 1000,
        ended_s=_ended_s(run),
        task=tags.get(TASK, ""),
        method=tags.get(METHOD, ""),
        trials=int(tags.get(TRIALS, 0)),
        headline=tags.get(HEADLINE, ""),
        location=location,
    )


def record(sweep: str, run: Any, read_spec: Any, read_history: Any) -> TrialRecord:
    """A trial's record from its run."""
    tags = run.data.tags
    metrics = {name: _finite_or_inf(value) for name, value in run.data.metrics.items()}
    return TrialRecord(
        sweep=sweep,
        trial=tags[TRIAL],
        kind=cast(TrialKind, tags[KIND]),
        label=tags.get(LABEL, ""),
        parent=tags.get(PARENT) or None,
        params={name: param_value(text) for name, text in run.data.params.items()},
        identity=tags.get(IDENTITY, ""),
        seed=int(tags.get(SEED, 0)),
        tags={
            name: text
            for name, text in tags.items()
            if not name.startswith(("kdsweep.", "mlflow."))
        },
        state=cast(TrialState, tags.get(STATE, "running")),
        reason=tags.get(REASON, ""),
        metrics=metrics,
        epoch=int(metrics.get("epoch", 0)),
        started_s=run.info.start_time / 1000,
        ended_s=_ended_s(run),
        location=str(run.info.artifact_uri),
        read_spec=read_spec,
        read_history=read_history,
    )


def that_count(runs: Sequence[Any]) -> list[Any]:
    """One run of every trial, in the given order.

    A trial has more where the answer to a creation came so late that another one was created: what
    nobody went on with has no state.
    """
    found: dict[tuple[str, str], Any] = {}
    for run in runs:
        key = (run.info.experiment_id, run.data.tags[TRIAL])
        found[key] = min(found.get(key, run), run, key=rank)
    return list(found.values())


def rank(run: Any) -> tuple[bool, bool, float, int]:
    """Orders the runs of one trial, the one that counts first."""
    state = run.data.tags.get(STATE)
    epochs = run.data.metrics.get("epoch", -1.0)
    return state is None, state in RESUMABLE, -epochs, run.info.start_time


def histories(points: Mapping[str, Sequence[Any]]) -> Histories:
    """Metrics per epoch, without the final values that were logged beside them.

    The values of an epoch carry the same step and time as the epoch's own counter.
    """
    epochs = {(point.step, point.timestamp) for point in points.get("epoch", [])}
    found: Histories = {}
    for name, series in points.items():
        values: dict[int, float] = {}
        for point in sorted(series, key=lambda point: point.timestamp):
            if (point.step, point.timestamp) in epochs:
                values.setdefault(point.step, _finite_or_inf(point.value))
        if values:
            found[name] = sorted(values.items())
    return found


def _ended_s(run: Any) -> float | None:
    ended = run.data.tags.get(STATE, "running") != "running" and run.info.end_time
    return ended / 1000 if ended else None


def _finite_or_inf(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) > _LARGEST else value
