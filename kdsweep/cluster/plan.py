"""What `--dry-run` shows: every command, file and variable that a launch would send; no secrets."""

import shlex
from collections.abc import Iterator, Mapping

from kdsweep.cluster import daemons
from kdsweep.cluster.driver import Driver
from kdsweep.cluster.kuberay import KubeRay
from kdsweep.cluster.launcher import prepare
from kdsweep.cluster.load import Cluster
from kdsweep.cluster.mask import mask
from kdsweep.cluster.token import token_file
from kdsweep.environment import JOB, RAY


def describe(cluster: Cluster | str, driver: Driver) -> str:
    """The plan of a launch.

    Args:
        cluster: The cluster, or the address of one that somebody else runs.
        driver: The job.
    """
    if isinstance(cluster, str):
        where = [f"Cluster at {cluster}: joined as it is, nothing is started."]
        python = "python"
    else:
        where, python = [*_cluster(cluster)], cluster.python
    return mask("\n".join(["Dry run: nothing is touched.", "", *where, "", *_job(driver, python)]))


def _cluster(cluster: Cluster) -> Iterator[str]:
    yield f"Cluster {cluster.name} ({cluster.kind}), from {cluster.path}"
    yield f"  Results in    {cluster.home}"
    yield f"  MLflow        {cluster.tracking_uri or 'a database in the results folder'}"
    if isinstance(cluster, KubeRay):
        yield "  Joined if it is up, else started by:"
        yield from (f"    {shlex.join(command)}" for command in cluster.start_commands())
        return
    token = token_file(cluster.name)
    yield f"  Token         {token} ({'there' if token.is_file() else 'to be made, random'})"
    yield "  Joined if it is up, else started by:"
    config = prepare(cluster, token)
    for remote, here in (config.get("file_mounts") or {}).items():
        yield f"    copied to every node: {here} -> {remote}"
    for key, words in _COMMANDS.items():
        for written, line in zip(cluster.config.get(key) or (), config.get(key) or (), strict=True):
            yield f"    {words}: {_calm(written, line)}"
    for name, node in (config.get("available_node_types") or {}).items():
        fewest, most = (
            node.get("min_workers", 0),
            node.get("max_workers", config.get("max_workers")),
        )
        if name != config.get("head_node_type"):
            upto = "or more, up to Ray's own limit" if most is None else f"to {most}"
            yield f"    instances of {name}: {fewest} {upto}"


_COMMANDS = {
    "initialization_commands": "every node, first",
    "setup_commands": "every node",
    "head_setup_commands": "head",
    "worker_setup_commands": "workers",
    "head_start_ray_commands": "head",
    "worker_start_ray_commands": "workers",
}


def _calm(written: str, prepared: str) -> str:
    """A command; of one that stays, what is run in the background and where it is noted."""
    daemon = daemons.parse(written)
    if daemon is None:
        return prepared.strip()
    return f"{daemons.inner(prepared)}  [background; an earlier {daemon.what} of it ends first]"


def _job(driver: Driver, python: str) -> Iterator[str]:
    package = driver.package
    yield f"Job kdsweep-{driver.sweep} (or -2, -3, ... after earlier ones), on the head"
    yield f"  Runs          {driver.entrypoint(python)}"
    yield f"  Ships         {len(package.files)} files, {package.num_bytes:,} bytes:"
    counts: dict[str, int] = {}
    for name in package.files:
        top, slash, _ = name.partition("/")
        counts[top + slash] = counts.get(top + slash, 0) + 1
    for name, count in counts.items():
        source = f" (this is {package.files[name]})" if name in package.files else ""
        yield f"    {name}{f' {count} files' if name.endswith('/') else source}"
    yield f"  Environment   {_written(JOB)}"
    yield f"  On its nodes  {_written(RAY)}"
    yield f"  Metadata      kdsweep_sweep={driver.sweep}"


def _written(variables: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in variables.items())
