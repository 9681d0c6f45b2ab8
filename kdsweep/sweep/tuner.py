"""Launches and resumes sweeps: the lock, the folder, one session, the publisher, the end."""

import contextlib
import json
import os
import platform
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from kdsweep.engine import files
from kdsweep.errors import SweepError, did_you_mean
from kdsweep.home import home_folder, home_uri
from kdsweep.spec.load import load_sweep, with_overrides_noted
from kdsweep.spec.sweep import NAME_PATTERN, SweepSpec
from kdsweep.sweep import tracked
from kdsweep.sweep.copies import SweepCopies, fetch_record
from kdsweep.sweep.display import Display, make_display
from kdsweep.sweep.interrupt import Interrupt, on_signals
from kdsweep.sweep.jobs import ENGINE
from kdsweep.sweep.lease import leased
from kdsweep.sweep.ledger import Ledger, Record
from kdsweep.sweep.lock import SweepLock
from kdsweep.sweep.mirror import Mirror
from kdsweep.sweep.publisher import HURRIED_S, Publisher, unsent
from kdsweep.sweep.session import End, Session
from kdsweep.sweep.settings import SPEC, Settings
from kdsweep.sweep.summary import summarise
from kdsweep.tracking import connect, where

JOURNAL = "journal.jsonl"
_FILE = "sweep.yaml"
_PACKAGES = ("kdsweep", "torch", "ray", "optuna", "mlflow", "spconv-cu120", "spconv-cu126")


@dataclass(frozen=True)
class Finished:
    """What a launch leaves.

    Attributes:
        name: Name of the sweep.
        state: ``finished``, ``interrupted`` or ``failed``.
        reason: Why, where it did not run as asked for.
        folder: The sweep's folder.
        record: All its trials.
    """

    name: str
    state: str
    reason: str
    folder: Path
    record: Record


def launch(
    sweep: SweepSpec | str | Path,
    overrides: Sequence[str] = (),
    *,
    home: str | Path | None = None,
    tracking_uri: str | None = None,
    address: str | None = None,
    quiet: bool = False,
    execute: str = ENGINE,
) -> Finished:
    """Runs a new sweep to its end.

    Args:
        sweep: A sweep file or a sweep.
        overrides: ``key=value``, applied to the file.
        home: Folder of everything that kdsweep writes, or a URI of remote storage such as
            ``s3://bucket/kdsweep``; default $KDSWEEP_HOME, ./kdsweep_runs.
        tracking_uri: MLflow store or server; default: $MLFLOW_TRACKING_URI, else the sweep file's,
            else SQLite in `home`.
        address: Ray cluster to run on; default: this machine.
        quiet: Print nothing.
        execute: The function that trains a run, as ``module:function``.

    Raises:
        SpecError: The sweep file is wrong.
        SweepError: A sweep of this name runs or exists.
        ResourceError: What a trial needs is not there.
        DataError: The data is missing or damaged.
    """
    spec = sweep if isinstance(sweep, SweepSpec) else load_sweep(sweep, overrides)
    text = ""
    if not isinstance(sweep, SweepSpec):
        text = with_overrides_noted(Path(sweep).read_text(encoding="utf-8"), overrides)
    settings = _settings(spec.name, home, address, spec.trials, execute)
    with claimed(settings) as mirror:
        record = Record.read(settings.folder / JOURNAL)
        if not record.trials:  # it ended before it began: no data, no GPU, ...
            _forget(settings.folder)
        elif record.started:
            raise SweepError(
                f"sweep {spec.name!r} exists already ({_words(record)}) in {settings.folder}. "
                f"Continue it with `{where(home, tracking_uri).command('resume', spec.name)}`, "
                f"or launch under another name: sweep.name={spec.name}-2"
            )
        files.write_json(settings.folder / SPEC, spec.to_dict())
        if text:
            files.write_file(
                settings.folder / _FILE, lambda path: path.write_text(text, encoding="utf-8")
            )
        return _run(spec, settings, mirror, tracking_uri, quiet, resumed=False)


