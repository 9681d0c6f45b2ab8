"""One trial of a sweep, as it is asked for afterwards."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.errors import SweepError, TrackingError
from kdsweep.results.measured import Candidate, Value
from kdsweep.tracking import Tracker, TrackingUnavailable, TrialRecord

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


class Trial:
    """A trial with its configuration, metrics and files.

    Attributes:
        record: What the tracker holds of it.
        candidate: The trial with its confirmations, where it is a finished student.
    """

    def __init__(
        self, tracker: Tracker, record: TrialRecord, candidate: Candidate | None = None
    ) -> None:
        self.record = record
        self.candidate = candidate
        self._tracker = tracker

    def __repr__(self) -> str:
        """``<Trial t003 of pvd: finished, student.width=0.25>``."""
        record = self.record
        words = [record.label or record.kind, record.state]
        words += [f"{name}={value}" for name, value in record.params.items()]
        return f"<Trial {record.trial} of {record.sweep}: {', '.join(words)}>"

    @property
    def id(self) -> str:
        """Its id within the sweep."""
        return self.record.trial

    @property
    def kind(self) -> str:
        """``teacher``, ``baseline``, ``search`` or ``confirm``."""
        return self.record.kind

    @property
    def label(self) -> str:
        """``undistilled``, ``published`` or empty."""
        return self.record.label

    @property
    def state(self) -> str:
        """``finished``, ``stopped``, ``failed``, ... as in `TrialRecord`."""
        return self.record.state

    @property
    def params(self) -> dict[str, Any]:
        """What was sampled: values by dotted key."""
        return dict(self.record.params)

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics of this very run (its own seed); see `value` for means over seeds."""
        return dict(self.record.metrics)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved run: `kdsweep.spec.RunSpec.from_dict` takes it."""
        return self.record.spec()

    def value(self, metric: str) -> Value | None:
        """A metric over the seeds that count (see `kdsweep.results.measured.Candidate`)."""
        candidate = self.candidate or Candidate(self.record)
        return candidate.value(metric)

    def history(self) -> "pd.DataFrame":
        """Metrics per epoch: one row per epoch, one column per metric."""
        import pandas as pd

        series = self.record.history()
        frame = pd.DataFrame({name: dict(points) for name, points in series.items()})
        frame.index.name = "epoch"
        return frame.sort_index().drop(columns="epoch", errors="ignore")

    def artifact(self, name: str) -> Path:
        """Local path of one of its files or folders, fetched from the store where that is remote.

        Raises:
            TrackingError: The trial has no such file.
        """
        return self._tracker.fetch(self.record.sweep, self.record.trial, name)

    def has_student(self) -> bool:
        """Whether its weights were kept."""
        try:
            self.artifact("student")
        except TrackingUnavailable:
            raise
        except TrackingError:
            return False
        return True

    def load_student(self, device: str = "cpu") -> "nn.Module":
        """Loads the trained student in eval mode; it reproduces the logged metric.

        Args:
            device: Where the module shall be.

        Raises:
            SweepError: The weights were not kept; the message says how to get them.
            CheckpointError: The weights are damaged.
        """
        from kdsweep.engine import load_student

        try:
            folder = self.artifact("student")
        except TrackingUnavailable:
            raise
        except TrackingError as error:
            raise SweepError(self._no_weights()) from error
        return load_student(folder, device=device)

    def _no_weights(self) -> str:
        record = self.record
        what = f"the weights of trial {record.trial} of sweep {record.sweep!r} were not kept"
        if record.state != "finished":
            return (
                f"{what}: it is {record.state}, and only finished trials have a student. "
                f"open_sweep({record.sweep!r}).best() gives the best of those."
            )
        return (
            f"{what}: a sweep keeps those of its best trials and of its front. Train it again from "
            f"its configuration: put `trial.config` into the run section of the sweep file and "
            f"use `kdsweep run FILE` (seed {record.seed} gives the same student)."
        )
