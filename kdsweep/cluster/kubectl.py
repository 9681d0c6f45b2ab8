"""A KubeRay cluster by way of kubectl: joined, started, ended."""

import base64
import binascii
import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from kdsweep.cluster import notices
from kdsweep.cluster.jobs import Link, ask, refusal
from kdsweep.cluster.kuberay import KubeRay
from kdsweep.cluster.mask import mask
from kdsweep.cluster.notices import Notice
from kdsweep.cluster.ssh import forwarding, free_ports
from kdsweep.errors import ResourceError

Say = Callable[[str], object]

_DASHBOARD = 8265
_LOOK_S = 5.0
"""Between two looks at what Kubernetes says while a cluster starts."""
_TELL_S = 30.0
"""So often the user hears of a wait in which nothing changes."""


@contextmanager
def joined(cluster: KubeRay) -> Iterator[Link | None]:
    """The way to a cluster that is up; None where it is not.

    Raises:
        ResourceError: Kubernetes does not answer, or the cluster does not let this machine in.
    """
    status = "jsonpath={.status.state} {.status.head.serviceName}"
    answer = _ask(cluster, "get", "raycluster", cluster.name, "-o", status) or ""
    state, _, service = answer.partition(" ")
    if state != "ready":
        yield None
        return
    with _forwarded(cluster, service or f"{cluster.name}-head-svc") as link:
        if (answer := ask(link)) != "up":
            raise refusal(answer, link)
        yield link


@contextmanager
def running(cluster: KubeRay, say: Say) -> Iterator[Link]:
    """The way to a cluster, which is started where it is not up.

    Raises:
        ResourceError: It does not start; the message holds what Kubernetes says of it.
    """
    with joined(cluster) as link:
        if link is not None:
            say(f"Cluster {cluster.name} is up: joining it.")
            yield link
            return
    say(f"Starting cluster {cluster.name} (KubeRay).")
    *commands, wait = cluster.start_commands()
    refused, said = _not_taken_up(cluster), _said(cluster)
    for command in commands:
        _run(command)
    # What the operator said before, perhaps of another text of the file, holds only where nothing
    # has changed: it reads a text that it refuses once.
    holds = refused != "" and _not_taken_up(cluster) == refused
    old = set() if holds else {notice for notice in said if notice.kind == "RayCluster"}
    _wait(cluster, wait, say, old)
    with joined(cluster) as link:
        if link is None:
            raise ResourceError(f"cluster {cluster.name!r} has gone down again after its start.")
        yield link


def end(cluster: KubeRay, say: Say) -> bool:
    """Deletes the RayCluster; MLflow and the volume stay, because results are there.

    Returns:
        Whether there was one.

    Raises:
        ResourceError: Kubernetes does not answer.
    """
    told = _run(cluster.kubectl("delete", "raycluster", cluster.name, "--ignore-not-found"))
    delete = f"kubectl delete -f {shlex.quote(str(cluster.path))}"
    say(f"MLflow and the volume stay. To delete them too, with all results: {delete}")
    return bool(told)


@contextmanager
def _forwarded(cluster: KubeRay, head: str) -> Iterator[Link]:
    token = _token(cluster)
    services = [(head, _DASHBOARD)]
    services += [cluster.mlflow] if cluster.mlflow else []
    with ExitStack() as stack:
        urls = []
        for (service, port), here in zip(services, free_ports(len(services)), strict=True):
            words = ("port-forward", "--address", "127.0.0.1", f"service/{service}")
            command = cluster.kubectl(*words, f"{here}:{port}")
            stack.enter_context(forwarding(command, [here], f"cannot reach service {service}"))
            urls.append(f"http://127.0.0.1:{here}")
        yield Link(urls[0], token, urls[1] if len(urls) > 1 else None)


def _token(cluster: KubeRay) -> str | None:
    """The token of the operator, or the user's own; it stays in this process."""
    secret = _ask(cluster, "get", "secret", cluster.secret, "-o", "jsonpath={.data.auth_token}")
    try:
        return base64.b64decode(secret or "", validate=True).decode("ascii") or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _not_taken_up(cluster: KubeRay) -> str:
    """Version of a RayCluster that the operator has given no status yet; empty for any other."""
    words = "jsonpath={.metadata.resourceVersion} {.status}"
    answer = _ask(cluster, "get", "raycluster", cluster.name, "-o", words) or ""
    version, _, status = answer.partition(" ")
    return "" if status else version


