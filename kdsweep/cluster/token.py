"""The token of a cluster that kdsweep starts: one random secret, in a file only for its user.

It is never printed, logged, or put into a job. Nodes find it by a path, this machine sends it in
the header of its requests.
"""

import os
import secrets
from pathlib import Path

from kdsweep.errors import ResourceError


def state_dir(cluster: str) -> Path:
    """Folder of a cluster on this machine: token, log of its start, known hosts."""
    return Path.home() / ".kdsweep" / "clusters" / cluster


def token_file(cluster: str) -> Path:
    """File of a cluster's token."""
    return state_dir(cluster) / "token"


def read_token(cluster: str) -> str | None:
    """The token of a cluster; None where this machine has none.

    Raises:
        ResourceError: Its file holds something else.
    """
    return _read(token_file(cluster))


def write_token(cluster: str, token: str) -> None:
    """Keeps a token; others cannot read it, at no moment."""
    path = token_file(cluster)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".token.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(token)
    temporary.replace(path)


def make_token(cluster: str) -> str:
    """The token of a cluster; a new one where this machine has none."""
    token = read_token(cluster)
    if token is None:
        token = secrets.token_hex(32)
        write_token(cluster, token)
    return token


def given_token() -> str | None:
    """The token for a cluster that somebody else runs, from where Ray looks for it.

    Raises:
        ResourceError: There is something else.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return _checked(token, "$RAY_AUTH_TOKEN")
    return _read(Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser())


def _read(path: Path) -> str | None:
    if not path.is_file():
        return None
    return _checked(path.read_text(encoding="utf-8", errors="replace").strip(), str(path)) or None


def _checked(token: str, source: str) -> str:
    """The token, if it can be sent in a header; what it is instead is not repeated."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ResourceError(
            f"{source} holds no token: a token is one word of ASCII. Whoever runs the cluster has "
            "it; what kdsweep made itself can be removed, and is fetched from the head again."
        )
    return token