def resume(
    name: str,
    *,
    more: int = 0,
    retry: Literal["failed"] | None = None,
    budget: Mapping[str, float] | None = None,
    home: str | Path | None = None,
    tracking_uri: str | None = None,
    address: str | None = None,
    quiet: bool = False,
    execute: str = ENGINE,
) -> Finished:
    """Continues a sweep that was interrupted, or adds to one that has finished.

    One that has finished while its tracker was away is sent to it.

    Args:
        name: Name of the sweep.
        more: Sampled trials on top of those that were asked for.
        retry: ``failed`` runs failed trials again.
        budget: New limits, such as ``{"hours": 4}``; the others stay.
        home: See `launch`.
        tracking_uri: MLflow store or server; default: $MLFLOW_TRACKING_URI, else that of the last
            launch or resume. Another than that one is told the sweep from its start.
        address: See `launch`.
        quiet: See `launch`.
        execute: See `launch`.

    Raises:
        SpecError: A limit is wrong.
        SweepError: There is no such sweep, it runs, nothing is left to do, or its tracker's address
            held credentials and is not given again.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise SweepError(_unknown(name, home_folder(home)))
    settings = _settings(name, home, address, 0, execute)
    if not settings.storage:
        _stored(settings)  # refused before a folder of that name is made
    with claimed(settings) as mirror:
        spec = _stored(settings)
        if budget:
            spec = _with_budget(spec, budget)
            files.write_json(settings.folder / SPEC, spec.to_dict())
        record = Record.read(settings.folder / JOURNAL)
        asked = int(record.starts[-1]["trials"]) if record.started else spec.trials
        stopped = record.state == "finished" and record.ends[-1].get("over_budget")
        if record.state == "finished" and not (more or retry or stopped):
            uri = tracked.tracking_uri(spec, settings, tracking_uri)
            if unsent(settings.folder, tracked.name_of(uri)):
                return _send(spec, settings, record, uri, quiet)
            raise SweepError(
                f"sweep {name!r} has finished: nothing is left to do. Use --more N for more "
                "trials, or --retry failed to run failed ones again."
            )
        settings = replace(settings, trials=asked + more, retry_failed=retry == "failed")
        return _run(spec, settings, mirror, tracking_uri, quiet, resumed=record.started)


def _with_budget(spec: SweepSpec, budget: Mapping[str, float]) -> SweepSpec:
    values = spec.to_dict()
    return SweepSpec.from_dict({**values, "budget": {**values["budget"], **budget}})


def _stored(settings: Settings) -> SweepSpec:
    """The sweep that was launched in a folder.

    Raises:
        SweepError: None was, or its file is damaged.
    """
    path = settings.folder / SPEC
    if not path.is_file():
        raise SweepError(_unknown(settings.folder.name, settings.home))
    try:
        return SweepSpec.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise SweepError(f"{path} is damaged ({error}). Launch the sweep file again.") from None


def _settings(
    name: str,
    home: str | Path | None,
    address: str | None,
    trials: int,
    execute: str,
) -> Settings:
    root = home_folder(home)
    return Settings(
        home=root,
        folder=root / "sweeps" / name,
        address=address,
        trials=trials,
        execute=execute,
        storage=home_uri(home),
    )


@contextlib.contextmanager
def claimed(settings: Settings) -> Iterator[Mirror | None]:
    """Holds a sweep and brings its record here; gives its storage, None where it has none.

    Raises:
        SweepError: It runs, here or elsewhere.
        StorageError: The storage does not answer.
    """
    if not settings.storage:
        with SweepLock(settings.folder):
            yield None
        return
    mirror = Mirror(settings.storage, settings.home)
    with SweepLock(settings.folder), leased(mirror, settings.folder):
        fetch_record(mirror, settings.folder)
        yield mirror


def _run(
    spec: SweepSpec,
    settings: Settings,
    mirror: Mirror | None,
    tracking_uri: str | None,
    quiet: bool,
    *,
    resumed: bool,
) -> Finished:
    """One session between its first and its last event."""
    folder = settings.folder
    interrupt = Interrupt()
    uri = tracked.tracking_uri(spec, settings, tracking_uri)
    settings = replace(settings, where=where(settings.storage or settings.home, uri))
    display = make_display(spec, settings.trials, quiet=quiet)
    publisher = _publisher(settings, uri, display)
    session = len(Record.read(folder / JOURNAL).starts) + 1
    copies = (
        SweepCopies(mirror, folder, session, display.note, interrupt.raise_) if mirror else None
    )
    after = copies.after if copies else lambda _: None
    with on_signals(interrupt), Ledger.open(folder / JOURNAL, after) as ledger, publisher, display:
        ledger.write(
            "sweep_started",
            sweep=spec.name,
            spec=spec.to_dict(),
            trials=settings.trials,
            resumed=resumed,
            tags=_tags(),
            pid=os.getpid(),
            host=socket.gethostname(),
        )
        end = _session(spec, settings, ledger, display, interrupt, copies)
        # Somebody waits for the process to end.
        stopped = end.state == "interrupted" and not end.over_budget
        if not stopped:
            ledger.write("summary", **asdict(summarise(spec.name, folder)))
        ledger.write("sweep_ended", **asdict(end))
        display.close()
        if stopped:
            publisher.finish(HURRIED_S)
        else:
            with interrupt.calling(publisher.hurry):
                publisher.finish()
        after("sweep_ended")  # how much the tracker has got by now
        display.summary(spec.name, folder, ledger.record, end.state, end.reason, settings.where)
    return Finished(spec.name, end.state, end.reason, folder, ledger.record)


def _send(
    spec: SweepSpec, settings: Settings, record: Record, uri: str | None, quiet: bool
) -> Finished:
    """Sends what the tracker of a finished sweep has not got; nothing runs."""
    folder = settings.folder
    settings = replace(settings, where=where(settings.storage or settings.home, uri))
    display = make_display(spec, settings.trials, quiet=quiet)
    waiting = unsent(folder, tracked.name_of(uri))
    with _publisher(settings, uri, display) as publisher:
        left = publisher.finish()
    if left:
        return Finished(spec.name, "failed", "the tracker has not got everything", folder, record)
    display.note(f"Sent the {waiting} events that tracking had not got. Nothing else was left.")
    return Finished(spec.name, "finished", "", folder, record)


def _publisher(settings: Settings, uri: str | None, display: Display) -> Publisher:
    return Publisher(
        settings.folder.name,
        settings.folder,
        connect=lambda: connect(uri, settings.home),
        note=display.note,
        where=settings.where,
        tracker=tracked.name_of(uri),
    )


def _session(
    spec: SweepSpec,
    settings: Settings,
    ledger: Ledger,
    display: Display,
    interrupt: Interrupt,
    copies: SweepCopies | None,
) -> End:
    session = Session(spec, settings, ledger, display.update, display.note, copies)
    try:
        return session.run(interrupt)
    except BaseException as error:  # recorded, not swallowed
        now = isinstance(error, KeyboardInterrupt)
        reason = "stopped at once" if now else f"{type(error).__name__}: {error}"
        with contextlib.suppress(SweepError):  # the disk may be what is full
            ledger.write("sweep_ended", state="interrupted" if now else "failed", reason=reason)
        raise


def _forget(folder: Path) -> None:
    """Removes the record of a launch that got nowhere, so that it can be launched again."""
    for name in (JOURNAL, "published.json", tracked.FILE):
        (folder / name).unlink(missing_ok=True)


def _words(record: Record) -> str:
    done = sum(entry.ended for entry in record.trials.values())
    state = "killed" if record.state == "running" else record.state
    return f"{state}, {done} of {len(record.trials)} trials ended"


def _unknown(name: str, home: Path) -> str:
    there = sorted(path.parent.name for path in (home / "sweeps").glob(f"*/{SPEC}"))
    if not there:
        return f"there is no sweep {name!r} in {home}: it holds none. Is --home right?"
    return f"there is no sweep {name!r} in {home}. {did_you_mean(name, there)}"


def _tags() -> dict[str, str]:
    """Facts about where a sweep runs, for the tracker."""
    tags = {"host": socket.gethostname(), "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            tags[package] = version(package)
    return tags
