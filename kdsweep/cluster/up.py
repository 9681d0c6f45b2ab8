"""Joins a cluster, starts it where it is not up, and ends it."""

import fcntl
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

from kdsweep.cluster import daemons
from kdsweep.cluster.head import fetch_token, head_of, remember_key
from kdsweep.cluster.jobs import Answer, Link, ask, refusal
from kdsweep.cluster.launcher import Launcher, prepare
from kdsweep.cluster.local import Here
from kdsweep.cluster.mask import mask
from kdsweep.cluster.ssh import Host, tunnel
from kdsweep.cluster.token import make_token, read_token, state_dir, token_file, write_token
from kdsweep.cluster.trust import state_of
from kdsweep.errors import ResourceError

Say = Callable[[str], object]

_READY_S = 180.0
_BUSY_S = 120.0
"""How long a Ray that runs may be silent: a loaded head answers late, not never."""


@contextmanager
def joined(cluster: Launcher) -> Iterator[Link | None]:
    """The way to a cluster that is up; None where it is not.

    Raises:
        ResourceError: It is up, but does not answer, cannot be reached, or lets nobody in.
    """
    host = head_of(cluster)
    if host is None:
        yield None
        return
    with _line(cluster, host) as link:
        answer = _answer(cluster, host, link)
        if answer in ("no token", "wrong token") and (token := fetch_token(cluster, host)):
            write_token(cluster.name, token)
            link = Link(link.url, token, link.mlflow_url)
            answer = _answer(cluster, host, link)
        if answer == "down":
            yield None
        elif answer == "up":
            yield link
        else:
            raise _shut(cluster, link, answer)


def _answer(cluster: Launcher, host: Here | Host, link: Link) -> Answer:
    """What a head answers; "down" only where its Ray has ended.

    A silent Ray is busy as long as its process lives: what takes it for ended, and starts it
    again, ends every sweep on it.
    """
    until = time.monotonic() + _BUSY_S
    while (state := state_of(cluster, host)) != "ended":
        if state == "ours" and (answer := ask(link)) != "down":
            return answer
        if time.monotonic() > until:
            raise ResourceError(
                f"Ray of cluster {cluster.name!r} runs on {host.name}, but has not answered on "
                f"port {cluster.dashboard_port} for {_BUSY_S:.0f} s. It is left as it is, because "
                "sweeps may run on it. Try again when the machine is less busy; `kdsweep down "
                f"--cluster {shlex.quote(str(cluster.path))}` ends it for good."
            )
        time.sleep(1.0)
    return "down"


@contextmanager
def running(cluster: Launcher, say: Say) -> Iterator[Link]:
    """The way to a cluster, which is started where it is not up.

    Raises:
        ResourceError: It does not start; the message holds the end of the log.
    """
    with ExitStack() as stack:
        with alone(cluster, say):
            link = stack.enter_context(joined(cluster))
            if link is not None:
                say(f"Cluster {cluster.name} is up: joining it.")
            else:
                stack.close()
                start(cluster, say)
                link = stack.enter_context(joined(cluster))
        if link is None:
            raise ResourceError(f"cluster {cluster.name!r} has gone down again after its start.")
        yield link


@contextmanager
def alone(cluster: Launcher, say: Say) -> Iterator[None]:
    """Keeps this user's other commands from starting, joining or ending a cluster meanwhile.

    A start would end the Ray that another has begun, and an end the one that it waits for.
    """
    path = state_dir(cluster.name) / "start.lock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a") as file:  # its lock ends with it, also where the process is killed
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another command starts, joins or ends cluster {cluster.name}: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start(cluster: Launcher, say: Say) -> None:
    """Starts a cluster and waits until it answers.

    Raises:
        ResourceError: See `running`.
    """
    make_token(cluster.name)
    config = prepare(cluster, token_file(cluster.name))
    say(f"Starting cluster {cluster.name} ({cluster.kind}).")
    log = state_dir(cluster.name) / "start.log"
    if cluster.is_here:
        _start_here(config)
    else:
        say(f"Ray's launcher sets up the head; its log: {log}")
        remember_key(cluster, _start_by_ray(cluster, config))
    _await(cluster)


def end(cluster: Launcher, say: Say) -> bool:
    """Ends what `start` has started, and nothing else.

    Returns:
        Whether anything of it ran; of a cloud, where Ray's launcher does not tell: True.

    Raises:
        ResourceError: A machine cannot be reached.
    """
    if not cluster.owned:
        from ray.autoscaler import sdk

        say("Ray's launcher ends the instances; this takes some minutes.")
        with _logged(cluster, "down"):
            sdk.teardown_cluster(prepare(cluster, token_file(cluster.name)))
        return True
    host = head_of(cluster)
    assert host is not None
    # The head first: its autoscaler would start workers again.
    said = _run(host, daemons.stop(cluster.name, "ray"))
    workers = cluster.config["provider"].get("worker_ips") or []
    ended = {address: _end_worker(cluster, host, address, say) for address in workers}
    left = [address for address, told in ended.items() if told is None]
    said += _run(host, daemons.stop(cluster.name, "mlflow"))
    if not cluster.is_here:
        # Ray's launcher notes in this file, on either side, which hosts it believes to be up.
        from ray.autoscaler._private.local.config import get_state_path

        notes = get_state_path(cluster.name)
        _run(host, f"rm -f {shlex.quote(notes)}")
        with suppress(FileNotFoundError):
            os.unlink(notes)
    if left:
        raise ResourceError(
            f"all of cluster {cluster.name!r} has ended but what may run on {', '.join(left)}. Run "
            f"`kdsweep down --cluster {shlex.quote(str(cluster.path))}` again when the head "
            "reaches them."
        )
    return daemons.ENDS in "".join([said, *filter(None, ended.values())])


