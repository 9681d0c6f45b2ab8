"""Real trainings that wait in the middle of a run for a test: what slots execute there.

They leave the lines that `closed_form` leaves, and one more for every process that ends a run.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from closed_form import computed, wait_at_gate

from kdsweep.sweep import worker

EXECUTE = "gated_engine:train"


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
            _add(log, f"{news.epoch} {os.getpid()} {os.getppid()}")
        go_on = report(news)
        if go_on and news.stage == "train" and news.epoch < news.epochs:
            begin(news.epoch + 1)
        return go_on

    if last == 0:
        begin(1)
    try:
        result = worker.train(spec, place, told)
    except Exception as error:
        _add(log.with_name("ended-0"), f"{os.getpid()} {type(error).__name__}")
        raise
    _add(log.with_name("ended-0"), f"{os.getpid()} {result.state}")
    return result


def ended(log: Path) -> dict[int, str]:
    """How each process that took a run ended it, so far as it did."""
    path = log.with_name("ended-0")
    lines = path.read_text().splitlines() if path.exists() else []
    return {int(pid): how for pid, how in map(str.split, lines)}


def _add(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(line + "\n")
