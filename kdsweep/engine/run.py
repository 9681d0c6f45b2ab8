"""One RunSpec -> one RunResult: what `kdsweep run` calls, and what a Ray Train worker calls."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from kdsweep import __version__, discover
from kdsweep.config import weights
from kdsweep.engine import checkpoint, files, load
from kdsweep.engine.claim import claimed
from kdsweep.engine.clock import STEP_STAGES
from kdsweep.engine.knowledge import Knowledge, open_store
from kdsweep.engine.parts import Parts, build_parts
from kdsweep.engine.place import Place, resolve_device
from kdsweep.engine.profile import (
    data_identity,
    peak_rss_bytes,
    profile,
    ratios,
    reset_peak_rss,
    teacher_profile,
)
from kdsweep.engine.ranks import Ranks
from kdsweep.engine.report import Progress, Report
from kdsweep.engine.seed import reproducible
from kdsweep.engine.teacher import (
    load_teacher,
    network_of,
    teacher_dir,
    teacher_weights,
    weights_digest,
)
from kdsweep.engine.train import Job, Trained, train_loop
from kdsweep.errors import CheckpointError
from kdsweep.spec.inputs import inputs_of
from kdsweep.spec.run import RunSpec, task_of

__all__ = ["Progress", "Report", "RunResult", "execute"]

METRICS = "metrics.json"


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        state: ``finished``, or ``stopped`` by a report; a stopped run goes on when executed again.
        epoch: Epochs done.
        metrics: Final metrics of the exported student, or those of the last report if stopped.
        run_dir: Folder with all that the run leaves.
    """

    state: Literal["finished", "stopped"]
    epoch: int
    metrics: dict[str, float]
    run_dir: Path


