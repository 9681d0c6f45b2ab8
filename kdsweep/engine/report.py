"""What a run tells while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """News of a run, after every epoch and before the profile is taken.

    Attributes:
        stage: ``teacher`` while a missing teacher is trained, ``train``, and once ``profile``.
        epoch: Epochs done, from 1.
        epochs: Epochs of this training in all.
        metrics: The epoch's figures, see `train.train_loop`; none in stage ``profile``.
    """

    stage: Literal["teacher", "train", "profile"]
    epoch: int
    epochs: int
    metrics: dict[str, float]


Report = Callable[[Progress], bool]
"""Takes a `Progress`; False asks the run to stop now. Each worker of a run calls its own, all of
them equally often; one False is enough."""
