"""Launches a sweep on a cluster and looks after it from here."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kdsweep.cluster import kubectl, up
from kdsweep.cluster.driver import Driver
from kdsweep.cluster.jobs import Job, Jobs, Link, ask, refusal
from kdsweep.cluster.kuberay import KubeRay
from kdsweep.cluster.load import Cluster
from kdsweep.cluster.package import runtime_env
from kdsweep.cluster.token import given_token
from kdsweep.cluster.up import Say
from kdsweep.errors import ResourceError

Where = Cluster | str
"""A cluster file that was read, or the http address of a cluster that somebody else runs."""


_REFUSED = 2
"""Exit code of a driver that has told its user what to do otherwise."""


@contextmanager
def reach(where: Where) -> Iterator[Link]:
    """The way to a cluster that is up.

    Raises:
        ResourceError: It is not, or does not let this machine in.
    """
    if isinstance(where, str):
        link = Link(where.rstrip("/"), given_token())
        if (answer := ask(link)) != "up":
            raise refusal(answer, link)
        yield link
        return
    with _joined(where) as found:
        if found is None:
            raise ResourceError(
                f"cluster {where.name!r} is not up. `kdsweep launch SWEEP.yaml {flag_of(where)}` "
                "starts it."
            )
        yield found


def _joined(where: Cluster) -> AbstractContextManager[Link | None]:
    return kubectl.joined(where) if isinstance(where, KubeRay) else up.joined(where)


@contextmanager
def _running(where: Where, say: Say) -> Iterator[Link]:
    if isinstance(where, str):
        with reach(where) as link:
            yield link
    elif isinstance(where, KubeRay):
        with kubectl.running(where, say) as link:
            yield link
    else:
        with up.running(where, say) as link:
            yield link


def submit_and_follow(where: Where, driver: Driver, say: Say, *, detach: bool) -> int:
    """Submits the driver of a sweep, starting its cluster where that is not up.

    Args:
        where: The cluster.
        driver: The job.
        say: Tells the user a line.
        detach: Return once the job is submitted; otherwise print its log until it ends.

    Returns:
        How the sweep ended: 0 = finished (or goes on), 1 = failed, 2 = refused, 130 = interrupted.
    """
    with _running(where, say) as link:
        flag = flag_of(where)
        jobs = Jobs(link, flag)
        python = "python" if isinstance(where, str) else where.python
        with runtime_env(driver.package) as environment:
            job = jobs.submit(driver.sweep, driver.entrypoint(python), environment)
        say(f"Job {job} runs sweep {driver.sweep} on the cluster.")
        if isinstance(where, str) or (not isinstance(where, KubeRay) and where.is_here):
            say(f"Dashboard: {link.url}")
        say(f"Next:  kdsweep logs {driver.sweep} -f {flag}")
        say(f"       kdsweep status {flag}    kdsweep stop {driver.sweep} {flag}")
        if link.mlflow_url:
            say(f"       kdsweep ui {flag}")
        return 0 if detach else follow(jobs, job, driver.sweep, flag, say)


def follow(jobs: Jobs, job: str, sweep: str, flag: str, say: Say) -> int:
    """Prints the log of a job until it ends; Ctrl-C only looks away.

    Returns:
        See `submit_and_follow`.
    """
    say("Its log follows; Ctrl-C stops watching, not the sweep.")
    try:
        ended = jobs.follow(job, _print)
    except KeyboardInterrupt:
        say(f"\nNot watching any more; the sweep goes on.\nNext:  kdsweep logs {sweep} -f {flag}")
        return 0
    except ResourceError as error:
        raise ResourceError(
            f"{error} Only the watching has ended; the sweep goes on while its cluster is up.\n"
            f"Next:  kdsweep logs {sweep} -f {flag}"
        ) from None
    return report(ended, sweep, flag, say)


def report(job: Job, sweep: str, flag: str, say: Say) -> int:
    """Says how a job ended and what one does next; gives the exit code."""
    if not job.ended:
        say(f"Job {job.id} is {job.words} still.\nNext:  kdsweep logs {sweep} -f {flag}")
        return 1
    say(f"Job {job.id} {job.words}.")
    if job.words == "finished":
        if "--cluster" in flag:
            say(f"Next:  kdsweep ui {flag}")
        return 0
    if job.exit_code is None and job.message and job.state == "FAILED":
        say(job.message.strip().splitlines()[-1])
    if job.exit_code == _REFUSED:
        return _REFUSED
    say(f"Next:  kdsweep resume {sweep} {flag}")
    return 130 if job.words == "stopped" else 1


def end(where: Cluster, say: Say) -> bool:
    """Ends a cluster; its sweeps are stopped first, so that they can be resumed.

    Returns:
        Whether anything of it was there to be ended.

    Raises:
        ResourceError: A machine cannot be reached, or does not answer.
    """
    if isinstance(where, KubeRay):
        was_up = _stop_all(where, say)
        return kubectl.end(where, say) or was_up
    with up.alone(where, say):
        was_up = _stop_all(where, say)
        return up.end(where, say) or was_up  # of one whose Ray has ended, more may be left


def _stop_all(where: Cluster, say: Say) -> bool:
    """Stops the sweeps of a cluster; says whether it is up."""
    try:
        with _joined(where) as link:
            if link is None:
                return False
            jobs = Jobs(link)
            running = [job for job in jobs.all() if not job.ended]
            for job in running:
                say(f"Stopping sweep {job.sweep} first: trials keep their last epoch.")
                jobs.stop(job.id)
            for job in running:
                jobs.wait(job.id, timeout_s=90.0)
    except ResourceError as error:  # what does not answer runs no sweep that could be asked
        say(f"No sweep to stop: {error}")
    return True


def flag_of(where: Where) -> str:
    """The option that names a cluster again in the next command, for the shell."""
    option, place = ("--address", where) if isinstance(where, str) else ("--cluster", where.path)
    return f"{option} {shlex.quote(str(place))}"


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