def execute(spec: RunSpec, place: Place, report: Report) -> RunResult:
    """Trains, evaluates, exports and profiles the student of a run.

    Resumes from ``run_dir/checkpoint``; a finished `run_dir` answers at once. Trains the teacher
    first where it is to be trained and is missing. If torch.distributed is initialised, all workers
    call this together and get equal results; the first one writes. Two processes that execute the
    same `run_dir` take turns, but a later attempt takes over from an earlier one (`claim`).

    Leaves in `run_dir`: ``spec.json``, ``student.safetensors`` and ``student.json``
    (`load.load_student`), ``adapters.safetensors`` where the method has any, and ``metrics.json``,
    whose presence means that the run is finished. Until then there is ``checkpoint/``, several
    times as large, which nobody needs afterwards.

    Final metrics: the task's metrics of the exported student (best epoch, see `train_loop`), its
    profile and ratios (`profile`), ``epochs``, ``best_epoch``, ``train_seconds`` (wall time of the
    loop), ``step_seconds`` (of it within steps: data, teacher, forward, backward, optimiser),
    ``seconds/<stage>``, ``gpu_seconds`` (train_seconds x GPUs), ``train_peak_memory_mb`` (10^6
    bytes; on CUDA of torch's allocator, on the CPU the process's resident memory).

    Raises:
        TapError: The method cannot pair student and teacher; found before any data is read.
        SpecError: The run contradicts itself or the number of workers.
        DataError: The data is missing or damaged.
        CheckpointError: Teacher or checkpoint is missing, damaged or of another shape or run.
        ResourceError: Device, memory or disk is not there or ran out.
        NonFiniteLossError: A loss term became NaN or infinite.
        SupersededError: A later attempt has taken the run over.
    """
    device = resolve_device(place.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if place.threads:
        torch.set_num_threads(place.threads)
    ranks = Ranks.current(device)
    claim = (
        claimed(place.run_dir, place.turn, waits=place.waits)
        if ranks.first
        else contextlib.nullcontext()
    )
    with claim as desk, reproducible(device):
        finished = ranks.from_first(lambda: _finished(spec, place))
        if finished is not None:
            return replace(finished, run_dir=place.run_dir)
        parts = build_parts(spec, place.home)
        with files.locked(place.home / "data.lock"):
            parts.task.prepare()
        if parts.teacher is not None and not _teacher_is_there(spec, place, report):
            return RunResult("stopped", 0, {}, place.run_dir)
        job = _job(spec, place, parts, ranks, desk)
        path = place.run_dir / "spec.json"
        ranks.from_first(lambda: files.write_json(path, spec.to_dict(), desk))
        reset_peak_rss()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        trained = train_loop(job, report)
        if trained.stopped:
            return RunResult("stopped", trained.epoch, trained.last_metrics, place.run_dir)
        metrics = _cost(trained, ranks)
        del job
        parts.teacher = None  # its memory is not the student's
        report(Progress("profile", trained.epoch, spec.train.epochs, {}))
        metrics |= ranks.from_first(
            lambda: _finish(spec, place, parts, trained, device, metrics, desk)
        )
    return RunResult("finished", trained.epoch, metrics, place.run_dir)


def _teacher_is_there(spec: RunSpec, place: Place, report: Report) -> bool:
    """Trains the teacher if that is wanted and not done; False if a report stopped it."""
    assert spec.teacher is not None
    if spec.teacher.checkpoint is not None:
        return True

    def as_teacher(progress: Progress) -> bool:
        return report(replace(progress, stage="teacher")) if progress.stage == "train" else True

    folder = teacher_dir(spec, place.home)
    result = execute(spec.teacher_run(), replace(place, run_dir=folder), as_teacher)
    return result.state == "finished"


def _job(spec: RunSpec, place: Place, parts: Parts, ranks: Ranks, desk: Path | None) -> Job:
    task, teacher, method = parts.task, parts.teacher, parts.method
    fingerprint, digest, knowledge = task.fingerprint(), "", None
    method_weights = {}
    if teacher is not None:
        assert spec.teacher is not None
        path = teacher_weights(spec, place.home)
        data = task.teacher_data(spec.data)
        seen = task if data == spec.data else type(task)(data, spec.loss, home=place.home)
        digest = parts.digest = load_teacher(
            teacher, spec.teacher, path, fingerprint=seen.fingerprint()
        )
        if spec.train.init == "sliced_teacher":
            discover.load("models", spec.student.model).slice_from(parts.student, teacher)
    if teacher is not None and method is not None:
        assert spec.teacher is not None and spec.method is not None
        method_weights = {name: w for name, w in weights(spec.method.config).items() if w > 0}
        autocast = spec.train.amp == "bfloat16"
        store = None
        if spec.train.views > 0:
            store = open_store(
                place.home,
                cap_gb=place.knowledge_gb,
                teacher_digest=digest,
                network=network_of(spec.teacher),
                task=spec.task,
                data=data_identity(spec),
                fingerprint=fingerprint,
                seed=spec.seed,
                views=spec.train.views,
                autocast=autocast,
            )
        needed = method.needs(spec.method.config)[1]
        knowledge = Knowledge(teacher, needed, device=ranks.device, autocast=autocast, store=store)
    return Job(
        task=task,
        student=parts.student,
        train=spec.train,
        task_weights={name: weight for name, weight in weights(spec.loss).items() if weight > 0},
        method=method,
        method_weights=method_weights,
        knowledge=knowledge,
        seed=spec.seed,
        folder=place.run_dir / "checkpoint",
        identity=spec.identity(extra=f"{fingerprint}/{digest}"),
        ranks=ranks,
        desk=desk,
    )


def _finished(spec: RunSpec, place: Place) -> RunResult | None:
    run_dir = place.run_dir
    path = run_dir / METRICS
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    if record["identity"] != spec.identity():
        raise CheckpointError(
            f"{run_dir} holds the finished run {record['identity']}, this is run "
            f"{spec.identity()}: give every run a folder of its own."
        )
    _check_inputs(spec, place, record)
    return RunResult("finished", record["epoch"], record["metrics"], run_dir)


def _check_inputs(spec: RunSpec, place: Place, record: Mapping[str, Any]) -> None:
    """Data and teacher at other paths must be those of the finished run: paths are no identity."""
    written = RunSpec.from_dict(json.loads((place.run_dir / "spec.json").read_text()))
    if inputs_of(written) == inputs_of(spec):
        return
    task = task_of(spec.task)(spec.data, spec.loss, home=place.home)
    with files.locked(place.home / "data.lock"):
        task.prepare()
    other = "other data" if task.fingerprint() != record["data"] else ""
    # a teacher that is trained is in the identity, by how it is trained
    if record.get("teacher") and spec.teacher is not None and spec.teacher.checkpoint is not None:
        path = teacher_weights(spec, place.home)
        if not path.is_file() or weights_digest(path) != record["teacher"]:
            other = "another teacher"
    if other:
        raise CheckpointError(
            f"{place.run_dir} holds the finished run of {other} than this one: it read "
            f"{_words(written)}; this one reads {_words(spec)}. Give every run a folder of its own."
        )


def _words(spec: RunSpec) -> str:
    return ", ".join(f"{key} {path}" for key, path in inputs_of(spec).items())


def _cost(trained: Trained, ranks: Ranks) -> dict[str, float]:
    """What training took."""
    seconds = trained.seconds
    cost = {f"seconds/{stage}": value for stage, value in seconds.items() if stage != "total"}
    on_cuda = ranks.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(ranks.device) if on_cuda else peak_rss_bytes()
    if peak is not None:
        cost["train_peak_memory_mb"] = peak / 1e6
    return {
        **cost,
        "train_seconds": seconds["total"],
        "step_seconds": sum(seconds[stage] for stage in STEP_STAGES),
        "gpu_seconds": seconds["total"] * ranks.world if on_cuda else 0.0,
        "epochs": float(trained.epoch),
        "best_epoch": float(trained.best_epoch),
    }


def _finish(
    spec: RunSpec,
    place: Place,
    parts: Parts,
    trained: Trained,
    device: torch.device,
    cost: dict[str, float],
    desk: Path | None,
) -> dict[str, float]:
    """Exports the best student, profiles it and writes the final metrics."""
    best = checkpoint.load_best(place.run_dir / "checkpoint", trained.best_epoch)
    metrics = {**trained.best_metrics, **cost}
    fingerprint = parts.task.fingerprint()
    student = checkpoint.without_prefix("student", best)
    load.export_student(
        place.run_dir,
        student,
        load.describe(
            model=spec.student.model,
            config=spec.student.config.model_dump(mode="json"),
            model_input=parts.task.model_input(),
            task=spec.task,
            identity=spec.identity(),
            epoch=trained.best_epoch,
            metrics=trained.best_metrics,
            kdsweep=__version__,
        ),
        desk,
    )
    if adapters := checkpoint.without_prefix("method", best):
        path = place.run_dir / load.ADAPTERS
        files.write_file(path, lambda temporary: checkpoint.save_tensors(adapters, temporary), desk)
    checkpoint.restore(parts.student, student, source=place.run_dir)
    figures = profile(parts.student, parts.task, device)
    teacher = teacher_profile(spec, parts.task, place.home, device)
    metrics |= figures | (ratios(figures, teacher) if teacher is not None else {})
    record = {
        "identity": spec.identity(),
        "data": fingerprint,
        "teacher": parts.digest,
        "epoch": trained.epoch,
        "metrics": metrics,
    }
    files.write_json(place.run_dir / METRICS, record, desk)
    files.remove(place.run_dir / "checkpoint", desk)
    return metrics
