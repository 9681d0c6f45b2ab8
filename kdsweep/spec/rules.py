"""Rules that several parts of a sweep file must keep together; each breach is a `Fault`.

They run on what could be read of a faulty file, too, so that all faults appear at once.
"""

from collections.abc import Iterable, Iterator

from kdsweep.errors import did_you_mean, nearest
from kdsweep.spec.fault import Fault
from kdsweep.spec.lengths import trial_epochs
from kdsweep.spec.metrics import (
    epoch_metrics,
    known_from,
    known_metrics,
    metric_every,
    stopping_metric,
)
from kdsweep.spec.rules_space import space_faults, start_faults
from kdsweep.spec.run import RunSpec, task_of
from kdsweep.spec.space import Space
from kdsweep.spec.sweep import SweepSection, SweepSpec


def faults(sweep: SweepSpec) -> Iterator[Fault]:
    """Everything wrong with a sweep whose parts are valid by themselves."""
    yield from sweep_faults(sweep, sweep.run, sweep.space)
    yield from teacher_faults(sweep, sweep.run)
    yield from space_faults(sweep.run, sweep.space)
    yield from start_faults(sweep.run, sweep.space, sweep.start)


def sweep_faults(
    sweep: SweepSection, run: RunSpec | None, space: Space, *, mended: bool = False
) -> Iterator[Fault]:
    """What of the `sweep` section contradicts itself, the run or the space.

    Args:
        sweep: The section; fields that could not be read have their defaults.
        run: The run, or None where it could not be read.
        space: The searched keys that could be read.
        mended: Whether faulty fields of the run had to be left out.
    """
    yield from _budget_faults(sweep)
    if sweep.sampler == "grid":
        for key, distribution in space.items():
            if distribution.count is None:
                text = "needs a finite space, but space." + key + f" is {distribution.kind}"
                yield Fault(("sampler",), f"'grid' {text}", "Write it as choice, int or quantised.")
    if run is None:
        return
    yield from _metric_faults(sweep, run, mended)
    if mended:
        return
    yield from _early_stop_faults(sweep, run, space)
    if run.method is None and sweep.baselines:
        text = f"has {', '.join(sweep.baselines)}, but the run has no method to compare with"
        yield Fault(("baselines",), text, "Write baselines: [], or give run.method.")
    workers = sweep.resources.workers
    sizes = space["train.batch_size"].probes() if "train.batch_size" in space else []
    for size in [run.train.batch_size, *sizes]:
        text = _share_fault(run, size, workers) if isinstance(size, int) else ""
        if text:
            hint = "run.train.batch_size counts the samples of all workers together."
            yield Fault(("resources", "workers"), text, hint)
            break


def _share_fault(run: RunSpec, batch_size: int, workers: int) -> str:
    if batch_size % workers:
        return f"is {workers}, which does not divide the batch size {batch_size}"
    share = batch_size // workers
    fault = task_of(run.task).share_fault(run.data, share=share) if workers > 1 else ""
    return fault and f"is {workers}, so a batch of {batch_size} gives each {share}, but {fault}"


def teacher_faults(sweep: SweepSection, run: RunSpec) -> Iterator[Fault]:
    """Whether the workers of a trial can train the teacher; paths begin with ``run``."""
    workers, train = sweep.resources.workers, run.teacher.train if run.teacher else None
    if train is not None and train.batch_size % workers:
        text = f"is {train.batch_size}, which cannot be split over {workers} workers"
        hint = f"Multiples of {workers}: it counts the samples of all resources.workers together."
        yield Fault(("run", "teacher", "train", "batch_size"), text, hint)


def _metric_faults(sweep: SweepSection, run: RunSpec, mended: bool) -> Iterator[Fault]:
    # faulty data may have lost what tells its metrics
    known = known_metrics(run.task, None if mended else run.data)
    for part in ("objectives", "constraints"):
        for metric in getattr(sweep, part):
            if metric not in known:
                where = " on the data of this run" if metric in known_metrics(run.task) else ""
                text = f"is no metric of task {run.task!r}{where}"
                yield Fault((part, metric), text, _metric_hint(metric, known))
            elif metric.endswith("_ratio") and run.teacher is None and not mended:
                text = "compares with the teacher, but the run has none"
                yield Fault((part, metric), text, f"Use {metric.removesuffix('_ratio')}.")
    for metric, direction in sweep.objectives.items():
        if known.get(metric, direction) != direction:
            text = f"is {direction}, but {metric} is better the other way"
            yield Fault(("objectives", metric), text, f"Write {metric}: {known[metric]}.")


def _metric_hint(given: str, known: Iterable[str]) -> str:
    """Nearest names first; of a metric per class, only as many as a message can hold."""
    names = nearest(given, known)
    few = [name for name in names if "/" not in name or name in names[:3]]
    return did_you_mean(given, few)


def _early_stop_faults(sweep: SweepSection, run: RunSpec, space: Space) -> Iterator[Fault]:
    stop = sweep.early_stop
    if stop is None:
        return
    reported = epoch_metrics(run.task, run.data)
    if stop.metric and stop.metric not in reported:
        text = f"is {stop.metric!r}, which is not reported while a trial runs"
        yield Fault(("early_stop", "metric"), text, _metric_hint(stop.metric, reported))
    objectives = set(sweep.objectives)
    unknown = objectives - set(known_metrics(run.task, run.data))  # told already
    if not stop.metric and objectives and not unknown and not objectives & set(reported):
        text = "is missing: no objective is reported while a trial runs"
        yield Fault(("early_stop", "metric"), text, _metric_hint("", reported))
    lengths = trial_epochs(run, space)
    most = f"at most {max(lengths)}" if len(lengths) > 1 else f"{lengths[0]}"
    metric = stopping_metric(stop.metric, sweep.objectives, reported)
    every = metric_every(run, metric)
    if stop.grace_epochs >= max(lengths):
        text = f"is {stop.grace_epochs}, but trials have {most} epochs"
        hint = "No trial could be stopped early: use fewer grace epochs, or leave early_stop out."
        yield Fault(("early_stop", "grace_epochs"), text, hint)
    elif metric in reported and known_from(stop.grace_epochs, every) >= max(lengths):
        text = f"is {stop.grace_epochs}, but {metric} is known every {every} epochs only"
        hint = f"No trial of {most} epochs could be stopped early: lower run.train.val_every."
        yield Fault(("early_stop", "grace_epochs"), text, hint)


def _budget_faults(sweep: SweepSection) -> Iterator[Fault]:
    budget = sweep.budget
    for field in ("gpu_hours", "money"):
        if getattr(budget, field) is not None and sweep.resources.gpus_per_worker == 0:
            text = (
                "counts reserved GPUs, but the sweep reserves none (resources.gpus_per_worker: 0)"
            )
            yield Fault(("budget", field), text, "Use budget.hours, or reserve GPUs.")
    if budget.money is not None and budget.price_per_gpu_hour is None:
        text = "is missing: budget.money needs it"
        yield Fault(("budget", "price_per_gpu_hour"), text)
