"""The head of a cluster that Ray's launcher starts: which machine it is, and how to reach it."""

import json
import re
from typing import Any

from kdsweep.cluster import daemons
from kdsweep.cluster.launcher import Launcher
from kdsweep.cluster.local import Here
from kdsweep.cluster.quiet import quietly
from kdsweep.cluster.ssh import Host
from kdsweep.cluster.token import state_dir
from kdsweep.errors import ResourceError

_KEY = "ssh_key.json"
_MARK = "kdsweep-token:"


def head_of(cluster: Launcher) -> Here | Host | None:
    """The head's machine; None where a cloud has no such machine now.

    Raises:
        ResourceError: The cloud cannot be asked, or the SSH key is not known on this machine.
    """
    if cluster.is_here:
        return Here()
    provider = cluster.config["provider"]
    if cluster.owned:
        address = provider.get("external_head_ip") or provider["head_ip"]
        return _host(cluster, address, cluster.config["auth"].get("ssh_private_key"))
    address = _ask_cloud(cluster.config)
    if address is None:
        return None
    key = cluster.config.get("auth", {}).get("ssh_private_key") or _known_key(cluster)
    if key is None:
        raise ResourceError(
            f"{cluster.path}: cluster {cluster.name!r} runs at {address}, but this machine has not "
            "started it and does not know its SSH key. Name it: auth.ssh_private_key."
        )
    return _host(cluster, address, key)


def remember_key(cluster: Launcher, resolved: dict[str, Any]) -> None:
    """Keeps the path of the SSH key that Ray made or chose for a cloud."""
    key = resolved.get("auth", {}).get("ssh_private_key")
    if key and not cluster.owned:
        (state_dir(cluster.name) / _KEY).write_text(json.dumps({"ssh_private_key": key}))


def fetch_token(cluster: Launcher, host: Here | Host) -> str | None:
    """The token that the head has; None where it has none."""
    if isinstance(host, Here):
        return None  # its file is this machine's own
    # Behind a mark, because login shells print what they like.
    ran = host.run(f'printf "{_MARK}"; cat {daemons.folder(cluster.name)}/token 2>/dev/null')
    found = re.match(r"\S+", ran.output.rpartition(_MARK)[2])
    return found[0] if ran.code == 0 and found else None


def _host(cluster: Launcher, address: str, key: str | None) -> Host:
    auth = cluster.config.get("auth") or {}
    return Host(
        address=address,
        user=auth.get("ssh_user", "ubuntu"),
        key=key,
        proxy_command=auth.get("ssh_proxy_command"),
        known_hosts=state_dir(cluster.name) / "known_hosts" if cluster.owned else None,
    )


def _known_key(cluster: Launcher) -> str | None:
    path = state_dir(cluster.name) / _KEY
    return json.loads(path.read_text())["ssh_private_key"] if path.is_file() else None


def _ask_cloud(config: dict[str, Any]) -> str | None:
    from ray.autoscaler import sdk

    with quietly():
        try:
            return str(sdk.get_head_node_ip(config))
        except ImportError as error:
            kind = config["provider"]["type"]
            library = {"aws": "boto3", "gcp": "google-api-python-client google-auth"}.get(
                kind, kind
            )
            raise ResourceError(f"{error}. Install it here: pip install {library}") from None
        except RuntimeError as error:
            if "Head node of cluster" in str(error):  # Ray's words for: there is none
                return None
            raise ResourceError(f"the cloud does not answer: {error}") from None
        except Exception as error:  # every cloud's library has errors of its own
            words = str(error).strip() or type(error).__name__
            raise ResourceError(f"the cloud does not answer: {words}") from None
