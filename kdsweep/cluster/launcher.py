"""Ray cluster-launcher files: what kdsweep relies on, Ray's schema, what is handed to Ray."""

import copy
import ipaddress
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from kdsweep.cluster import daemons, tracking
from kdsweep.cluster.daemons import Daemon
from kdsweep.cluster.files import Faults, Part
from kdsweep.cluster.quiet import quietly
from kdsweep.cluster.schema import check_schema
from kdsweep.errors import did_you_mean
from kdsweep.spec.fault import Path
from kdsweep.spec.sweep import NAME_PATTERN

HERE = ("127.0.0.1", "localhost", "::1")
_HEAD, _WORKER = "head_start_ray_commands", "worker_start_ray_commands"
_PORTS = {"ray": ("--dashboard-port", 8265), "mlflow": ("--port", 5000)}


@dataclass(frozen=True)
class Launcher:
    """A cluster that Ray's launcher starts: SSH hosts, a cloud, or this machine.

    Attributes:
        path: The file.
        config: What it says.
        name: Name of the cluster.
        ray: The command that starts Ray on the head.
        mlflow: The command that starts MLflow on the head; None where the file has none.
    """

    path: FilePath
    config: dict[str, Any]
    name: str
    ray: Daemon
    mlflow: Daemon | None

    @property
    def kind(self) -> str:
        """In words, for people."""
        if self.is_here:
            return "this machine"
        return "SSH hosts" if self.owned else f"{self.config['provider']['type']} instances"

    @property
    def is_here(self) -> bool:
        """Whether it is this machine and no other: nothing goes through SSH."""
        provider = self.config["provider"]
        return provider.get("head_ip") in HERE and not provider.get("worker_ips")

    @property
    def owned(self) -> bool:
        """Whether its machines are somebody's, rather than rented and given back."""
        return self.config["provider"].get("type") == "local"

    @property
    def home(self) -> str | None:
        """Folder of everything that kdsweep writes, on every node."""
        return self.ray.environment.get("KDSWEEP_HOME")

    @property
    def tracking_uri(self) -> str | None:
        """MLflow store or server, as the head sees it."""
        return self.ray.environment.get("MLFLOW_TRACKING_URI")

    @property
    def python(self) -> str:
        """The Python beside Ray on the head, for its shell."""
        folder, slash, _ = self.ray.program.rpartition("/")
        return f"{folder}/python" if slash else "python"

    @property
    def dashboard_port(self) -> int:
        """Port of Ray's dashboard on the head's loopback."""
        return _port(self.ray)

    @property
    def mlflow_port(self) -> int | None:
        """Port of MLflow on the head's loopback; None where the file starts none."""
        return _port(self.mlflow) if self.mlflow else None


def read_launcher(path: FilePath, part: Part) -> Launcher:
    """Reads and validates a launcher file.

    Raises:
        SpecError: Something is wrong; the message lists every fault with its line.
    """
    faults = Faults(str(path))
    _check_schema(part, faults)
    faults.refuse()  # what follows relies on types
    name = part.get("cluster_name")
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
        hint = "It names folders: letters, digits, '_', '-' and '.', at most 64."
        faults.add(part, ("cluster_name",), f"is no name: {name!r}", hint)
    found = _check_commands(part, faults)
    _check_hosts(part, faults)
    faults.refuse()
    _check_with_ray(part, faults)
    faults.refuse()
    return Launcher(path, part.values, str(name), found["ray"], found.get("mlflow"))


def prepare(cluster: Launcher, token: FilePath) -> dict[str, Any]:
    """What is handed to Ray: the file, with commands that kdsweep can end again, and a token.

    A pure function of its arguments; what is prepared already stays as it is.

    Args:
        cluster: The cluster.
        token: File on this machine that holds, or will hold, the token.
    """
    config = copy.deepcopy(cluster.config)
    for key in (_HEAD, _WORKER):
        if key in config:
            config[key] = [_prepared(line, cluster, key == _HEAD) for line in config[key]]
    if not cluster.is_here:
        mounts = dict(config.get("file_mounts") or {})
        config["file_mounts"] = {**mounts, daemons.token_path(cluster.name): str(token)}
    return config


def _prepared(line: str, cluster: Launcher, is_head: bool) -> str:
    daemon = daemons.parse(line)
    if daemon is None:
        return line
    # Ray's second autoscaler takes the head of SSH hosts for a worker too many, and so never
    # starts the last worker (seen with Ray 2.60).
    extra = {"RAY_enable_autoscaler_v2": "0"} if is_head and cluster.owned else {}
    return daemons.start(daemon, cluster.name, extra)


def _port(daemon: Daemon) -> int:
    option, usual = _PORTS[daemon.what]
    return int(daemon.option(option) or usual)


def _check_commands(part: Part, faults: Faults) -> dict[str, Daemon]:
    found: dict[str, Daemon] = {}
    for key in (_HEAD, _WORKER):
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
            if daemon.option(_PORTS[daemon.what][0]) is not None and not _is_port(daemon):
                faults.add(part, path, f"{_PORTS[daemon.what][0]} is no port between 1 and 65535")
            if key == _HEAD:
                found.setdefault(daemon.what, daemon)
                if daemon.what == "ray":
                    _check_head(part, path, daemon, faults)
    if "ray" not in found:
        hint = "Such as: KDSWEEP_HOME=/shared/kdsweep ray start --head --port=6379"
        faults.add(part, (_HEAD,), "has no `ray start --head`", hint)
    return found


