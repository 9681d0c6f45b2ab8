"""Ray cluster-launcher files: what kdsweep relies on, Ray's schema, what is handed to Ray."""

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from kdsweep.cluster import daemons
from kdsweep.cluster.commands import HEAD, check_commands, port_of
from kdsweep.cluster.daemons import Daemon
from kdsweep.cluster.files import Faults, Part
from kdsweep.cluster.hosts import HERE, WORKER, check_hosts
from kdsweep.cluster.quiet import quietly
from kdsweep.cluster.schema import check_schema
from kdsweep.spec.sweep import NAME_PATTERN


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
        return port_of(self.ray)

    @property
    def mlflow_port(self) -> int | None:
        """Port of MLflow on the head's loopback; None where the file starts none."""
        return port_of(self.mlflow) if self.mlflow else None


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
    found = check_commands(part, faults)
    check_hosts(part, faults)
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
    for key in (HEAD, WORKER):
        if key in config:
            config[key] = [_prepared(line, cluster, key == HEAD) for line in config[key]]
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
