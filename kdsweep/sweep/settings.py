"""How one process runs a sweep."""

from dataclasses import dataclass, field
from pathlib import Path

from kdsweep.sweep.jobs import ENGINE
from kdsweep.tracking import Where

SPEC = "sweep.json"
"""The sweep as it was launched, in its folder; what a resume runs."""


@dataclass(frozen=True)
class Settings:
    """How a process runs a sweep; nothing of it changes a result.

    Attributes:
        home: Folder of everything that kdsweep writes.
        folder: The sweep's folder in it.
        address: Ray cluster to join; None starts one on this machine.
        trials: Sampled trials in all.
        retry_failed: Whether failed trials run again.
        execute: The function that trains a run, ``module:function``. Another than the engine's
            needs no data, and nothing is known of its students before training.
        storage: URI of the remote storage that `home` stands for; empty: there is none.
        where: What a later command has to say to find the sweep.
    """

    home: Path
    folder: Path
    address: str | None = None
    trials: int = 0
    retry_failed: bool = False
    execute: str = ENGINE
    storage: str = ""
    where: Where = field(default_factory=Where)

    @property
    def trains(self) -> bool:
        """Whether runs go through the engine."""
        return self.execute == ENGINE