def _said(cluster: KubeRay) -> list[Notice]:
    """What Kubernetes says of a cluster: warnings, oldest first, then why its pods wait."""

    def get(*words: str) -> notices.Answer:
        # Whoever waits is told that kubectl does not answer, instead of waiting for kubectl.
        options = ("-o", "json", "--request-timeout=10s")
        return dict(json.loads(_run(cluster.kubectl("get", *words, *options))))

    try:
        pods = get("pods", "-l", f"ray.io/cluster={cluster.name}")
        events = get("events", "--field-selector", "type=Warning")
    except ResourceError as error:  # perhaps just this user may not read them
        return [Notice("Cluster", cluster.name, "not seen", str(error))]
    return [*notices.warnings(events, cluster.name, pods), *notices.states(pods)]


def _wait(cluster: KubeRay, command: list[str], say: Say, old: set[Notice]) -> None:
    """Runs the command that waits for a cluster, and tells what it waits for.

    Args:
        cluster: The cluster.
        command: Ends well once the cluster is up.
        say: Tells the user a line.
        old: What was said before and holds no longer.

    Raises:
        ResourceError: The cluster did not come up, or never will.
    """
    tell = _teller(say)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while (errors := _errors(process, _LOOK_S)) is None:
                said = [notice for notice in _said(cluster) if notice not in old]
                if any(notice.is_final for notice in said):
                    raise _not_up(cluster, "cannot start", said)
                tell(said)
        finally:
            process.kill()
    if process.returncode != 0:
        said = [notice for notice in _said(cluster) if notice not in old]
        raise _not_up(cluster, f"has not come up: {_words(errors, process.returncode)}", said)


def _errors(process: subprocess.Popen[str], patience_s: float) -> str | None:
    """What a process has said on its standard error; None while it runs."""
    try:
        return process.communicate(timeout=patience_s)[1]
    except subprocess.TimeoutExpired:
        return None


def _teller(say: Say) -> Callable[[list[Notice]], None]:
    """Tells what is new, or from time to time what is waited for still, with the seconds so far."""
    began_s = last_s = time.monotonic()
    told: set[tuple[str, str, str]] = set()

    def tell(said: list[Notice]) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        groups = notices.groups(said)
        new = [same for same in groups if same[0].what not in told]
        if new or now_s - last_s >= _TELL_S:
            words = [notices.line(same) for same in new or groups[-1:]]
            for line in words or ["no pod yet, and no warning"]:
                say(f"  {now_s - began_s:.0f} s: {line}")
            last_s = now_s
            told.update(same[0].what for same in new)

    return tell


def _not_up(cluster: KubeRay, what: str, said: list[Notice]) -> ResourceError:
    nothing = ["  nothing. Does the KubeRay operator run? kubectl get pods --all-namespaces"]
    later = [] if any(notice.is_final for notice in said) else ["To wait on, launch again."]
    down = f"kdsweep down --cluster {shlex.quote(str(cluster.path))}"
    return ResourceError(
        "\n".join(
            [
                f"cluster {cluster.name!r} {what}. Kubernetes says of it:",
                *(list(notices.lines(said)) or nothing),
                *later,
                f"To mend {cluster.path}: change it, run `{down}` "
                "(pods stay as they were made; MLflow and the volume are kept), launch again.",
            ]
        )
    )


def _ask(cluster: KubeRay, *words: str) -> str | None:
    """What kubectl answers; None where there is no such thing."""
    return _run(cluster.kubectl(*words, "--ignore-not-found")) or None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ResourceError(
            "kubectl is not installed here; clusters on Kubernetes need it, with a context that "
            "points at the cluster."
        ) from None
    if done.returncode != 0:
        words = mask(_words(done.stderr, done.returncode))
        raise ResourceError(f"kubectl {' '.join(command[1:])} failed: {words}")
    return done.stdout.strip()


def _words(errors: str, code: int) -> str:
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"
