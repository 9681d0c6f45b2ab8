"""Ray Jobs: submits the driver of a sweep, finds it again, follows its log, stops it."""

import asyncio
import http.client
import logging
import os
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from kdsweep.errors import KdsweepError, ResourceError, SweepError, did_you_mean

SWEEP = "kdsweep_sweep"
"""Key of a job's metadata that names its sweep."""

Answer = Literal["up", "no token", "wrong token", "down"]

_PACKAGING = "_private.runtime_env.packaging"
_NO_AGENT = "No available agent"
_AGENT_S = 120.0
"""A cluster that has just been started answers before it can take a job."""
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_WORDS = {
    "PENDING": "starting",
    "RUNNING": "running",
    "STOPPED": "stopped",
    "SUCCEEDED": "finished",
    "FAILED": "failed",
}


@dataclass(frozen=True)
class Link:
    """An open way to a cluster.

    Attributes:
        url: Of Ray's dashboard, as this machine reaches it.
        token: That the cluster asks for; None where it asks for none.
        mlflow_url: Of MLflow, as this machine reaches it; None where the cluster file has none.
    """

    url: str
    token: str | None = None
    mlflow_url: str | None = None


@dataclass(frozen=True)
class Job:
    """A driver of a sweep on a cluster.

    Attributes:
        id: Its submission id.
        sweep: The sweep's name.
        state: In Ray's words: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        began_s: When it was submitted, in seconds since 1970.
        ended_s: When it ended; None while it runs.
        exit_code: Of the driver; None where it is not known.
        message: What Ray says of it.
    """

    id: str
    sweep: str
    state: str
    began_s: float
    ended_s: float | None
    exit_code: int | None
    message: str

    @property
    def ended(self) -> bool:
        return self.state in _ENDED

    @property
    def words(self) -> str:
        """Its state for people."""
        stopped = self.state == "FAILED" and self.exit_code == 130
        return "stopped" if stopped else _WORDS.get(self.state, self.state.lower())


def ask(link: Link, *, timeout_s: float = 5.0) -> Answer:
    """Whether a cluster answers, and lets this machine in."""
    request = urllib.request.Request(f"{link.url}/api/version", headers=_headers(link))
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            return "up"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return "no token" if error.code == 401 else "wrong token"
        return "down"
    except (OSError, ValueError, http.client.HTTPException):  # the last: it speaks no HTTP
        return "down"


