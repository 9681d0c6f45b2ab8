"""What can be wrong with the commands of a launcher file that start Ray and MLflow."""

import re
import shlex
from urllib.parse import urlsplit

from kdsweep.cluster import daemons, tracking
from kdsweep.cluster.daemons import Daemon
from kdsweep.cluster.files import Faults, Part
from kdsweep.cluster.hosts import WORKER, has_workers
from kdsweep.cluster.mask import mask
from kdsweep.errors import did_you_mean
from kdsweep.spec.fault import Path

HEAD = "head_start_ray_commands"
_PORTS = {"ray": ("--dashboard-port", 8265), "mlflow": ("--port", 5000)}
_NAMES = {"ray": "the dashboard", "mlflow": "MLflow"}
_NO = ("0", "false", "f", "no", "n", "off")
"""What `ray start` takes for false."""
_HEAD_IP = ("$RAY_HEAD_IP", "${RAY_HEAD_IP}")
"""Ray gives the address alone, without the port."""
STORES = (
    *("--backend-store-uri", "--registry-store-uri"),
    *("--artifacts-destination", "--default-artifact-root"),
)
PASSWORD = re.compile(
    r"^[A-Z][A-Z0-9+.-]*://([^\s/:@]*:(?!\d+/)[^\s]*@|\S*[?&]password=.)", re.IGNORECASE
)


def port_of(daemon: Daemon) -> int:
    """The port at which kdsweep reaches it: of Ray, its dashboard's."""
    return int(_port_text(daemon) or _PORTS[daemon.what][1])


def _port_text(daemon: Daemon) -> str | None:
    text = daemon.option(_PORTS[daemon.what][0])
    if text is None and daemon.what == "mlflow":
        text = daemon.option("-p")
        text = daemon.environment.get("MLFLOW_PORT") if text is None else text
    return text


def check_commands(part: Part, faults: Faults) -> dict[str, Daemon]:
    """Notes what is wrong with the commands that start Ray and MLflow.

    Returns:
        The first of each kind on the head.
    """
    found: dict[str, Daemon] = {}
    on_head: list[tuple[Path, Daemon]] = []
    for key in (HEAD, WORKER):
        for index, line in enumerate(part.get(key) or ()):
            path: Path = (key, index)
            try:
                shlex.split(line, comments=True)
            except ValueError as error:
                faults.add(part, path, f"is no shell command: {str(error).lower()}")
                continue
            daemon = daemons.parse(line)
            if part.get("provider", "type") == "local" and re.search(r"\bray\s+stop\b", line):
                hint = "Take it out. kdsweep ends what an earlier launch of this cluster started."
                faults.add(part, path, "has `ray stop`: it ends every Ray of the machine", hint)
            if daemon is None:
                continue
            if daemon.trouble:
                faults.add(part, path, f"`{daemon.program}`: {daemon.trouble}")
            if (given := _port_text(daemon)) is not None and not _is_port(given):
                option = _PORTS[daemon.what][0]
                hint = f"kdsweep has to know it. Such as: {option}={_PORTS[daemon.what][1]}"
                faults.add(part, path, f"{option} is no port between 1 and 65535: {given!r}", hint)
            if daemon.what == "mlflow":
                _check_store(part, path, daemon, faults)
            if key == HEAD:
                found.setdefault(daemon.what, daemon)
                on_head.append((path, daemon))
                if daemon.what == "ray":
                    _check_head(part, path, daemon, faults)
    if "ray" not in found:
        hint = "Such as: KDSWEEP_HOME=/shared/kdsweep ray start --head --port=6379"
        faults.add(part, (HEAD,), "has no `ray start --head`", hint)
    elif not faults.told:  # what follows relies on ports
        _check_ports(part, on_head, faults)
        _check_workers(part, found["ray"], faults)
    return found


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 65536


def _check_ports(part: Part, on_head: list[tuple[Path, Daemon]], faults: Faults) -> None:
    """Whether each has a port of its own, and MLflow the one that the driver reports to."""
    taken: dict[int, str] = {}
    for path, daemon in on_head:
        named = {_NAMES[daemon.what]: port_of(daemon)}
        if daemon.what == "ray" and (own := _ray_port(daemon)):
            named = {"Ray itself": own, **named}
        for name, port in named.items():
            if port in taken and taken[port] != name:
                text = f"gives {name} port {port}, which {taken[port]} has"
                faults.add(part, path, text, "Each needs a port of its own.")
            taken[port] = name
    (ray,) = [daemon for _, daemon in on_head if daemon.what == "ray"][:1]
    uri = ray.environment.get("MLFLOW_TRACKING_URI", "")
    servers = [(path, port_of(daemon)) for path, daemon in on_head if daemon.what == "mlflow"]
    if tracking.is_loopback(uri) and servers:
        wanted = urlsplit(uri).port or (443 if uri.startswith("https") else 80)
        if wanted not in [port for _, port in servers]:
            path, port = servers[0]
            text = f"starts MLflow on port {port}, but MLFLOW_TRACKING_URI names {wanted}"
            faults.add(part, path, text, f"Give both the same, such as --port {wanted}")


