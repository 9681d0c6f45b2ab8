"""Sweeps that run somewhere: `status`, `logs`, `stop`, `down`."""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdsweep.cli.app import HOME, Address, ClusterFile, Home, Name, command
from kdsweep.cli.place import elsewhere
from kdsweep.errors import SpecError, SweepError
from kdsweep.home import home_folder

if TYPE_CHECKING:
    from kdsweep.cluster.jobs import Jobs


@command(
    "kdsweep status",
    "kdsweep status --cluster cluster/onprem.yaml",
    "kdsweep status quickstart --cluster cluster/onprem.yaml",
)
def status(
    name: Annotated[
        str | None, typer.Argument(help="Name of a sweep; default: all.", show_default=False)
    ] = None,
    cluster: ClusterFile = None,
    address: Address = None,
    home: Home = HOME,
) -> None:
    """Say which sweeps run, on a cluster or on this machine."""
    where = elsewhere(cluster, address)
    if where is None:
        from kdsweep.cli.local import print_status

        print_status(home_folder(home), name)
        return
    with _jobs(where) as (jobs, flag):
        found = [jobs.latest(name)] if name else jobs.all()
        if not found:
            print("No sweep has been launched on this cluster since it was started.")
        for job in found:
            ended_s = job.ended_s or time.time()
            print(_line(job.sweep, job.words, ended_s - job.began_s, job.id))
        last = _last_line(jobs.log(found[0].id)) if name else ""
    if last:
        print(f"  {last}")
    if found:
        subject = shlex.quote(found[0].sweep)
        print(f"Next:  kdsweep logs {subject} {flag}" + _then(found[0].words, subject, flag))


def _then(words: str, name: str, flag: str) -> str:
    if words in ("running", "starting"):
        return f"    kdsweep stop {name} {flag}"
    return "" if words == "finished" else f"    kdsweep resume {name} {flag}"


@command("kdsweep logs quickstart -f --cluster cluster/onprem.yaml")
def logs(
    name: Name,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the sweep ends.")
    ] = False,
    cluster: ClusterFile = None,
    address: Address = None,
) -> None:
    """Print what a sweep on a cluster has said."""
    where = elsewhere(cluster, address)
    if where is None:
        raise SpecError(
            "logs are kept of sweeps on a cluster: add --cluster FILE or --address URL. A sweep on "
            "this machine prints to its own terminal; `kdsweep show NAME` says how far it is."
        )
    from kdsweep.cli.remote import say
    from kdsweep.cluster.launch import follow as watch

    with _jobs(where) as (jobs, flag):
        job = jobs.latest(name)
        if not follow:
            print(jobs.log(job.id), end="")
            return
        code = watch(jobs, job.id, shlex.quote(name), flag, say)
    if code:
        raise typer.Exit(code)


@command("kdsweep stop quickstart", "kdsweep stop quickstart --cluster cluster/onprem.yaml")
def stop(
    name: Name, cluster: ClusterFile = None, address: Address = None, home: Home = HOME
) -> None:
    """Stop a sweep so that it can be resumed."""
    where = elsewhere(cluster, address)
    if where is None:
        from kdsweep.cli.local import stop as stop_here

        stop_here(home_folder(home), name)
        return
    with _jobs(where) as (jobs, flag):
        job = jobs.latest(name)
        if job.ended:
            print(f"Sweep {name} does not run: job {job.id} {job.words}.")
            return
        print(f"Stopping job {job.id}: trials keep their last epoch.", flush=True)
        jobs.stop(job.id)
        job = jobs.wait(job.id, timeout_s=90.0)
    if not job.ended:
        raise SweepError(
            f"job {job.id} has been asked to stop, but is {job.words} after 90 s: it may be in the "
            "middle of a long epoch. Look again: "
            f"kdsweep status {shlex.quote(name)} {flag}"
        )
    print(f"Job {job.id} {job.words}.\nNext:  kdsweep resume {shlex.quote(name)} {flag}")


@command("kdsweep down --cluster cluster/onprem.yaml")
def down(
    cluster: Annotated[
        Path,
        typer.Option(
            "--cluster", help="Cluster file that it was started from.", show_default=False
        ),
    ],
) -> None:
    """End a cluster; its sweeps are stopped first and can be resumed, results stay."""
    from kdsweep.cli.remote import say
    from kdsweep.cluster.launch import end
    from kdsweep.cluster.load import load_cluster

    target = load_cluster(cluster)
    ended = end(target, say)
    words = "is down" if ended else "is not up: there is nothing to do"
    print(f"Cluster {target.name} {words}. Results stay in {target.home}.")


@contextmanager
def _jobs(where: Path | str) -> "Iterator[tuple[Jobs, str]]":
    """The drivers of a cluster's sweeps, and the option that names the cluster again."""
    from kdsweep.cli.remote import resolve
    from kdsweep.cluster.jobs import Jobs
    from kdsweep.cluster.launch import flag_of, reach

    target = resolve(where)
    with reach(target) as link:
        flag = flag_of(target)
        yield Jobs(link, flag), flag


def _line(sweep: str, words: str, seconds: float, job: str) -> str:
    from kdsweep.results.wording import duration

    return f"{sweep:30} {words:9} {duration(max(0.0, seconds)):>10}  {job}"


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else ""
