"""A KubeRay cluster by way of kubectl: joined, started, ended."""

import base64
import binascii
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from kdsweep.cluster.jobs import Link, ask, refusal
from kdsweep.cluster.kuberay import KubeRay
from kdsweep.cluster.ssh import forwarding, free_ports
from kdsweep.errors import ResourceError

Say = Callable[[str], object]

_DASHBOARD = 8265


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
        ResourceError: It does not start.
    """
    with joined(cluster) as link:
        if link is not None:
            say(f"Cluster {cluster.name} is up: joining it.")
            yield link
            return
    say(f"Starting cluster {cluster.name} (KubeRay).")
    for command in cluster.start_commands():
        _run(command)
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
        lines = done.stderr.strip().splitlines()
        words = lines[-1] if lines else f"exit code {done.returncode}"
        raise ResourceError(f"kubectl {' '.join(command[1:])} failed: {words}")
    return done.stdout.strip()
