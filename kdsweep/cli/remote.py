"""Calls into the cluster package: reads the cluster file, sends a job, names the next command."""

import re
from collections.abc import Mapping
from pathlib import Path

from kdsweep.cluster.driver import Driver
from kdsweep.cluster.launch import Where, submit_and_follow
from kdsweep.cluster.load import load_cluster
from kdsweep.cluster.plan import describe
from kdsweep.cluster.portable import refuse_local, refuse_untracked
from kdsweep.errors import SweepError
from kdsweep.spec.sweep import NAME_PATTERN, SweepSpec


def resolve(where: Path | str) -> Where:
    """The cluster that a command is about."""
    return where if isinstance(where, str) else load_cluster(where)


def checked_place(where: Path | str, sweep: SweepSpec | None, given: Mapping[str, str]) -> Where:
    """The cluster that a sweep is sent to, if all that the sweep names can be found there.

    Args:
        where: Cluster file or http address.
        sweep: The sweep; None where one is resumed.
        given: `home` and `tracking_uri` where they were given as options.

    Raises:
        SpecError: It cannot; the message says what to write.
    """
    home, uri = given.get("home"), given.get("tracking_uri")
    refuse_local(sweep, home, uri)
    cluster = resolve(where)
    if not isinstance(cluster, str):
        refuse_untracked(cluster, sweep, home, uri)
    return cluster


def checked_name(name: str) -> str:
    """The name of a sweep, if it is one.

    Raises:
        SweepError: It holds what no name holds.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise SweepError(f"{name!r} is no name of a sweep: letters, digits, '_', '-' and '.'.")
    return name


def send(cluster: Where, driver: Driver, *, detach: bool, dry_run: bool) -> int:
    """Submits a driver, or says what would be done; gives the exit code."""
    if dry_run:
        print(describe(cluster, driver))
        return 0
    return submit_and_follow(cluster, driver, say, detach=detach)


def say(text: str) -> None:
    """Tells the user a line, at once."""
    print(text, flush=True)
