"""Tells a tracker what the journal says, event by event; the same event twice changes nothing."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from kdsweep.errors import TrackingError
from kdsweep.sweep.journal import Event
from kdsweep.tracking import SweepInfo, Tracker, TrialInfo

STUDENT = ("student.safetensors", "student.json", "adapters.safetensors")
OTHERS = ("error.txt",)
"""Files of a run that a tracker gets, if they are there, in this order: a student whose adapters
were pruned while it was sent is whole without them."""


class Scribe:
    """Writes events into a tracker.

    Args:
        sweep: Name of the sweep.
        tracker: Where to.
        sweep_yaml: The sweep file, as the tracker is to show it.
        files: Whether files of trials are sent too.
    """

    def __init__(
        self, sweep: str, tracker: Tracker, *, sweep_yaml: str = "", files: bool = True
    ) -> None:
        self._sweep = sweep
        self._tracker = tracker
        self._sweep_yaml = sweep_yaml
        self._files = files
        self._infos: dict[str, TrialInfo] = {}
        self._start: Event | None = None

    def recall(self, events: Iterable[Event]) -> None:
        """Takes in events that were told before, without telling them again."""
        for event in events:
            if event["event"] == "trial_created":
                self._infos[event["trial"]] = self._info(event)
            elif event["event"] == "sweep_started":
                self._start = event

    def tell(self, event: Event) -> None:
        """Tells one event; events that a tracker need not know are passed over.

        Raises:
            TrackingError: The tracker cannot be reached, or refuses it.
        """
        handler = getattr(self, f"_{event['event']}", None)
        if handler is not None:
            handler(event)

    def check_sweep(self) -> None:
        """Tells again how the sweep started, which changes nothing while it runs.

        Raises:
            TrackingError: The tracker cannot be reached, or refuses the sweep as a whole.
        """
        if self._start is not None:
            self._sweep_started(self._start)

    def _sweep_started(self, event: Event) -> None:
        self._start = event
        tags = {key: str(value) for key, value in event.get("tags", {}).items()}
        self._tracker.open_sweep(SweepInfo(self._sweep, event["spec"], self._sweep_yaml, tags))

    def _trial_created(self, event: Event) -> None:
        self._infos[event["trial"]] = self._info(event)
        self._tracker.open_trial(self._infos[event["trial"]])

    def _trial_started(self, event: Event) -> None:
        self._tracker.open_trial(self._infos[event["trial"]])

    def _epoch(self, event: Event) -> None:
        self._tracker.log_epoch(
            self._sweep, event["trial"], event["epoch"], _finite(event["metrics"])
        )

    def _trial_ended(self, event: Event) -> None:
        files = _artifacts(event) if self._files else {}
        try:
            self._tracker.end_trial(
                self._sweep,
                event["trial"],
                event["state"],
                event.get("reason", ""),
                _finite(event.get("metrics", {})),
                files,
            )
        except (TrackingError, FileNotFoundError):
            if all(path.is_file() for path in files.values()):
                raise
            self._trial_ended(event)  # without the weights, which were pruned meanwhile

    def _summary(self, event: Event) -> None:
        files = {name: Path(path) for name, path in event.get("files", {}).items()}
        present = {name: path for name, path in files.items() if path.is_file()}
        self._tracker.log_summary(
            self._sweep,
            present if self._files else {},
            note=event.get("note", ""),
            headline=event.get("headline", ""),
        )
        if event.get("best") and self._files:
            self._tracker.register_best(self._sweep, event["best"])

    def _sweep_ended(self, event: Event) -> None:
        self._tracker.end_sweep(self._sweep, event["state"])

    def _info(self, event: Event) -> TrialInfo:
        known = {field.name for field in fields(TrialInfo)} - {"sweep"}
        return TrialInfo(self._sweep, **{key: event[key] for key in known if key in event})


def _artifacts(event: Event) -> dict[str, Path]:
    """Files that a trial left and that are still there; weights of poor trials are not kept."""
    if event["state"] not in ("finished", "failed") or not event.get("run_dir"):
        return {}
    run_dir = Path(event["run_dir"])
    wanted = {f"student/{name}": run_dir / name for name in STUDENT}
    if not wanted["student/student.safetensors"].is_file():
        wanted = {}
    wanted |= {name: run_dir / name for name in OTHERS}
    return {name: path for name, path in wanted.items() if path.is_file()}


def _finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    """A null stands for a number that is not finite: it says nothing that a chart could show."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if value is not None and math.isfinite(value)
    }
