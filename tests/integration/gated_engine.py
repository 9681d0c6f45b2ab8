"""Runs that wait in their middle for a test, and tell how each process ended them.

Real trainings leave the lines that `closed_form` leaves.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import closed_form
from closed_form import computed, line, wait_at_gate

from kdsweep.sweep import worker

TRAIN, FORMULA = "gated_engine:train", "gated_engine:formula"


def train(spec: Mapping[str, Any], place: Any, report: Callable[[Any], bool]) -> Any:
    """The engine's own training, which waits in its second epoch for the gate to open."""
    log = place.run_dir / "epochs-0"
    last = max(computed(log), default=0)
    gated = spec.get("method") is not None

    def begin(epoch: int) -> None:
        _add(log.with_name("begun-0"), f"{epoch}")
        if epoch == 2 and gated:
            wait_at_gate()

    def told(news: Any) -> bool:
        if news.stage == "train" and news.epoch > last:
            _add(log, line(news.epoch))
        go_on = report(news)
        if go_on and news.stage == "train" and news.epoch < news.epochs:
            begin(news.epoch + 1)
        return go_on

    if last == 0:
        begin(1)
    return _ending(place.run_dir, lambda: worker.train(spec, place, told))


def formula(spec: Mapping[str, Any], place: Any, report: Callable[[Any], bool]) -> Any:
    """`closed_form.execute`, which writes nothing that the engine would keep it from writing."""
    return _ending(place.run_dir, lambda: closed_form.execute(spec, place, report))


def _ending(run_dir: Path, run: Callable[[], Any]) -> Any:
    try:
        result = run()
    except Exception as error:
        _add(run_dir / "ended-0", f"{os.getpid()} {type(error).__name__}")
        raise
    _add(run_dir / "ended-0", f"{os.getpid()} {result.state}")
    return result


def ended(log: Path) -> dict[int, str]:
    """How each process that took a run ended it, so far as it did."""
    path = log.with_name("ended-0")
    lines = path.read_text().splitlines() if path.exists() else []
    return {int(pid): how for pid, how in map(str.split, lines)}


def _add(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text + "\n")
