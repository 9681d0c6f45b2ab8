"""The contract of a task: what a batch is, the supervised loss, the official metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, Protocol

from torch.utils.data import Dataset

from kdsweep.config import Config
from kdsweep.types import Batch, ModelInput, Taps, Terms

Direction = Literal["max", "min"]


class Evaluator(Protocol):
    """Accumulates one metric over the batches of a split; merges across workers."""

    def update(self, taps: Taps, batch: Any) -> None:
        """Adds one batch."""

    def state(self) -> Any:
        """What this worker has accumulated, as a tensor or a picklable value to gather."""

    def merge(self, states: Sequence[Any]) -> None:
        """Replaces what was accumulated by the union of several workers' states."""

    def compute(self) -> dict[str, float]:
        """The metrics by name."""


class Task:
    """One file per task; its name is the task's key, and it holds exactly one `Task`.

    Attributes:
        Data: Configuration of the data section of a run.
        Loss: Configuration of the supervised loss; its `Weight` fields name the supervised terms.
        metrics: Every metric that evaluation gives, with the better direction; the first one is
            the official metric.
    """

    Data: ClassVar[type[Config]]
    Loss: ClassVar[type[Config]]
    metrics: ClassVar[Mapping[str, Direction]]

    def __init__(self, data: Any, loss: Any, *, home: Path) -> None:
        """Keeps the configuration; touches no file.

        Args:
            data: An instance of `Data`.
            loss: An instance of `Loss`.
            home: Folder where synthetic data may be written.
        """
        self.data = data
        self.loss = loss
        self.home = home

    @classmethod
    def metrics_of(cls, data: Any) -> Mapping[str, Direction]:
        """Those of `metrics` that evaluation on this data gives; by default all."""
        return cls.metrics

    @classmethod
    def teacher_data(cls, data: Any) -> Any:
        """The data that a teacher is trained on, given its students'; by default the same."""
        return data

    @classmethod
    def teacher_loss(cls, loss: Any) -> Any:
        """The loss that a teacher is trained with, given its students'.

        By default the task's own default, so that searching the loss trains no teacher per trial.
        """
        return cls.Loss()

    @classmethod
    def share_fault(cls, data: Any, *, share: int) -> str:
        """Why one worker of several cannot do with so few samples of a batch; empty if it can."""
        return ""

    def prepare(self) -> None:
        """Makes the data ready: writes synthetic data where asked, checks that the root holds it.

        Raises:
            DataError: The root or a file is missing or damaged; the message names it.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Short digest of which data this is (names and sizes, not the path to them)."""
        raise NotImplementedError

    def model_input(self) -> ModelInput:
        """What models must know to be built for this task."""
        raise NotImplementedError

    def train_set(self, *, seed: int, epoch: int, views: int) -> Dataset:
        """Training samples as augmented in one epoch.

        The augmentation is drawn from (`seed`, sample, `epoch` mod `views`); `views` 0 means a new
        one in every epoch.
        """
        raise NotImplementedError

    def global_batches(
        self, *, seed: int, epoch: int, batch_size: int
    ) -> Sequence[Sequence[int]] | None:
        """Training samples of each batch of an epoch, where the task has a say in that.

        Args:
            seed: Seed of the run.
            epoch: Number of the epoch, from 0.
            batch_size: Samples of a batch, counted over all workers.

        Returns:
            Sample numbers by batch, or None (the default): all samples, shuffled.
        """
        return None

    def val_set(self) -> Dataset:
        """Validation samples, not augmented."""
        raise NotImplementedError

    def collate(self, samples: Sequence[Any]) -> Batch:
        """Joins samples to one batch."""
        raise NotImplementedError

    def terms(self, taps: Taps, batch: Any) -> Terms:
        """The supervised terms whose weight is not 0, unweighted scalars in float32."""
        raise NotImplementedError

    def evaluator(self) -> Evaluator:
        """A fresh evaluator of the official metric."""
        raise NotImplementedError


def task_class(module: ModuleType) -> type[Task]:
    """The one `Task` that a task file defines."""
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Task)
        and value.__module__ == module.__name__
    )
    return found
