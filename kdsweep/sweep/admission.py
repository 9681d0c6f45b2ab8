"""Judges a run by what is known before training, so that one that cannot qualify never starts."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kdsweep.spec.metrics import STATIC
from kdsweep.spec.run import RunSpec
from kdsweep.spec.sweep import SweepSpec

StaticProfile = Callable[[RunSpec], Mapping[str, float]]
"""Gives ``params``, ``macs`` and their ratios of a run's student."""

_DECIDES = ("task", "data", "student", "teacher")
"""Sections of a run that parameters and MACs depend on."""


@dataclass(frozen=True)
class Refusal:
    """Why a run cannot qualify, and what is known of it."""

    reason: str
    metrics: Mapping[str, float]


class Admission:
    """Checks runs against the bounds that can be checked before training.

    Args:
        spec: The sweep.
        profile: Counts a student's parameters and MACs; None: nothing is known beforehand.
    """

    def __init__(self, spec: SweepSpec, profile: StaticProfile | None = None) -> None:
        self._bounds = {name: bound for name, bound in spec.bounds().items() if name in STATIC}
        # A trial that is stopped early has no profile, but the search needs its objectives.
        wanted = set(spec.objectives) & set(STATIC) if spec.early_stop else set()
        self._profile = profile if self._bounds or wanted else None
        self._known: dict[str, Mapping[str, float]] = {}

    def static(self, run: Mapping[str, Any]) -> Mapping[str, float]:
        """What is known of a run before training; computed once for equal students.

        Args:
            run: The resolved run (`RunSpec.to_dict`).
        """
        if self._profile is None:
            return {}
        key = json.dumps([run.get(section) for section in _DECIDES], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._profile(RunSpec.from_dict(run))
        return self._known[key]

    def refusal(self, run: Mapping[str, Any]) -> Refusal | None:
        """Why a run cannot keep the bounds, or None where it may."""
        if not self._bounds:
            return None
        metrics = self.static(run)
        broken = [
            f"{name} is {metrics[name]:.6g}, must be {bound}"
            for name, bound in self._bounds.items()
            if name in metrics and not bound.holds(metrics[name])
        ]
        return Refusal("; ".join(broken), metrics) if broken else None
