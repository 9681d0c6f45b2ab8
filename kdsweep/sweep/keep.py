"""Which trials keep their weights: those that can be asked for; of the rest only figures stay."""

import shutil
from collections.abc import Callable
from pathlib import Path

from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.ledger import Entry, Record
from kdsweep.sweep.ranking import feasible, pareto, ranked

_TOP = 3
"""The best sampled trials keep their weights, at least so many."""

_WEIGHTS = ("student.safetensors", "adapters.safetensors")
_CHECKPOINT = "checkpoint"

Drop = Callable[[str], bool]
"""Says of a file of a run, by its relative name, whether it goes."""


def kept(spec: SweepSpec, record: Record) -> set[str]:
    """Ids of the trials whose weights stay.

    Teacher, baselines and confirmations; of the sampled trials the Pareto front and the best few.
    Who has left that set does not come back, so what is removed is never missed.
    """
    bounds = spec.bounds()
    searched = [
        entry for entry in record.of_kind("search") if feasible(entry, spec.objectives, bounds)
    ]
    best = pareto(searched, spec.objectives)
    best += ranked(searched, spec.objectives)[: max(_TOP, spec.confirm.top)]
    others = [entry for entry in record.trials.values() if entry.plan.kind != "search"]
    return {entry.plan.trial for entry in [*best, *others]}


def dropped(spec: SweepSpec, record: Record) -> dict[str, Drop]:
    """What goes of the trials that are over: checkpoints, and weights that nobody will ask for.

    The run of a stopped trial may still be writing its last checkpoint, so its files go only when
    its slot has taken another trial.
    """
    keep = kept(spec, record)
    return {
        trial: _drop(weights=trial not in keep)
        for trial, entry in record.trials.items()
        if entry.state == "finished" or (entry.state == "stopped" and _left(entry, record))
    }


def prune(spec: SweepSpec, record: Record, runs: Path) -> None:
    """Removes from the disk what `dropped` says.

    Args:
        spec: The sweep.
        record: Its trials.
        runs: Folder that holds a folder for each trial; nothing outside it is touched.
    """
    for trial, drop in dropped(spec, record).items():
        folder = runs / trial
        if folder.is_dir():
            shutil.rmtree(folder / _CHECKPOINT, ignore_errors=True)
            for name in filter(drop, _WEIGHTS):
                (folder / name).unlink(missing_ok=True)


def _drop(*, weights: bool) -> Drop:
    def drop(name: str) -> bool:
        return name.startswith(f"{_CHECKPOINT}/") or (weights and name in _WEIGHTS)

    return drop


def _left(entry: Entry, record: Record) -> bool:
    """Whether the slot of a trial has gone on to another one."""
    if not entry.leases:
        return True
    return any(
        other.slot == entry.slot and other.leases and other.leases[-1][0] > entry.leases[-1][0]
        for other in record.trials.values()
    )