class Jobs:
    """The jobs of a cluster.

    Args:
        link: The way to it.
        flag: The option that names it again in the next command.

    Raises:
        ResourceError: The cluster does not answer, or not to this token.
    """

    def __init__(self, link: Link, flag: str = "") -> None:
        from ray.job_submission import JobSubmissionClient

        for module in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", _PACKAGING):
            logging.getLogger(f"ray.{module}").setLevel(logging.ERROR)
        with _told(link), _undirected():
            self._client = JobSubmissionClient(link.url, headers=_headers(link))
        self._link, self._flag = link, flag

    def all(self) -> list[Job]:
        """The drivers of all sweeps, latest first."""
        with _told(self._link):
            details = self._client.list_jobs()
        jobs = [_job(found) for found in details if SWEEP in (found.metadata or {})]
        return sorted(jobs, key=lambda job: -job.began_s)

    def latest(self, sweep: str) -> Job:
        """The last driver of a sweep.

        Raises:
            SweepError: The cluster has had none.
        """
        jobs = self.all()
        for job in jobs:
            if job.sweep == sweep:
                return job
        raise SweepError(
            f"no job of this cluster runs or ran a sweep {sweep!r}. "
            f"{did_you_mean(sweep, {job.sweep for job in jobs})}"
        )

    def refuse_running(self, sweep: str) -> None:
        """Ends here if a driver of a sweep runs.

        Raises:
            SweepError: One does; the message names it.
        """
        for job in self.all():
            if job.sweep == sweep and not job.ended:
                since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.began_s))
                raise SweepError(
                    f"sweep {sweep!r} is {job.words} on this cluster already: job {job.id}, since "
                    f"{since}. Follow it (`{_next('logs', sweep, '-f', self._flag)}`), stop it "
                    f"(`{_next('stop', sweep, self._flag)}`), or launch under another name "
                    "(sweep.name=...)."
                )

    def submit(self, sweep: str, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        """Submits the driver of a sweep.

        Returns:
            The id of the job.

        Raises:
            SweepError: A driver of this sweep runs, or has been submitted at the same moment.
        """
        self.refuse_running(sweep)
        name = next_id(sweep, {job.id for job in self.all()})
        until = time.monotonic() + _AGENT_S
        while True:
            try:
                with _told(self._link):
                    return self._client.submit_job(
                        entrypoint=entrypoint,
                        runtime_env=runtime_env,
                        metadata={SWEEP: sweep},
                        submission_id=name,
                    )
            except RuntimeError as error:
                if any(job.id == name for job in self.all()):
                    self.refuse_running(sweep)
                elif _NO_AGENT in str(error) and time.monotonic() < until:
                    time.sleep(1.0)
                    continue
                raise SweepError(f"the cluster does not take the job {name}: {error}") from None

    def get(self, job: str) -> Job:
        """A job by its id."""
        with _told(self._link):
            return _job(self._client.get_job_info(job))

    def log(self, job: str) -> str:
        """All that a job has printed."""
        with _told(self._link):
            return self._client.get_job_logs(job)

    def follow(self, job: str, write: Callable[[str], object]) -> Job:
        """Passes on what a job prints until it ends.

        Raises:
            ResourceError: The cluster is gone.
        """

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job):
                write(text)

        with _told(self._link):
            try:
                asyncio.run(tail())
            except RuntimeError as error:  # what Ray's client makes of a stream that breaks off
                raise ConnectionError(str(error)) from error
        return self.wait(job, timeout_s=30.0)

    def stop(self, job: str) -> None:
        """Asks a job to stop: a sweep stays resumable."""
        with _told(self._link):
            self._client.stop_job(job)

    def wait(self, job: str, *, timeout_s: float) -> Job:
        """The job when it has ended, or as it is when the time is over."""
        until = time.monotonic() + timeout_s
        while True:
            found = self.get(job)
            if found.ended or time.monotonic() > until:
                return found
            time.sleep(0.5)


def _next(verb: str, sweep: str, *options: str) -> str:
    """A command for what one does next, as the shell wants it."""
    return " ".join(["kdsweep", verb, shlex.quote(sweep), *filter(None, options)])


def next_id(sweep: str, taken: set[str]) -> str:
    """Submission id of a sweep's next driver: ``kdsweep-NAME``, ``kdsweep-NAME-2``, ..."""
    base, number = f"kdsweep-{sweep}", 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name


def refusal(answer: Answer, link: Link) -> ResourceError:
    """The error for a cluster that does not let this machine in."""
    if answer == "down":
        return ResourceError(f"no Ray cluster answers at {link.url}.")
    fault = "asks for a token" if answer == "no token" else "does not accept this token"
    return ResourceError(
        f"the cluster at {link.url} {fault}. Put its token into $RAY_AUTH_TOKEN, or the path of "
        "its file into $RAY_AUTH_TOKEN_PATH; whoever runs the cluster has it."
    )


@contextmanager
def _told(link: Link) -> Iterator[None]:
    """Turns what Ray's client raises where a cluster is gone or closed into plain words."""
    import aiohttp
    from ray.exceptions import AuthenticationError

    try:
        yield
    except (KdsweepError, BrokenPipeError):  # the last: whoever reads what is printed has gone
        raise
    except (ConnectionError, AuthenticationError, aiohttp.ClientError, OSError):
        answer = ask(link)
        if answer == "up":
            raise ResourceError(f"the connection to {link.url} broke. Try again.") from None
        raise refusal(answer, link) from None
    except RuntimeError as error:  # all else that Ray's client says, often with a trace
        lines = [line for line in str(error).splitlines() if line.strip(" .")]
        words = lines[-1].strip() if lines else "nothing more"
        raise ResourceError(f"the cluster at {link.url} answered: {words}") from None


@contextmanager
def _undirected() -> Iterator[None]:
    """Hides variables that send Ray's client elsewhere than it is told."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _headers(link: Link) -> dict[str, str]:
    return {"Authorization": f"Bearer {link.token}"} if link.token else {}


def _job(details: Any) -> Job:
    return Job(
        id=details.submission_id,
        sweep=(details.metadata or {}).get(SWEEP, ""),
        state=str(getattr(details.status, "value", details.status)),
        began_s=(details.start_time or 0) / 1000,
        ended_s=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )
