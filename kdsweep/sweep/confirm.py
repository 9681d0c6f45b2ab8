"""Confirmation runs: the best configurations and what they are compared with, with fresh seeds."""

from collections.abc import Iterator
from dataclasses import dataclass

from kdsweep.spec.run import RunSpec
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.ledger import Entry, Record
from kdsweep.sweep.ranking import feasible, ranked

UNDISTILLED = "undistilled"


@dataclass(frozen=True)
class Confirmation:
    """A run that the search did not ask for.

    Attributes:
        trial: Its id: ``t003-s1``.
        run: What it trains.
        parent: The trial whose configuration it repeats with a fresh seed; None for a baseline.
        label: ``undistilled`` or ``published`` for baselines and their repetitions.
    """

    trial: str
    run: RunSpec
    parent: str | None
    label: str = ""

    @property
    def kind(self) -> str:
        return "confirm" if self.parent else "baseline"


def asked_beside(spec: SweepSpec) -> int:
    """Baselines and confirmations that a sweep asks for, without baselines of the winners' own."""
    confirm = spec.confirm
    repeated = confirm.top + len(spec.baselines) if confirm.top else 0
    return len(spec.baselines) + repeated * confirm.seeds


def winners(spec: SweepSpec, record: Record) -> list[Entry]:
    """The best sampled trials, as many as are to be confirmed."""
    bounds = spec.bounds()
    found = [
        entry for entry in record.of_kind("search") if feasible(entry, spec.objectives, bounds)
    ]
    return ranked(found, spec.objectives)[: spec.confirm.top]


def confirmations(spec: SweepSpec, record: Record) -> Iterator[Confirmation]:
    """All that is to be trained after the search.

    First an undistilled student for each winner whose own recipe (student, data, loss, training) no
    baseline has, so that every gain compares twins: equal in size and in all but the method, as
    `results.gain` looks for them. Then winners and baselines, seed by seed, so that an early end
    leaves whole comparisons.
    """
    if spec.confirm.top == 0:
        return
    best = winners(spec, record)
    baselines = [entry for entry in record.of_kind("baseline") if entry.state == "finished"]
    compared = {entry.plan.trial: RunSpec.from_dict(entry.plan.spec) for entry in baselines}
    labels = {entry.plan.trial: entry.plan.label for entry in baselines}
    if best and UNDISTILLED in spec.baselines:
        for entry in best:
            twin = RunSpec.from_dict(entry.plan.spec).undistilled()
            known = record.by_identity(twin.identity())
            name = known.plan.trial if known else f"{UNDISTILLED}-{entry.plan.trial}"
            if name not in compared:
                compared[name], labels[name] = twin, UNDISTILLED
                yield Confirmation(name, twin, None, UNDISTILLED)
    for entry in best:
        compared[entry.plan.trial] = RunSpec.from_dict(entry.plan.spec)
    for number, seed in enumerate(spec.confirm_seeds(), 1):
        for parent, run in compared.items():
            repeated = run.model_copy(update={"seed": seed})
            yield Confirmation(f"{parent}-s{number}", repeated, parent, labels.get(parent, ""))
