"""Which parameters of the search decide a metric: Optuna's evaluators on the finished trials."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdsweep.errors import SweepError
from kdsweep.results.directions import Direction

FEWEST_TRIALS = 6
"""With fewer trials the figures would say more about chance than about parameters."""


def importances(
    rows: Sequence[tuple[Mapping[str, Any], float]],
    more: Callable[[int], str],
    *,
    direction: Direction,
    method: str,
    seed: int,
) -> dict[str, float]:
    """Shares of a metric's variation that each parameter explains, largest first.

    Args:
        rows: Per finished trial its parameters and the metric's value, a finite number.
        more: The command that adds a number of trials, for messages.
        direction: The better direction of the metric.
        method: ``fanova`` (Hutter et al., ICML 2014: of the whole variation) or ``ped_anova``
            (Watanabe et al., IJCAI 2023: of what sets the best trials apart).
        seed: Seed of fANOVA's forest.

    Returns:
        Non-negative shares that sum to 1. Parameters that some trials do not have (conditional
        ones), or that have one value throughout, are left out.

    Raises:
        SweepError: There are too few trials or nothing varies, or the method is unknown.
    """
    evaluator = _evaluator(method, seed)
    if len(rows) < FEWEST_TRIALS:
        raise SweepError(
            f"importance needs at least {FEWEST_TRIALS} finished trials of the search, and there "
            f"are {len(rows)}. Add at least {FEWEST_TRIALS - len(rows)}: "
            f"{more(FEWEST_TRIALS - len(rows))}"
        )
    shared = [
        name
        for name in rows[0][0]
        if all(name in params for params, _ in rows)
        and len({json.dumps(params[name]) for params, _ in rows}) > 1
    ]
    if not shared or len({value for _, value in rows}) < 2:
        raise SweepError(
            "importance needs trials that differ: no parameter that all finished trials have "
            "takes two values, or the metric is the same in all of them."
        )
    return _evaluate(rows, shared, direction, evaluator)


def _evaluator(method: str, seed: int) -> Any:
    from optuna import importance

    if method == "fanova":
        return importance.FanovaImportanceEvaluator(seed=seed)
    if method == "ped_anova":
        return importance.PedAnovaImportanceEvaluator()
    raise SweepError(f"unknown importance method {method!r}. Valid: fanova, ped_anova.")


def _evaluate(
    rows: Sequence[tuple[Mapping[str, Any], float]],
    shared: Sequence[str],
    direction: Direction,
    evaluator: Any,
) -> dict[str, float]:
    import optuna

    distributions = {name: _distribution([row[0][name] for row in rows]) for name in shared}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(
                direction="maximize" if direction == "max" else "minimize",
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
            for params, value in rows:
                study.add_trial(
                    optuna.trial.create_trial(
                        params={name: _plain(params[name], distributions[name]) for name in shared},
                        distributions=distributions,
                        value=value,
                    )
                )
            found = optuna.importance.get_param_importances(
                study, evaluator=evaluator, params=list(shared)
            )
    finally:
        optuna.logging.set_verbosity(before)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _plain(value: Any, distribution: Any) -> Any:
    """What Optuna stores: numbers as they are, lists and the like as text."""
    if type(distribution).__name__ == "CategoricalDistribution":
        return json.dumps(value)
    return value


def _distribution(values: Sequence[Any]) -> Any:
    """The range that was sampled, as far as the values tell it; wide positive ranges are log."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        return CategoricalDistribution(sorted({json.dumps(value) for value in values}))
    low, high = min(values), max(values)
    log = low > 0 and high / low >= 20
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)
