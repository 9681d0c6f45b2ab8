"""The home: the one place of everything that kdsweep writes, a folder or remote storage."""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from kdsweep.errors import StorageError

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
    """The URI of a home in remote storage; empty where the home is a folder.

    Raises:
        StorageError: It holds a password, which would stand in messages and records.
    """
    named = _named(home)
    if not _URI.match(named):
        return ""
    if urlsplit(named).password is not None:
        raise StorageError(
            f"the home {named.partition('://')[0]}://... holds a password. Leave it out, and give "
            "it in the way of the storage's own driver: its environment variables or its file."
        )
    return named.rstrip("/")


def _named(home: str | Path | None) -> str:
    return str(home or os.environ.get("KDSWEEP_HOME") or _DEFAULT)
