"""A small sweep whose trials are formulas, so that whole sweeps run in milliseconds."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.admission import Admission
from kdsweep.sweep.budget import Budget
from kdsweep.sweep.journal import Journal
from kdsweep.sweep.ledger import Ledger, Plan, Record
from kdsweep.sweep.planner import Done, Planner, Wait

EPOCHS = 4
OPTIMUM = 1.0


def sweep_spec(**changes: Any) -> SweepSpec:
    """A sweep of PVD's point weight; `changes` replace fields of the sweep."""
    values: dict[str, Any] = {
        "name": "small",
        "run": {
            "task": "lidar_seg",
            "data": {"synth": {"scenes": 2}},
            "teacher": {"model": "cylinder3d", "width": 0.5, "train": {"epochs": 2}},
            "student": {"model": "cylinder3d", "width": 0.25},
            "method": {"name": "pvd"},
            "train": {"epochs": EPOCHS},
        },
        "objectives": {"miou": "max"},
        "trials": 6,
        "space": {"method.point_output": {"log_uniform": [0.01, 100]}},
    }
    return SweepSpec.from_dict({**values, **changes})


def formula(run: Mapping[str, Any]) -> dict[str, float]:
    """Final metrics of a run: best at the point weight `OPTIMUM`, better for wide students."""
    method = run.get("method") or {"point_output": 0.0}
    weight = max(method["point_output"], 1e-3)
    width = run["student"]["width"]
    quality = 0.6 - 0.02 * math.log10(weight / OPTIMUM) ** 2 + 0.1 * width
    metrics = {"miou": quality + 1e-4 * run["seed"], "macs": 1e9 * width, "step_seconds": 1.0}
    return {**metrics, "params": 1000 * width}


class Simulation:
    """Runs a planner's trials by a formula, some at a time, in one process."""

    def __init__(self, folder: Path, spec: SweepSpec, **settings: Any) -> None:
        path = folder / "journal.jsonl"
        self.ledger = Ledger(Journal(path, settings.get("clock", time.time)), Record.read(path))
        self.ledger.write("sweep_started", sweep=spec.name, spec=spec.to_dict())
        self.order: list[Plan] = []
        defaults: dict[str, Any] = {
            "budget": Budget(),
            "trials": spec.trials,
            "admission": Admission(spec),
            "teacher": spec.run.teacher_run() if spec.run.teacher.train else None,
        }
        self.planner = Planner(spec, self.ledger, **{**defaults, **settings})

    def begin(self) -> Plan | Wait | Done:
        """Starts the next trial."""
        step = self.planner.next()
        if isinstance(step, Plan):
            self.order.append(step)
            self.ledger.started(step.trial, slot="slot-0", node="here")
        return step

    def finish(self, plan: Plan, evaluate: Callable[[Mapping[str, Any]], Any] = formula) -> None:
        """Ends a trial: finished with what the formula gives, or failed where it raises."""
        try:
            metrics = evaluate(plan.spec)
        except ArithmeticError as error:
            self.planner.end(plan.trial, "failed", reason=str(error))
            return
        self.planner.end(plan.trial, "finished", epoch=EPOCHS, metrics=metrics)

    def run(
        self,
        evaluate: Callable[[Mapping[str, Any]], Any] = formula,
        *,
        at_once: int = 2,
        starts: int = 1000,
    ) -> "Simulation":
        """Runs to the end, or until so many trials were started."""
        running: list[Plan] = []
        while True:
            step: Any = Wait()
            if len(running) < at_once and len(self.order) < starts:
                step = self.begin()
            if isinstance(step, Plan):
                running.append(step)
            elif running:
                self.finish(running.pop(0), evaluate)
            else:
                return self

    @property
    def states(self) -> dict[str, str]:
        return {name: entry.state for name, entry in self.ledger.record.trials.items()}


@pytest.fixture
def spec() -> Callable[..., SweepSpec]:
    return sweep_spec


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Callable[..., Simulation]]:
    """Opens the sweep in a folder of the test: a second call continues it, as a resume does."""
    with contextlib.ExitStack() as opened:

        def open_sweep(spec: SweepSpec, folder: str = "", **settings: Any) -> Simulation:
            simulation = Simulation(tmp_path / folder, spec, **settings)
            opened.enter_context(simulation.ledger)
            return simulation

        yield open_sweep
