"""What one sweep does: `SweepSpec`. Where it runs is said by flags and the cluster file."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from kdsweep.config import Config, Count, Positive
from kdsweep.errors import SpecError
from kdsweep.spec.bounds import Bound, parse_bound
from kdsweep.spec.fault import Fault, failure
from kdsweep.spec.run import RunSpec
from kdsweep.spec.space import AnyDistribution, is_active, sampling_order
from kdsweep.tasks.base import Direction

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""Names that are safe as a folder: no separators, no leading dot or dash."""

Baseline = Literal["undistilled", "published"]


def _bound(text: str) -> str:
    try:
        return str(parse_bound(text))
    except SpecError as error:
        raise failure(Fault((), str(error))) from None


BoundText = Annotated[str, AfterValidator(_bound)]


class EarlyStop(Config):
    """When to stop a trial that does worse than others that are no larger did at the same epoch."""

    scheduler: Literal["asha"] = "asha"
    """Asynchronous successive halving: only the best 1/`reduction` go on at each rung."""

    grace_epochs: Count = 1
    """Epochs that every trial gets; the first rung."""

    reduction: Annotated[int, Field(ge=2)] = 3
    """Rungs lie at `grace_epochs` x `reduction`^n epochs, or at the next that is evaluated."""

    metric: str = ""
    """Metric to compare, reported at every evaluation. Default: the first objective that is."""


class Budget(Config):
    """What the sweep may use; it ends when the first limit is reached. No field = no limit.

    Trials that run at that moment run to their end. Nothing new starts then, on a resume neither:
    to go on, raise the limit: `kdsweep resume NAME --budget hours=4`.
    """

    hours: Positive | None = None
    """Wall-clock hours since the first launch, pauses between resumes not counted."""

    gpu_hours: Positive | None = None
    """GPU-hours reserved by trials: seconds x workers x `resources.gpus_per_worker`. Refused where
    no GPU is reserved, because it would never be reached; `hours` bounds such a sweep."""

    money: Positive | None = None
    """Cost of the reserved GPU-hours, in the currency of `price_per_gpu_hour`."""

    price_per_gpu_hour: Positive | None = None
    """Price of one GPU-hour, in the currency of `money`."""

    trials: Count | None = None
    """Trials of every kind together: baselines, sampled ones and confirmations."""


