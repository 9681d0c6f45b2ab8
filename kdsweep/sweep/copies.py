"""When the folders of a sweep go to remote storage, and when they come back; see `mirror`.

Where the home is a folder that all nodes see, nothing here does anything.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from kdsweep.engine import files
from kdsweep.errors import StorageError
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep import tracked
from kdsweep.sweep.jobs import Job, Outcome
from kdsweep.sweep.keep import dropped
from kdsweep.sweep.ledger import Record
from kdsweep.sweep.mirror import Mirror
from kdsweep.sweep.transcribe import OTHERS, STUDENT

RECORD = ("journal.jsonl", "published.json", "sweep.json", "sweep.yaml", tracked.FILE)
"""Files of a sweep's folder from which another machine goes on."""

_SENT_AT = frozenset({"sweep_started", "trial_created", "trial_ended", "summary", "sweep_ended"})
"""Events after which the record is sent. Epochs need not be: runs keep theirs themselves."""


class RunCopies:
    """A worker's side: the run's own folder, and the folders that it reads.

    Args:
        job: The run.
        first: Whether this worker writes the run's folder.
    """

    def __init__(self, job: Job, *, first: bool) -> None:
        self._job = job
        self._first = first
        self._mirror: Mirror | None = None

    def fetch(self) -> None:
        """Brings what the run needs to this node.

        Raises:
            StorageError: The storage does not answer, or cannot be used from this node.
        """
        if not self._job.storage:
            return
        self._mirror = Mirror(self._job.storage, Path(self._job.home))
        for folder in map(Path, self._job.needs):
            with files.locked(folder.with_name(f"{folder.name}.lock")):  # once for all workers here
                self._mirror.pull(folder)
        if self._first:
            self._mirror.pull(Path(self._job.run_dir))

    def send(self) -> None:
        """Sends the run's folder as it is now, unless a later attempt at the run has sent its own.

        What was never fetched is not sent.

        Raises:
            StorageError: The storage does not answer.
        """
        if self._mirror is not None and self._first:
            self._mirror.push(Path(self._job.run_dir), writer=self._job.number)


def fetch_results(job: Job, outcome: Outcome) -> Outcome:
    """Brings what a run left for the tracker to the driver's node; `lost` where that fails."""
    if outcome.state not in ("finished", "failed"):
        return outcome
    try:
        Mirror(job.storage, Path(job.home)).pull(Path(job.run_dir), only=(*STUDENT, *OTHERS))
    except StorageError as error:
        return replace(outcome, state="lost", reason=str(error))
    return outcome


class SweepCopies:
    """The driver's side: the sweep's record, and which runs keep their weights.

    Args:
        mirror: The storage.
        folder: The sweep's folder.
        session: Number of this process among those that ran the sweep.
        note: Shows one line to the user.
        taken: Called with the reason when a later process has written its record: this one, cut off
            for a while, must end.
    """

    def __init__(
        self,
        mirror: Mirror,
        folder: Path,
        session: int,
        note: Callable[[str], None],
        taken: Callable[[str], None],
    ) -> None:
        self._mirror = mirror
        self._folder = folder
        self._session = session
        self._note = note
        self._taken = taken
        self._away = False
        self._thinned: dict[str, bool] = {}

    def after(self, event: str) -> None:
        """Sends the record after an event that matters; a storage that is away stops nothing."""
        if event in _SENT_AT:
            self._try(self._send)

    def _send(self) -> None:
        if not self._mirror.push(self._folder, only=RECORD, writer=self._session):
            self._taken("another process has taken the sweep over")

    def thin(self, spec: SweepSpec, record: Record) -> None:
        """Removes from the storage what `keep.prune` removes here."""
        for trial, drop in dropped(spec, record).items():
            weights = drop("student.safetensors")
            thin = partial(self._mirror.thin, self._folder / "runs" / trial, drop)
            if self._thinned.get(trial) != weights and self._try(thin):
                self._thinned[trial] = weights

    def _try(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except StorageError as error:
            if not self._away:
                self._note(f"The sweep goes on, and its record stays in {self._folder}: {error}")
            self._away = True
            return False
        self._away = False
        return True


def fetch_record(mirror: Mirror, folder: Path) -> None:
    """Brings a sweep's record here, unless what is here is the same and more.

    That is so where the storage was away when the sweep ended: its copy is behind then.

    Raises:
        StorageError: The storage does not answer.
    """
    copy = mirror.content(folder, RECORD[0])
    journal = folder / RECORD[0]
    if copy is not None and not (journal.exists() and journal.read_bytes().startswith(copy)):
        mirror.pull(folder, only=RECORD)
