"""What a sweep knows of its trials: a fold over the journal's events.

The same `apply` runs while the sweep writes and when a later process reads, so that a resumed
sweep sees exactly what the interrupted one saw.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kdsweep.sweep import journal
from kdsweep.sweep.journal import Event, Journal

ENDED = frozenset({"finished", "stopped", "failed", "rejected", "reused"})
"""States in which a trial needs nothing more."""


@dataclass(frozen=True)
class Plan:
    """A trial before it runs.

    Attributes:
        trial: Id: ``teacher``, ``undistilled``, ``t003``, ``t003-s1``.
        kind: ``teacher``, ``baseline``, ``search`` or ``confirm``.
        spec: The resolved run (`RunSpec.to_dict`).
        identity: Hash of the run without where and how.
        seed: Seed of the run.
        label: ``undistilled``, ``published`` or empty.
        parent: The trial that this one confirms, else None.
        params: Dotted keys of the search space with this trial's values.
        tags: Further facts for the tracker.
        marks: What the sampler needs to know of it again (`Study.marks`).
    """

    trial: str
    kind: str
    spec: dict[str, Any]
    identity: str
    seed: int = 0
    label: str = ""
    parent: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    marks: dict[str, Any] = field(default_factory=dict)


@dataclass
class Entry:
    """A trial and all that became of it.

    Attributes:
        plan: What was to run.
        state: ``created``, ``running``, ``interrupted`` or one of `ENDED`.
        reason: Why it ended so.
        epoch: Last epoch reported.
        metrics: Final metrics, or those of the last epoch. Missing values are NaN.
        history: Per epoch its metrics.
        leases: Times (start, end) during which the trial held a slot, seconds since 1970.
        slot: Slot that it ran in last.
        node: Node of that slot.
        run_dir: Where its files are.
    """

    plan: Plan
    state: str = "created"
    reason: str = ""
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    leases: list[list[float]] = field(default_factory=list)
    slot: str = ""
    node: str = ""
    run_dir: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def leased_s(self) -> float:
        """Seconds during which the trial held a slot."""
        return _lasted_s(self.leases)


@dataclass
class Record:
    """A sweep, folded from its events.

    Attributes:
        trials: All trials by id, in order of creation.
        starts: The ``sweep_started`` events.
        ends: The ``sweep_ended`` events.
        sessions: Times (start, last sign) of every process that ran the sweep.
    """

    trials: dict[str, Entry] = field(default_factory=dict)
    starts: list[Event] = field(default_factory=list)
    ends: list[Event] = field(default_factory=list)
    sessions: list[list[float]] = field(default_factory=list)
    _runs: bool = False
    """Whether the last start has no end yet; by their order, because clocks are set back."""

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Rebuilds the record from a journal."""
        record = cls()
        for event in journal.events(path):
            record.apply(event)
        return record

    @property
    def started(self) -> bool:
        return bool(self.starts)

    @property
    def state(self) -> str:
        """``new``, ``running`` (or killed) or the state of the last ``sweep_ended`` event."""
        if not self.starts:
            return "new"
        if self._runs:
            return "running"
        return str(self.ends[-1]["state"])

    @property
    def wall_s(self) -> float:
        """Seconds for which the sweep ran, over all its processes."""
        return _lasted_s(self.sessions)

    def of_kind(self, kind: str) -> list[Entry]:
        return [entry for entry in self.trials.values() if entry.plan.kind == kind]

    def by_identity(self, identity: str, *, before: str = "") -> Entry | None:
        """The first trial that ran, runs or will run this configuration.

        Args:
            identity: Of the run.
            before: Look only at trials that were created before this one: of two that have not run,
                only the second waits for the first.
        """
        for entry in self.trials.values():
            if entry.plan.trial == before:
                return None
            if entry.plan.identity == identity and entry.state not in ("reused", "rejected"):
                return entry
        return None

    def runs_again(self, *, failed: bool) -> list[Entry]:
        """Trials that are not over, and the repetitions that took over a result of one of them.

        Args:
            failed: Whether those that failed are not over either.
        """
        found: dict[str, Entry] = {}
        for trial, entry in self.trials.items():
            original = None
            if entry.state == "reused":
                original = self.by_identity(entry.plan.identity, before=trial)
            repeats = original is not None and original.plan.trial in found
            if repeats or not entry.ended or (failed and entry.state == "failed"):
                found[trial] = entry
        return list(found.values())

    def apply(self, event: Event) -> None:
        """Adds one event; events of an unknown kind are left out."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if self.sessions and event["event"] != "sweep_started":
            self.sessions[-1][1] = event["t"]
        if handler is not None:
            handler(event)

    def _on_sweep_started(self, event: Event) -> None:
        self.starts.append(event)
        self._runs = True
        self.sessions.append([event["t"], event["t"]])
        for entry in self.trials.values():
            if entry.state == "running":  # its process is gone: nobody recorded how it ended
                entry.state = "interrupted"

    def _on_sweep_ended(self, event: Event) -> None:
        self.ends.append(event)
        self._runs = False

    def _on_trial_created(self, event: Event) -> None:
        fields = {key: event[key] for key in Plan.__dataclass_fields__ if key in event}
        self.trials.setdefault(event["trial"], Entry(Plan(**fields)))

    def _on_trial_started(self, event: Event) -> None:
        entry = self.trials[event["trial"]]
        entry.state, entry.reason = "running", ""
        entry.slot, entry.node = event.get("slot", ""), event.get("node", "")
        start = float(event.get("lease_start") or event["t"])
        entry.leases.append([start, start])

    def _on_epoch(self, event: Event) -> None:
        entry = self.trials[event["trial"]]
        metrics = numbers(event["metrics"])
        entry.history[event["epoch"]] = metrics
        entry.epoch = max(entry.epoch, event["epoch"])
        entry.metrics = metrics
        if entry.leases:
            entry.leases[-1][1] = event["t"]

    def _on_trial_ended(self, event: Event) -> None:
        entry = self.trials[event["trial"]]
        entry.state, entry.reason = event["state"], event.get("reason", "")
        entry.epoch = event.get("epoch", entry.epoch)
        entry.metrics = numbers(event.get("metrics", {})) or entry.metrics
        entry.run_dir = event.get("run_dir", entry.run_dir)
        if entry.leases and entry.state not in ("rejected", "reused"):
            entry.leases[-1][1] = float(event.get("lease_end") or event["t"])


class Ledger:
    """Writes what happens to the journal and keeps the record in step with it.

    Args:
        writer: The open journal.
        record: What the journal held when it was opened.
        after: Told of every event, by its name, once it is written.
    """

    def __init__(
        self, writer: Journal, record: Record, after: Callable[[str], None] = lambda _: None
    ) -> None:
        self._writer = writer
        self.record = record
        self._after = after

    @classmethod
    def open(cls, path: Path, after: Callable[[str], None] = lambda _: None) -> "Ledger":
        """Opens a journal for reading and appending."""
        writer = Journal(path)
        return cls(writer, Record.read(path), after)

    def write(self, event: str, **fields: Any) -> None:
        """Appends any event."""
        self.record.apply(self._writer.append(event, **fields))
        self._after(event)

    def created(self, plan: Plan) -> None:
        self.write("trial_created", **asdict(plan))

    def started(self, trial: str, *, slot: str, node: str, **facts: Any) -> None:
        self.write("trial_started", trial=trial, slot=slot, node=node, **facts)

    def epoch(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Records one epoch; one that is there already (repeated after a crash) is left alone."""
        if epoch not in self.record.trials[trial].history:
            self.write("epoch", trial=trial, epoch=epoch, metrics=dict(metrics))

    def ended(self, trial: str, state: str, **fields: Any) -> None:
        self.write("trial_ended", trial=trial, state=state, **fields)

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lasted_s(spans: list[list[float]]) -> float:
    """Seconds of spans (start, end); one with the clock set back counts 0."""
    return sum(max(0.0, end - start) for start, end in spans)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as read from JSON: a null was a number that is not finite."""
    return {
        name: math.nan if value is None else float(value)
        for name, value in metrics.items()
        if value is None or isinstance(value, int | float)
    }


def missing(metrics: Mapping[str, float], names: Iterable[str]) -> list[str]:
    """Names of which the metrics hold no finite number."""
    return [name for name in names if not math.isfinite(metrics.get(name, math.nan))]
