"""Joining a Ray cluster by address, and plain words for what can be wrong with it.

Ray itself waits for minutes where nobody answers, and calls a missing token a failed connection.
"""

import os
import re
import socket
from typing import Any

from kdsweep.errors import ResourceError

_ANSWER_S = 5.0
_TOKEN = (
    "Put its token into $RAY_AUTH_TOKEN, or the path of a file with it into $RAY_AUTH_TOKEN_PATH, "
    "and set RAY_AUTH_MODE=token."
)


def join(address: str, **options: Any) -> None:
    """Connects this process to a running cluster.

    Args:
        address: ``auto``, for the cluster that this machine is a node of, or ``host:port``.
        **options: For `ray.init`.

    Raises:
        ResourceError: It is no address, nobody answers there, or the cluster does not let this
            process in: the token is missing or wrong, or Ray or Python have another version.
    """
    import ray
    from ray.exceptions import AuthenticationError

    where = _reachable(address)
    try:
        ray.init(address=where, **options)
    except AuthenticationError as error:
        _refuse(where, f"asks for a token, and this process has none. {_TOKEN}", error)
    except ConnectionError as error:
        given = os.environ.get("RAY_AUTH_MODE") == "token"
        token = "the token here is not the cluster's" if given else "it asks for a token"
        _refuse(where, f"does not let this process in. Most likely {token}. {_TOKEN}", error)
    except RuntimeError as error:
        found = re.findall(r"Ray: (\S+)\s+Python: (\S+)", str(error))
        if len(found) != 2:
            raise
        (ray_there, python_there), (ray_here, python_here) = found
        _refuse(
            where,
            f"runs Ray {ray_there} on Python {python_there}, this process Ray {ray_here} on Python "
            f"{python_here}. Use the same versions in both places.",
            error,
        )


def _refuse(where: str, why: str, error: Exception) -> None:
    import ray

    ray.shutdown()
    raise ResourceError(f"the Ray cluster at {where} {why}") from error


def _reachable(address: str) -> str:
    """The address as ``host:port``, where somebody answers."""
    where = _known_here() if address == "auto" else address
    host, _, port = where.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise ResourceError(
            f"{address!r} is no address of a Ray cluster to join from one of its machines; valid: "
            "auto, or host:port of its head, such as 10.0.0.1:6379."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"no Ray cluster answers at {where}: {error}. Is it up, and is this the address of its "
            "head, with the port of `ray start --head` (6379 unless given)?"
        ) from error
    return where


def _known_here() -> str:
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address("auto")
    if found is None:
        raise ResourceError(
            "no Ray runs on this machine that --address auto could mean. Start one with `ray "
            "start`, give host:port, or leave --address out to run on this machine alone."
        )
    return str(found)
