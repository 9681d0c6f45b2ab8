"""The dry run of a sweep: what would be searched and tried, without data, Ray or a GPU."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsweep.config import weights
from kdsweep.spec.distributions import Choice
from kdsweep.spec.fields import default_of
from kdsweep.spec.metrics import STATIC
from kdsweep.spec.rules_space import branches
from kdsweep.spec.run import RunSpec
from kdsweep.spec.space import Distribution, same
from kdsweep.spec.sweep import SweepSpec


@dataclass(frozen=True)
class SpaceRow:
    """One searched key, for a table.

    Attributes:
        key: Dotted key of the run.
        kind: Name of the distribution.
        values: Its values in words: ``0.01 .. 10``, or the options.
        count: Number of different values; None = continuous.
        here: The value that the file's own run has; None where it has no such field.
        published: The method's published setting, the default of its class; None for keys of
            others, whose defaults are nobody's published setting.
        when: The conditions in words; empty = always searched.
    """

    key: str
    kind: str
    values: str
    count: int | None
    here: Any
    published: Any
    when: str


@dataclass(frozen=True)
class CheckReport:
    """What a valid sweep file amounts to.

    Attributes:
        sweep: The resolved sweep.
        rows: The search space.
        combinations: Number of different configurations; None = infinitely many.
        baselines: Runs that are always trained first, by label.
        extremes: Runs whose size (parameters, MACs) spans that of all students, with a label each.
        notes: What is valid, but worth a second look.
    """

    sweep: SweepSpec
    rows: Sequence[SpaceRow]
    combinations: int | None
    baselines: Mapping[str, RunSpec]
    extremes: Sequence[tuple[str, RunSpec]]
    notes: Sequence[str]


def check(sweep: SweepSpec) -> CheckReport:
    """Makes the dry run; a `SweepSpec` is valid, so nothing is refused here."""
    rows = [_row(sweep, key) for key in sweep.order]
    total = combinations(sweep)
    return CheckReport(
        sweep=sweep,
        rows=rows,
        combinations=total,
        baselines=sweep.baseline_runs(),
        extremes=extremes(sweep),
        notes=[*_notes(sweep, rows, total)],
    )


def extremes(sweep: SweepSpec) -> list[tuple[str, RunSpec]]:
    """Runs at both ends of every searched key that changes the student's size.

    Such keys are `student` and what is below it. Where there are several, all of them at their
    first and all at their last value are added. The file's own run comes first. Runs that are
    equal appear once.
    """
    keys = [key for key in sweep.order if key.split(".")[0] == "student"]
    points: list[tuple[str, dict[str, Any]]] = [_AS_WRITTEN]
    for key in keys:
        branch = next(branches(sweep.space, key))
        points += [
            (f"{key} = {value}", {**branch, key: value}) for value in sweep.space[key].ends()
        ]
    if len(keys) > 1:
        points += [(f"all student keys {word}", _corner(sweep, end)) for end, word in _ENDS]
    return _different_runs(sweep, points)


def kinds(sweep: SweepSpec) -> list[tuple[str, RunSpec]]:
    """Runs that stand for all others where it matters what fits together, with a label each.

    The file's own run comes first, then every searched key of data, networks, method and batches at
    each option, or at both ends of its range. Weights of terms only scale what is computed anyway.
    """
    points: list[tuple[str, dict[str, Any]]] = [_AS_WRITTEN]
    for key in sweep.order:
        if key not in _FITTED and key.split(".")[0] not in _FITTED:
            continue
        values = _options_or_ends(sweep.space[key])
        for branch in branches(sweep.space, key):
            if not _is_weight(sweep.trial_run(branch), key):
                points += [(f"{key} = {value}", {**branch, key: value}) for value in values]
    return _different_runs(sweep, points)


def _options_or_ends(found: Distribution) -> Sequence[Any]:
    """Values that stand for all of a distribution."""
    return found.probes() if isinstance(found, Choice) else found.ends()


def _different_runs(
    sweep: SweepSpec, points: Sequence[tuple[str, dict[str, Any]]]
) -> list[tuple[str, RunSpec]]:
    runs: dict[str, tuple[str, RunSpec]] = {}
    for label, point in points:
        run = sweep.trial_run(point)
        runs.setdefault(run.identity(), (label, run))
    return list(runs.values())


def _is_weight(run: RunSpec, key: str) -> bool:
    section, _, field = key.partition(".")
    return section == "method" and run.method is not None and field in weights(run.method.config)


def refusals(sweep: SweepSpec, metrics: Mapping[str, float]) -> list[str]:
    """Constraints that a run cannot keep, judged by what is known before training.

    Args:
        sweep: The sweep.
        metrics: Static metrics of a run: ``params``, ``params_ratio``, ``macs``, ``macs_ratio``.

    Returns:
        One sentence for each constraint that is broken; none = the run may train.
    """
    return [
        f"{metric} is {metrics[metric]:.4g}, but constraints ask for {bound}"
        for metric, bound in sweep.bounds().items()
        if metric in STATIC and metric in metrics and not bound.holds(metrics[metric])
    ]


def combinations(sweep: SweepSpec) -> int | None:
    """Number of different points of the space, conditions respected; None = infinitely many."""
    asked = {parent for key in sweep.space for parent in sweep.space[key].when}

    def count(keys: tuple[str, ...], point: dict[str, Any]) -> int | None:
        if not keys:
            return 1
        key, rest = keys[0], keys[1:]
        if not sweep.is_active(key, point):
            return count(rest, point)
        here = sweep.space[key]
        if here.count is None:
            return None
        if key not in asked:
            below = count(rest, point)
            return None if below is None else here.count * below
        # Only values that some condition names make a difference to the keys after this one.
        told = _told_apart(sweep, key)
        parts = [count(rest, {**point, key: value}) for value in told]
        others = here.count - len(told)
        if others:
            below = count(rest, {**point, key: _OTHER})
            parts.append(None if below is None else others * below)
        total = 0
        for part in parts:
            if part is None:
                return None
            total += part
        return total

    return count(sweep.order, {})


_AS_WRITTEN: tuple[str, dict[str, Any]] = ("as written", {})
_FITTED = ("data", "student", "teacher", "method", "train.batch_size", "train.init")
_ENDS = ((0, "at their first value"), (1, "at their last value"))
_OTHER = object()


def _told_apart(sweep: SweepSpec, key: str) -> list[Any]:
    """The values of a key that conditions of other keys name."""
    told: list[Any] = []
    for other in sweep.space.values():
        for value in other.when.get(key, ()):
            if sweep.space[key].contains(value) and not any(same(value, had) for had in told):
                told.append(value)
    return told


def _corner(sweep: SweepSpec, end: int) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for key in sweep.order:
        ours = key.split(".")[0] == "student"
        if ours and sweep.is_active(key, point):
            point[key] = sweep.space[key].ends()[end]
    return point


def _row(sweep: SweepSpec, key: str) -> SpaceRow:
    distribution = sweep.space[key]
    branch = next(branches(sweep.space, key))
    try:
        here = sweep.run.value(key)
    except LookupError:
        here = None
    values = sweep.trial_run(branch).to_dict()
    ours = key.startswith("method.")
    return SpaceRow(
        key=key,
        kind=distribution.kind,
        values=distribution.words(),
        count=distribution.count,
        here=here,
        published=default_of(RunSpec, values, tuple(key.split("."))) if ours else None,
        when=", ".join(
            f"{parent} = {' or '.join(map(str, allowed))}"
            for parent, allowed in distribution.when.items()
        ),
    )


def _notes(sweep: SweepSpec, rows: Sequence[SpaceRow], total: int | None) -> Iterator[str]:
    if not rows:
        yield "space is empty: only the baselines differ."
    if total is not None and rows and sweep.trials > total:
        yield f"sweep.trials is {sweep.trials}, but there are only {total} configurations."
    if sweep.sampler == "grid" and total is not None and sweep.trials < total:
        left = f"the last {total - sweep.trials} of the grid's {total} configurations"
        yield f"sweep.trials is {sweep.trials}: {left} are not tried."
    for row in rows:
        for parent in sweep.space[row.key].when:
            if parent not in sweep.space and not _holds(sweep, row.key, parent):
                yield f"{row.key} is never searched: {row.when} does not hold in this run."
        default = row.published
        if default is not None and not sweep.space[row.key].contains(default):
            yield f"{row.key}: the published value {default} is outside of the search space."
        if _moves_teacher(sweep, row.key):
            yield (
                f"{row.key}: its values have teachers of their own, each trained within the first "
                "trial that needs it."
            )
    if sweep.confirm.top == 0 and rows:
        yield "sweep.confirm.top is 0: the best may be a lucky seed."


def _moves_teacher(sweep: SweepSpec, key: str) -> bool:
    """Whether a searched key changes how the teacher is trained, or on what."""
    branch, trained = next(branches(sweep.space, key)), set()
    for value in _options_or_ends(sweep.space[key]):
        run = sweep.trial_run({**branch, key: value})
        if run.teacher is not None and run.teacher.train is not None:
            trained.add(run.teacher_run().identity())
    return len(trained) > 1


def _holds(sweep: SweepSpec, key: str, parent: str) -> bool:
    try:
        value = sweep.run.value(parent)
    except LookupError:
        return False
    return any(same(value, allowed) for allowed in sweep.space[key].when[parent])