def _is_port(daemon: Daemon) -> bool:
    text = daemon.option(_PORTS[daemon.what][0]) or ""
    return text.isdecimal() and 0 < int(text) < 65536


def _check_head(part: Part, path: Path, daemon: Daemon, faults: Faults) -> None:
    if daemon.option("--head") is None:
        faults.add(part, path, "starts Ray without --head", "Workers have commands of their own.")
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
        other.what == "mlflow" for line in part.get(_HEAD) if (other := daemons.parse(line))
    ):
        hint = (
            f"Add a line to {_HEAD}, such as: mlflow server --host 127.0.0.1 --port 5000 (see "
            "cluster/onprem.yaml), or name a server by the address at which the head reaches it."
        )
        text = "MLFLOW_TRACKING_URI is a loopback address, but nothing starts MLflow there"
        faults.add(part, path, text, hint)


def _check_hosts(part: Part, faults: Faults) -> None:
    provider = part.get("provider")
    if provider.get("type") != "local" or "coordinator_address" in provider:
        return
    for key, kind in (("head_ip", str), ("worker_ips", list)):
        if not isinstance(provider.get(key), kind):
            hint = "A cluster of one machine has worker_ips: []." if kind is list else ""
            faults.add(part, ("provider", key), "is missing or no address", hint)
    if faults.told:
        return
    workers = provider["worker_ips"]
    _check_addresses(part, faults)
    if workers and _is_loopback(provider["head_ip"]):
        hint = "Give the address at which the workers reach the head."
        faults.add(part, ("provider", "head_ip"), "is a loopback address", hint)
    if workers and not any(
        found.what == "ray" for line in part.get(_WORKER) or () if (found := daemons.parse(line))
    ):
        hint = "Such as: ray start --address=$RAY_HEAD_IP:6379"
        faults.add(part, (_WORKER,), "has no `ray start`, but there are worker_ips", hint)
    if (workers or provider["head_ip"] not in HERE) and not part.get("auth", "ssh_user"):
        faults.add(part, ("auth", "ssh_user"), "is missing", "The user that SSH logs in as.")


def _check_addresses(part: Part, faults: Faults) -> None:
    provider = part.get("provider")
    workers: list[Any] = provider["worker_ips"]
    heads = [key for key in ("head_ip", "external_head_ip") if key in provider]
    given: list[tuple[Path, Any]] = [(("provider", key), provider[key]) for key in heads]
    given += [(("provider", "worker_ips", i), worker) for i, worker in enumerate(workers)]
    for where, address in given:
        if not isinstance(address, str) or not _is_address(address):
            hint = "A host name or an IP address, nothing else: ports go into ~/.ssh/config."
            faults.add(part, where, f"is no address: {address!r}", hint)
    for index, worker in enumerate(workers):
        path: Path = ("provider", "worker_ips", index)
        if worker == provider["head_ip"]:
            faults.add(part, path, f"is the head's own address: {worker!r}", "Take it out.")
        elif worker in workers[:index]:
            faults.add(part, path, f"is there already: {worker!r}", "Take it out.")
        elif isinstance(worker, str) and _is_loopback(worker):
            hint = "Give the address at which the head reaches the worker."
            faults.add(part, path, f"is a loopback address: {worker!r}", hint)


def _is_address(text: str) -> bool:
    if ":" not in text:
        return re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text) is not None
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _is_loopback(address: str) -> bool:
    return address in HERE or address == "0.0.0.0" or address.startswith("127.")


def _check_schema(part: Part, faults: Faults) -> None:
    """Ray's schema, every fault with its line."""
    import ray.autoscaler

    schema = json.loads((FilePath(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    check_schema(part, schema, faults, _filled(part.values))
    kind = part.get("provider", "type")
    if kind is not None and kind not in (known := _provider_types()):
        faults.unknown_value(part, ("provider", "type"), kind, known)


def _provider_types() -> list[str]:
    from ray.autoscaler._private.providers import _NODE_PROVIDERS

    return sorted(_NODE_PROVIDERS)


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """The file as Ray's schema wants it: with what Ray fills in, without what Ray takes out."""
    config = copy.deepcopy(values)
    provider = config.get("provider")
    local = isinstance(provider, dict) and provider.get("type") == "local"
    if local and isinstance(config.get("min_workers"), int):
        del config["min_workers"]  # Ray moves it to the hosts' node type
    types = config.get("available_node_types")
    for node in types.values() if isinstance(types, dict) else ():
        if isinstance(node, dict):
            node.setdefault("resources", {})
    return config


def _check_with_ray(part: Part, faults: Faults) -> None:
    """What Ray itself says of the whole, after its own defaults."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    with quietly() as said:
        try:
            validate_config(prepare_config(_filled(part.values)))
        except Exception as error:  # Ray raises whatever comes
            words = getattr(error, "message", "") or str(error) or said.getvalue().strip()
            faults.add(part, (), f"Ray refuses it: {words}")