class Resources(Config):
    """What one trial takes. Explicit, so that nothing is promised twice."""

    workers: Count = 1
    """Processes that train one trial together; they split `run.train.batch_size` evenly."""

    gpus_per_worker: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of a GPU that a worker reserves: 0 = CPU only, 0.5 = two workers on each GPU."""

    cpus_per_worker: Positive = 1.0
    """CPU cores that a worker reserves."""

    placement: Literal["pack", "spread"] = "pack"
    """`pack`: the workers of a trial share one node. `spread`: they may sit on several, as few as
    have room, and exchange gradients over the network; for trials that no single node can hold."""

    isolation: Literal["slots", "trial"] = "slots"
    """`slots`: workers stay up and take one trial after another. `trial`: new processes for each,
    some 16 s dearer."""

    concurrent: Count | None = None
    """Trials at the same time; default: as many as fit the cluster."""


class Confirm(Config):
    """Training the best again with fresh seeds, because a lucky seed wins a search."""

    top: Annotated[int, Field(ge=0)] = 0
    """Configurations confirmed after the search, best first; 0 = none."""

    seeds: Count = 3
    """Fresh seeds for each of them, and for the baselines that they are compared with. The seed a
    configuration was found with is not counted."""


def _no_secret(uri: str) -> str:
    if "@" in urlsplit(uri).netloc:
        raise failure(
            Fault(
                (),
                "holds a user name or password, which would be stored with the sweep. Leave them "
                "out and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the "
                "environment.",
            )
        )
    return uri


class Tracking(Config):
    """Where results are kept."""

    uri: Annotated[str, AfterValidator(_no_secret)]
    """MLflow tracking URI without user name and password; without this section, SQLite in the home
    folder."""


class SweepSection(Config):
    """The `sweep` section of a sweep file: what is optimised, how, and with which means."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the sweep, its folder and its MLflow experiment: letters, digits, `_`, `-`, `.`."""

    objectives: Annotated[dict[str, Direction], Field(min_length=1)]
    """Metrics to optimise, each `max` or `min`; the first one is the headline."""

    constraints: dict[str, BoundText] = Field(default_factory=dict)
    """Bounds on metrics, such as `latency_ms: "<= 50"`. Parameters and MACs are known before
    training: a trial that cannot keep such a bound never takes a GPU."""

    trials: Count = 64
    """Configurations to sample; baselines and confirmations come on top."""

    sampler: Literal["tpe", "nsga2", "gp", "random", "grid"] = "tpe"
    """Optuna sampler; `grid` tries the combinations of a finite space in order, as many as `trials`
    says, the last key of the space changing fastest."""

    early_stop: EarlyStop | None = None
    """Stops bad trials early; without it every trial trains to its end."""

    budget: Budget = Budget()
    """Limits of time, GPU-hours, money and trials."""

    resources: Resources = Resources()
    """What one trial takes."""

    baselines: tuple[Baseline, ...] = ("undistilled", "published")
    """Run first, always: `undistilled` (all weights of the method 0) and `published` (the method's
    defaults)."""

    confirm: Confirm = Confirm()
    """Training the best again with other seeds."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler."""

    tracking: Tracking | None = None
    """Where results are kept; a command-line flag goes first."""

    @field_validator("baselines")
    @classmethod
    def _once(cls, baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if len(set(baselines)) < len(baselines):
            raise failure(Fault((), "lists a baseline more than once"))
        return baselines


class SweepSpec(SweepSection):
    """A whole sweep: the run, what is searched in it, and the `sweep` section's fields."""

    run: RunSpec
    """What every trial trains, but for the searched keys."""

    space: dict[str, AnyDistribution] = Field(default_factory=dict)
    """Distribution of each searched key; dotted keys of the run, without `run.`."""

    start: tuple[dict[str, Any], ...] = ()
    """Points of the space that are tried first; keys left out are sampled."""

    @model_validator(mode="after")
    def _rules(self) -> "SweepSpec":
        from kdsweep.spec.rules import faults

        found = list(faults(self))
        if found:
            raise failure(*found)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The whole sweep as JSON-able values; `from_dict` reads it."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SweepSpec":
        """Validates the form that `to_dict` gives.

        Raises:
            SpecError: Something is wrong; the message lists every fault by its dotted key.
        """
        from kdsweep.spec.faults import explain

        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SpecError(explain(error, cls, values)) from None

    @property
    def order(self) -> tuple[str, ...]:
        """The searched keys so that each comes after those its conditions name."""
        return tuple(sampling_order(self.space))

    def is_active(self, key: str, point: Mapping[str, Any]) -> bool:
        """Whether a key is searched, given the values of the active keys before it in `order`."""
        return is_active(self.space, key, point, self.run.value)

    def trial_run(self, point: Mapping[str, Any], *, seed: int | None = None) -> RunSpec:
        """The run of a point of the space.

        Args:
            point: Values of the active keys.
            seed: Another seed of the run, for confirmations.
        """
        run = self.run.with_overrides(point) if point else self.run
        return run if seed is None else run.model_copy(update={"seed": seed})

    def baseline_runs(self) -> dict[str, RunSpec]:
        """The runs of the baselines, by label."""
        runs = {"undistilled": self.run.undistilled, "published": self.run.published}
        return {label: runs[label]() for label in self.baselines}

    def bounds(self) -> dict[str, Bound]:
        """The constraints, parsed, by metric."""
        return {metric: parse_bound(text) for metric, text in self.constraints.items()}

    def confirm_seeds(self) -> tuple[int, ...]:
        """The fresh seeds of confirmations: those after the run's own."""
        return tuple(self.run.seed + 1 + index for index in range(self.confirm.seeds))
