"""Optuna as the sweep uses it: ask, tell, and a history that is rebuilt from the journal.

The study lives in memory and only public calls of Optuna are used. A trial is told in one of these
ways:

| how it ended | Optuna's state | constraints |
|---|---|---|
| finished | COMPLETE with its values | the sweep's own |
| stopped early | COMPLETE with the values it reached | also ``fidelity`` > 0: never feasible |
| stopped before a value was known | PRUNED | ``fidelity`` > 0 |
| rejected before training | PRUNED | the bounds that it breaks |
| failed, or a value is not finite | FAIL | none |
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.ledger import missing
from kdsweep.sweep.space import Point, encode, split, suggest

_UNKNOWN = 1e9
"""Violation of a bound on a metric that a trial does not have."""

_LEAST, _MOST = 4, 50
"""Sizes of NSGA-II's population: fewer have little to recombine, and 50 is Optuna's default."""

_KEPT = (":generation",)
"""Endings of the attributes by which samplers know a trial again that has ended."""


@dataclass(frozen=True)
class Result:
    """How a trial ended, as far as the search is concerned.

    Attributes:
        state: ``finished``, ``stopped``, ``failed`` or ``rejected``.
        metrics: What is known of it.
        progress: Part of the training that it had, 0..1.
    """

    state: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    progress: float = 1.0


def make_sampler(name: str, seed: int, trials: int) -> BaseSampler:
    """An Optuna sampler by the name that sweep files use.

    NSGA-II's first generation is random, and only later ones learn. Its population is therefore the
    square root of the number of trials, so that a sweep has as many generations as a generation has
    trials. With Optuna's default of 50, a sweep of 64 trials would be a random search.

    Args:
        name: As in a sweep file; ``grid`` samples nothing by itself.
        seed: Of its random numbers.
        trials: Trials that the sweep file asks for.
    """
    with warnings.catch_warnings():
        # `group` is marked experimental; conditional spaces are sampled jointly only with it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
            case "nsga2":
                population = min(max(round(math.sqrt(trials)), _LEAST), _MOST)
                return NSGAIISampler(seed=seed, population_size=population)
            case "gp":
                return GPSampler(seed=seed)
            case "random" | "grid":
                return RandomSampler(seed=seed)
    raise AssertionError(f"unknown sampler {name!r}")


class Study:
    """The search over a sweep's space.

    Args:
        spec: The sweep.
        skip: Points that were asked for in earlier processes. A sampler of random numbers starts
            elsewhere then, so that it does not repeat what it gave before.
    """

    def __init__(self, spec: SweepSpec, skip: int = 0) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._spec = spec
        self._bounds = spec.bounds()
        self._study = optuna.create_study(
            directions=[
                "maximize" if way == "max" else "minimize" for way in spec.objectives.values()
            ],
            sampler=make_sampler(spec.sampler, (spec.seed + 100_003 * skip) % 2**32, spec.trials),
        )

    def ask(self, fixed: Mapping[str, Any] | None = None) -> tuple[optuna.Trial, Point]:
        """Asks for a point; keys that `fixed` names get its values, the others are sampled."""
        if fixed:
            space = self._spec.space
            self._study.enqueue_trial(
                {key: encode(space[key], value) for key, value in fixed.items() if key in space}
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask()
            if isinstance(self._study.sampler, NSGAIISampler):
                # Also where every value is given: or the trial is in no generation, and no parent.
                _ = trial.relative_params
            return trial, suggest(trial, self._spec)

    def marks(self, trial: optuna.Trial) -> dict[str, Any]:
        """What the sampler noted of an asked trial and has to find again in a later process."""
        noted = self._study.get_trials(deepcopy=False)[trial.number].system_attrs
        return {name: value for name, value in noted.items() if name.endswith(_KEPT)}

    def tell(self, trial: optuna.Trial, result: Result) -> None:
        """Says how an asked trial ended."""
        state, values, constraints = self._verdict(result)
        for name, violation in constraints.items():
            trial.set_constraint(name, violation)
        self._study.tell(trial, values, state=state)

    def add(
        self, point: Mapping[str, Any], result: Result, marks: Mapping[str, Any] | None = None
    ) -> None:
        """Adds a trial of an earlier process.

        Args:
            point: Its values.
            result: How it ended.
            marks: What `marks` gave of it; none of a trial that an older kdsweep recorded.
        """
        state, values, constraints = self._verdict(result)
        params, distributions = split(self._spec, point)
        self._study.add_trial(
            create_trial(
                state=state,
                values=values,
                params=params,
                distributions=distributions,
                system_attrs=dict(marks or {}),
                constraints=constraints,
            )
        )

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """Optuna's view of all trials."""
        return self._study.trials

    @property
    def best_trials(self) -> list[optuna.trial.FrozenTrial]:
        """Optuna's view of the feasible Pareto front."""
        return self._study.best_trials

    def _verdict(self, result: Result) -> tuple[TrialState, list[float] | None, dict[str, float]]:
        lacking = missing(result.metrics, self._spec.objectives)
        if result.state == "failed" or (result.state == "finished" and lacking):
            return TrialState.FAIL, None, {}
        constraints = {
            name: self._violation(name, result.metrics)
            for name in self._bounds
            if result.state != "rejected" or name in result.metrics
        }
        if self._spec.early_stop is not None:
            constraints["fidelity"] = 0.0
        if result.state == "stopped":
            constraints["fidelity"] = max(1e-6, 1.0 - result.progress)
        if result.state == "rejected" or lacking:
            return TrialState.PRUNED, None, constraints
        return TrialState.COMPLETE, [result.metrics[m] for m in self._spec.objectives], constraints

    def _violation(self, name: str, metrics: Mapping[str, float]) -> float:
        """How far a bound is broken, in parts of its limit so that bounds can be added up."""
        bound, value = self._bounds[name], metrics.get(name, math.nan)
        if not math.isfinite(value):
            return _UNKNOWN
        violation = bound.violation(value) / max(abs(bound.limit), 1e-12)
        # Optuna takes 0 as kept, but a limit that is reached breaks < and >.
        return violation if violation != 0 or bound.holds(value) else 1e-9
