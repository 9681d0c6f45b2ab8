"""The contract of a tracker: what a sweep writes down, and what is read of it afterwards.

Every writing call is idempotent: said twice, it is recorded once. A publisher may therefore repeat
the tail of its journal after any interruption.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from kdsweep.errors import TrackingError

TrialKind = Literal["teacher", "baseline", "search", "confirm"]
TrialState = Literal[
    "running", "finished", "stopped", "failed", "rejected", "reused", "interrupted"
]
SweepState = Literal["running", "finished", "failed", "interrupted"]

TRIAL_KINDS: tuple[str, ...] = get_args(TrialKind)
TRIAL_STATES: tuple[str, ...] = get_args(TrialState)
SWEEP_STATES: tuple[str, ...] = get_args(SweepState)

RESUMABLE = frozenset({"running", "failed", "interrupted"})
"""States from which `Tracker.open_trial` sets a trial running again."""

Histories = dict[str, list[tuple[int, float]]]
"""Per metric the pairs (epoch, value) in order of epoch, one per epoch."""


class TrackingUnavailable(TrackingError):
    """The store cannot be reached now: try the same call again later. Nothing is lost by that."""


@dataclass(frozen=True)
class SweepInfo:
    """What is known of a sweep when it starts.

    Attributes:
        name: Name of the sweep: letters, digits and ``._-``, unique in the store.
        spec: The resolved sweep as a JSON-able dictionary (objectives, run, space, ...).
        sweep_yaml: The sweep file as the user wrote it, below a comment with the overrides.
        tags: Facts about where it runs: git commit, package versions, node.
    """

    name: str
    spec: dict[str, Any]
    sweep_yaml: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Key of its task."""
        return str((self.spec.get("run") or {}).get("task", ""))

    @property
    def method(self) -> str:
        """Key of its method, empty where there is none."""
        return str(((self.spec.get("run") or {}).get("method") or {}).get("name", ""))

    @property
    def trials(self) -> int:
        """Configurations that it samples."""
        return int(self.spec.get("trials") or 0)


@dataclass(frozen=True)
class TrialInfo:
    """What is known of a trial before it runs.

    Attributes:
        sweep: Name of its sweep.
        trial: Id within the sweep: ``t003``, ``teacher``, ``t003-s1``.
        kind: Teacher, baseline, search (sampled) or confirm (another with a new seed).
        label: ``undistilled``, ``published`` or empty.
        parent: Id of the trial that this one confirms, else None.
        params: The dotted keys that differ between trials, with their values.
        spec: The resolved run as a JSON-able dictionary.
        identity: Hash of the resolved run without where and how.
        seed: Seed of the run.
        tags: Further facts, for example ``original`` of a reused trial.
    """

    sweep: str
    trial: str
    kind: TrialKind
    label: str = ""
    parent: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    identity: str = ""
    seed: int = 0
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialRecord:
    """What a tracker holds of one trial.

    Attributes:
        sweep: Name of its sweep.
        trial: Id within the sweep.
        kind: See `TrialInfo`.
        label: See `TrialInfo`.
        parent: See `TrialInfo`.
        params: See `TrialInfo`.
        identity: See `TrialInfo`.
        seed: See `TrialInfo`.
        tags: See `TrialInfo`.
        state: Where it stands.
        reason: Why it ended as it did, for people; empty where nothing is to be said.
        metrics: The latest value of every metric: the final ones once it has ended.
        epoch: Epochs done, 0 before the first.
        started_s: Start, seconds since 1970.
        ended_s: End, seconds since 1970, or None while it runs.
        location: Where its files are, for people: a URI.
        read_spec: Reads the resolved run from the store.
        read_history: Reads the given metrics (None: all) of every epoch from the store.
    """

    sweep: str
    trial: str
    kind: TrialKind
    label: str
    parent: str | None
    params: dict[str, Any]
    identity: str
    seed: int
    tags: dict[str, str]
    state: TrialState
    reason: str
    metrics: dict[str, float]
    epoch: int
    started_s: float
    ended_s: float | None
    location: str
    read_spec: Callable[[], dict[str, Any]] = field(repr=False, compare=False)
    read_history: Callable[[Collection[str] | None], Histories] = field(repr=False, compare=False)

    def spec(self) -> dict[str, Any]:
        """The resolved run."""
        return self.read_spec()

    def history(self, metrics: Collection[str] | None = None) -> Histories:
        """Metrics of every epoch: all of them, or those named, which is faster."""
        return self.read_history(metrics)


@dataclass(frozen=True)
class SweepSummary:
    """One line of a listing of sweeps.

    Attributes:
        name: Name of the sweep.
        state: Where it stands.
        started_s: Start, seconds since 1970.
        ended_s: End, seconds since 1970, or None while it runs.
        task: Key of its task.
        method: Key of its method, empty where there is none.
        trials: Configurations that it samples.
        headline: Its result in one line, empty until there is one.
        location: Where to look at it: an address, of which a local store knows only what follows
            that of MLflow's pages (``/#/experiments/...``).
    """

    name: str
    state: SweepState
    started_s: float
    ended_s: float | None
    task: str
    method: str
    trials: int
    headline: str
    location: str


class Tracker(Protocol):
    """Remembers sweeps. All writing calls are idempotent; all raise as the class says.

    Raises:
        TrackingUnavailable: The store cannot be reached: call again later.
        TrackingError: What was asked for is not there or can never be recorded (a bad name).
    """

    def open_sweep(self, info: SweepInfo) -> None:
        """Creates the sweep; if it is there, sets it running again with its new specification."""

    def open_trial(self, info: TrialInfo) -> None:
        """Creates the trial, or sets it running again if it failed or was interrupted.

        A trial that has finished, was stopped, rejected or reused stays as it is.
        """

    def log_epoch(self, sweep: str, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Records one epoch (counted from 1); an epoch that is there already is left alone."""

    def end_trial(
        self,
        sweep: str,
        trial: str,
        state: TrialState,
        reason: str = "",
        metrics: Mapping[str, float] | None = None,
        artifacts: Mapping[str, Path] | None = None,
    ) -> None:
        """Records how a trial ended, its final metrics and its files.

        Args:
            sweep: Name of the sweep.
            trial: Id of the trial.
            state: Any state but ``running``. The same state again changes nothing.
            reason: Why, for people.
            metrics: Final metrics.
            artifacts: Files or folders by the name they get; copied.
        """

    def log_summary(
        self,
        sweep: str,
        files: Mapping[str, Path],
        *,
        note: str = "",
        headline: str = "",
    ) -> None:
        """Stores files with the sweep (the later replaces the earlier) and describes its result.

        Args:
            sweep: Name of the sweep.
            files: Files by the name they get.
            note: A summary in Markdown, shown at the top of the sweep; empty leaves it as it is.
            headline: The result in one line, for listings; empty leaves it as it is.
        """

    def end_sweep(self, sweep: str, state: SweepState) -> None:
        """Records that the sweep no longer runs."""

    def sweeps(self) -> list[SweepSummary]:
        """All sweeps of the store, the latest first."""

    def read_sweep(self, name: str) -> SweepInfo:
        """What was given to `open_sweep`."""

    def read_trials(self, name: str) -> list[TrialRecord]:
        """All trials of a sweep, in the order of their creation."""

    def fetch(self, sweep: str, trial: str | None, name: str) -> Path:
        """Local path of a file or folder of a trial, or of the sweep where `trial` is None."""

    def register_best(self, sweep: str, trial: str) -> str:
        """Registers the student of a trial as the sweep's best; gives the URI to load it by."""
