"""How long the trials of a sweep are."""

from kdsweep.spec.run import RunSpec, TrainConfig
from kdsweep.spec.space import Space

_KEYS = ("train.epochs", "train")


def trial_epochs(run: RunSpec, space: Space) -> list[int]:
    """Epochs that sampled trials may have, rising; the fewest and the most are surely among them.

    Args:
        run: The run that the space varies.
        space: The searched keys; values that are no number of epochs are left out.
    """
    searched = next((key for key in _KEYS if key in space), None)
    if searched is None:
        return [run.train.epochs]
    found = {run.train.epochs} if space[searched].when else set()
    default = TrainConfig.model_fields["epochs"].default
    for value in space[searched].probes():
        train = run.overridden({searched: value})["train"]
        epochs = train.get("epochs", default) if isinstance(train, dict) else None
        if isinstance(epochs, int):
            found.add(epochs)
    return sorted(found) or [run.train.epochs]
