"""What can be wrong with the machines of a launcher file, and with the ways to them."""

import ipaddress
import re
from pathlib import Path as FilePath
from typing import Any

from kdsweep.cluster import daemons
from kdsweep.cluster.files import Faults, Part
from kdsweep.spec.fault import Path

HERE = ("127.0.0.1", "localhost", "::1")
WORKER = "worker_start_ray_commands"
_CLOUDS = {"aws": ("region",), "gcp": ("project_id", "availability_zone")}
"""What Ray looks up without asking whether it is there; its schema does not require it."""
_CONTAINER = ("image", "head_image", "worker_image", "container_name")


def check_hosts(part: Part, faults: Faults) -> None:
    """Notes what is wrong with the machines of a launcher file and with the ways to them."""
    _check_docker(part, faults)
    provider = part.get("provider")
    kind = provider.get("type")
    for key in (*_CLOUDS.get(kind, ()), *(["region"] if kind == "gcp" and _asks(part) else [])):
        if not provider.get(key):
            hint = f"Ray finds it out only when it asks the cloud. See cluster/{kind}.yaml."
            faults.add(part, ("provider", key), "is missing", hint)
    if not _is_here(part):
        _check_options(part, faults)
        _check_mounts(part, faults)
    _check_own(part, faults)


def has_workers(part: Part) -> bool:
    """Whether there are, or can be, machines beside the head."""
    provider = part.get("provider")
    listed = provider.get("type") == "local" and "coordinator_address" not in provider
    return bool(provider.get("worker_ips")) if listed else True


def _asks(part: Part) -> bool:
    """Whether Ray asks Google for a network, or makes a key: both in the provider's region."""
    nodes = [
        kind.get("node_config") or {} for kind in (part.get("available_node_types") or {}).values()
    ]
    known = all({"networkInterfaces", "networkConfig"} & node.keys() for node in nodes)
    return not known or not part.get("auth", "ssh_private_key")


def _is_here(part: Part) -> bool:
    return part.get("provider", "head_ip") in HERE and not part.get("provider", "worker_ips")


def _check_docker(part: Part, faults: Faults) -> None:
    kinds = part.get("available_node_types") or {}
    for path in [("docker",), *(("available_node_types", kind, "docker") for kind in kinds)]:
        docker = part.get(*path) or {}
        if any(docker.get(key) for key in _CONTAINER):
            text = "runs Ray in a container, where `kdsweep down` could end none of it: the "
            text += "container has pids, and a home folder, of its own"
            hint = "Take it out, and install what is needed by setup_commands; or run the image on "
            hint += "Kubernetes (cluster/kuberay.yaml)."
            faults.add(part, path, text, hint)


def _check_options(part: Part, faults: Faults) -> None:
    """What would be an option of ssh; Ray's launcher calls it with these words too."""
    for key in ("ssh_user", "ssh_private_key"):
        value = part.get("auth", key)
        if isinstance(value, str) and value.startswith("-"):
            hint = "The user to log in as." if key == "ssh_user" else "The path of a key here."
            text = f"would be an option of ssh: {value!r}"
            faults.add(part, ("auth", key), text, hint)


def _check_mounts(part: Part, faults: Faults) -> None:
    for there, here in (part.get("file_mounts") or {}).items():
        if not isinstance(here, str) or not FilePath(here).expanduser().exists():
            hint = "Left is the path on the nodes, right the one here that is copied to it. Make "
            hint += "it, or take the line out."
            text = f"there is no {here!r} on this machine (looked from {FilePath.cwd()})"
            faults.add(part, ("file_mounts", there), text, hint)


def _check_own(part: Part, faults: Faults) -> None:
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
        found.what == "ray" for line in part.get(WORKER) or () if (found := daemons.parse(line))
    ):
        hint = "Such as: ray start --address=$RAY_HEAD_IP:6379"
        faults.add(part, (WORKER,), "has no `ray start`, but there are worker_ips", hint)
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
