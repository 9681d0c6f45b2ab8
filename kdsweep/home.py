"""The home: the one place of everything that kdsweep writes, a folder or remote storage."""

import hashlib
import os
import re
from pathlib import Path

_URI = re.compile(r"[a-z][a-z0-9+.-]*://")
_DEFAULT = "kdsweep_runs"


def home_folder(home: str | Path | None = None) -> Path:
    """The folder of this machine that is the home, or that stands for remote storage here.

    What stands for storage is $KDSWEEP_SCRATCH, or a folder of this user's cache.

    Args:
        home: A folder or a URI (``s3://bucket/kdsweep``); None: $KDSWEEP_HOME, ./kdsweep_runs.
    """
    if uri := home_uri(home):
        # Not in /tmp, where another user could have put a folder of that name.
        root = os.environ.get("KDSWEEP_SCRATCH") or "~/.cache/kdsweep"
        folder = hashlib.blake2b(uri.encode(), digest_size=6).hexdigest()
        return Path(root).expanduser().absolute() / folder
    return Path(_named(home)).expanduser().absolute()


def home_uri(home: str | Path | None = None) -> str:
    """The URI of a home in remote storage; empty where the home is a folder."""
    named = _named(home)
    return named.rstrip("/") if _URI.match(named) else ""


def _named(home: str | Path | None) -> str:
    return str(home or os.environ.get("KDSWEEP_HOME") or _DEFAULT)