def _end_worker(cluster: Launcher, head: Here | Host, address: str, say: Say) -> str | None:
    """By way of the head, which has reached the worker to start it; this machine may not.

    Returns:
        What was said there; None where something of the cluster may run there still.
    """
    auth = cluster.config["auth"]
    identity = "-i ~/ray_bootstrap_key.pem " if auth.get("ssh_private_key") else ""
    script = shlex.quote(f"bash -lc {shlex.quote(daemons.stop(cluster.name, 'ray'))}")
    where = f"-l {shlex.quote(auth['ssh_user'])} -- {shlex.quote(address)}"
    options = (
        "-oBatchMode=yes -oConnectTimeout=15 -oStrictHostKeyChecking=no "
        "-oUserKnownHostsFile=/dev/null -oLogLevel=ERROR"
    )
    # Where the head reaches no worker, its ssh fails as one that does not reach the head would.
    ran = head.run(f"ssh {identity}{options} {where} {script} || exit 1")
    if ran.code != 0:
        say(f"Worker {address} could not be ended: {mask(ran.output.strip())}")
    return ran.output if ran.code == 0 else None


def _start_here(config: dict[str, Any]) -> None:
    for key in ("setup_commands", "head_setup_commands", "head_start_ray_commands"):
        for line in config.get(key) or ():
            _run(Here(), line, timeout_s=1800.0)


def _run(host: Here | Host, script: str, *, timeout_s: float = 120.0) -> str:
    ran = host.run(script, timeout_s=timeout_s)
    if ran.code != 0:
        raise ResourceError(
            f"a command failed on {host.name} with exit code {ran.code}: "
            f"{mask(script)}\n{mask(ran.output)}"
        )
    return ran.output


def _start_by_ray(cluster: Launcher, config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler import sdk

    with _logged(cluster, "start"):
        return sdk.create_or_update_cluster(config, no_config_cache=True)


@contextmanager
def _logged(cluster: Launcher, what: str) -> Iterator[None]:
    """Sends what Ray's launcher prints, and the programs that it runs, to a file."""
    path = state_dir(cluster.name) / f"{what}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file, redirect_stdout(file), redirect_stderr(file), _descriptors(file):
        try:
            yield
        except (Exception, SystemExit) as error:  # Ray raises whatever comes, and exits
            file.flush()
            tail = mask("\n".join(path.read_text(errors="replace").splitlines()[-15:]))
            words = mask(str(error)) if not isinstance(error, SystemExit) else ""
            raise ResourceError(
                f"Ray's launcher failed for cluster {cluster.name!r}. {words}\n"
                f"The end of {path}:\n{tail}"
            ) from None


@contextmanager
def _descriptors(file: Any) -> Iterator[None]:
    """Points the output of child processes at a file: they know no `sys.stdout`."""
    if sys.__stdout__ is not None:
        sys.__stdout__.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    try:
        for number, _ in saved:
            os.dup2(file.fileno(), number)
        yield
    finally:
        file.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)


@contextmanager
def _line(cluster: Launcher, host: Here | Host) -> Iterator[Link]:
    """A way to the ports of the head, whether or not anything listens there."""
    token = read_token(cluster.name)
    ports = [port for port in (cluster.dashboard_port, cluster.mlflow_port) if port]
    if isinstance(host, Here):
        yield _link(ports, token)
    else:
        with tunnel(host, ports) as here:
            yield _link(here, token)


def _link(ports: list[int], token: str | None) -> Link:
    dashboard, *others = (f"http://127.0.0.1:{port}" for port in ports)
    return Link(dashboard, token, others[0] if others else None)


def _await(cluster: Launcher) -> None:
    """Waits until a cluster answers that has just been started."""
    until = time.monotonic() + _READY_S
    host = head_of(cluster)
    assert host is not None
    with _line(cluster, host) as link:
        while True:
            state = state_of(cluster, host)
            if state == "ours" and (answer := ask(link)) == "up":
                return
            if state == "ours" and answer != "down":
                raise _shut(cluster, link, answer)
            if state == "ended":
                log = host.run(daemons.alive(cluster.name, "ray")).output
                raise ResourceError(
                    f"Ray ended on {host.name} soon after its start. Its log says:\n{mask(log)}"
                )
            if time.monotonic() > until:
                raise ResourceError(f"Ray on {host.name} does not answer within {_READY_S:.0f} s.")
            time.sleep(1.0)


def _shut(cluster: Launcher, link: Link, answer: Answer) -> ResourceError:
    if cluster.is_here or answer == "down":
        words = f"Does another Ray use port {cluster.dashboard_port}?" if cluster.is_here else ""
    else:
        words = "It was not started by kdsweep, or under another cluster_name."
    fault = str(refusal(answer, link)).partition(". ")[0]
    return ResourceError(f"cluster {cluster.name!r}: {fault}. {words}".rstrip())