def _ray_port(daemon: Daemon) -> int | None:
    """The port at which workers find their head; None where the shell fills it in."""
    text = daemon.option("--port")
    return 6379 if text is None else int(text) if text.isdecimal() else None


def _check_workers(part: Part, head: Daemon, faults: Faults) -> None:
    """Whether workers that there are come to this head, and to no other."""
    for index, line in enumerate(part.get(WORKER) or ()):
        daemon = daemons.parse(line)
        if daemon is None or daemon.what != "ray" or not has_workers(part):
            continue
        path: Path = (WORKER, index)
        port = _ray_port(head)
        hint = f"Such as: ray start --address=$RAY_HEAD_IP:{port or 6379}"
        for option in ("--head", "--port", "--include-dashboard"):
            if daemon.option(option) is not None:
                faults.add(part, path, f"has {option}, which is for the head alone", hint)
        address = daemon.option("--address")
        if not address:
            if daemon.option("--head") is None:
                faults.add(part, path, "does not say where the head is: --address", hint)
            continue
        _, colon, given = address.rpartition(":")
        if not colon and (address in _HEAD_IP or ("$" not in address and address != "auto")):
            faults.add(part, path, f"--address has no port: {address!r}", hint)
        elif given.isdecimal() and port is not None and int(given) != port:
            text = f"looks for the head on port {given}, but the head starts with --port {port}"
            faults.add(part, path, text, hint)


def _check_store(part: Part, path: Path, daemon: Daemon, faults: Faults) -> None:
    """The command line of a process can be read by everybody on its machine."""
    for option in STORES:
        value = daemon.option(option) or ""
        if PASSWORD.search(value):
            text = f"{option} holds a password, which everybody on the head could read: "
            hint = "Leave it out of the address, and name a file of mode 0600 in front of the "
            hint += "command: PGPASSFILE=/shared/pgpass (see PostgreSQL in the README)."
            faults.add(part, path, text + mask(value), hint)


def _check_head(part: Part, path: Path, daemon: Daemon, faults: Faults) -> None:
    if daemon.option("--head") is None:
        faults.add(part, path, "starts Ray without --head", "Workers have commands of their own.")
    if (daemon.option("--include-dashboard") or "").lower() in _NO:
        hint = "kdsweep submits sweeps through it, on the head's loopback. Take the option out."
        faults.add(part, path, "starts Ray without its dashboard: --include-dashboard", hint)
    port = daemon.option("--port")
    # The shell may fill it in; 0 lets Ray choose, which no worker could know.
    may_be = port is None or "$" in port or (port == "0" and not has_workers(part))
    if port is not None and not may_be and not _is_port(port):
        hint = "Such as: --port=6379"
        faults.add(part, path, f"--port is no port between 1 and 65535: {port!r}", hint)
    home = daemon.environment.get("KDSWEEP_HOME")
    hint = "Such as: KDSWEEP_HOME=/shared/kdsweep ray start --head --port=6379"
    if home is None:
        known = did_you_mean("KDSWEEP_HOME", daemon.environment) if daemon.environment else ""
        words = f" It sets: {', '.join(daemon.environment)}." if known else ""
        faults.add(
            part, path, f"does not say where results are kept: set KDSWEEP_HOME.{words}", hint
        )
    elif not home.startswith(("/", "~/", "$HOME/", "${HOME}/")) and "://" not in home:
        hint = "Every node must find the same folder there: a shared one where there are several."
        faults.add(part, path, f"KDSWEEP_HOME is no absolute path: {home!r}", hint)
    uri = daemon.environment.get("MLFLOW_TRACKING_URI", "")
    if re.match(r"sqlite:///(?!/)", uri):
        faults.add(
            part, path, f"MLFLOW_TRACKING_URI is a relative path: {uri!r}", "Use sqlite:////"
        )
    if found := tracking.trouble(home or "/", uri):
        faults.add(part, path, *found)
    if tracking.is_loopback(uri) and not any(
        other.what == "mlflow" for line in part.get(HEAD) if (other := daemons.parse(line))
    ):
        hint = (
            f"Add a line to {HEAD}, such as: mlflow server --host 127.0.0.1 --port 5000 (see "
            "cluster/onprem.yaml), or name a server by the address at which the head reaches it."
        )
        text = "MLFLOW_TRACKING_URI is a loopback address, but nothing starts MLflow there"
        faults.add(part, path, text, hint)
