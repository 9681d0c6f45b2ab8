"""Asks a node whether it sees the files that trials read and write there, before any runs on it.

A home folder that only the driver's node has would look like a working sweep whose trials find no
teacher, lose their checkpoints and start again elsewhere from nothing.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdsweep.errors import StorageError
from kdsweep.sweep.mirror import Mirror

_PATIENCE_S = 5.0
"""So long may a network file system take to show a new file on another node."""


class Probes:
    """Asks nodes, while it is used as a context.

    Args:
        home: Folder of everything that kdsweep writes.
        inputs: What trials read, by the key of the sweep file that names it.
        storage: URI of the remote storage that `home` stands for; empty: there is none.
    """

    def __init__(self, home: Path, inputs: Mapping[str, str], storage: str = "") -> None:
        self._home = home
        self._storage = storage
        self._inputs = dict(inputs)
        self._marker = home / f".probe-{secrets.token_hex(8)}"
        self._content = secrets.token_hex(16)
        self._written = False

    def __enter__(self) -> "Probes":
        return self

    def __exit__(self, *_: object) -> None:
        # What is left behind there is a few bytes; how the sweep ended counts more.
        with contextlib.suppress(StorageError, OSError):
            if self._written and self._storage:
                Mirror(self._storage, self._home).write(self._marker, None)
            self._marker.unlink(missing_ok=True)

    def ask(self, node: str) -> Any:
        """Sends the question to a node, by Ray's id; `answer` takes what this gives."""
        if not self._written:
            self._write()
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        question = ray.remote(missing).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
        return question.remote(str(self._marker), self._content, self._inputs, self._storage)

    def _write(self) -> None:
        self._written = True
        if self._storage:
            Mirror(self._storage, self._home).write(self._marker, {"probe": self._content})
            return
        self._home.mkdir(parents=True, exist_ok=True)
        with self._marker.open("w") as file:
            file.write(self._content)
            file.flush()
            os.fsync(file.fileno())

    def answer(self, asked: Any) -> str | None:
        """What the node lacks, as the end of a sentence about it; empty: nothing.

        Returns:
            None if it died or left before it could answer.
        """
        try:
            lacking = ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, StorageError):
                return f"cannot read the home: {error.cause}"
            return f"cannot run kdsweep: {error.cause!s}. Install the same version there."
        except ray.exceptions.RuntimeEnvSetupError as error:
            return f"cannot run kdsweep: {error}"
        except ray.exceptions.RayError:
            return None
        if "home" in lacking:
            return (
                f"does not see the home folder {self._home} (or another folder of that name). Put "
                "it where all nodes mount the same storage: --home FOLDER."
            )
        if "write" in lacking:
            return f"may not write to the home folder {self._home}. Change its owner or its mode."
        if lacking:
            paths = " and ".join(f"{self._inputs[key]} ({key})" for key in lacking)
            return f"does not see {paths}. Put it there, or where all nodes mount the same storage."
        return ""


def missing(marker: str, content: str, inputs: Mapping[str, str], storage: str = "") -> list[str]:
    """Names what this node lacks: ``home``, ``write`` to it, keys of `inputs`. Runs on the node.

    Raises:
        StorageError: The remote storage cannot be read from here.
    """
    until = time.monotonic() + _PATIENCE_S
    while not _holds(Path(marker), content, storage):
        if time.monotonic() > until:
            return ["home"]
        time.sleep(0.2)
    if not storage and not os.access(Path(marker).parent, os.W_OK | os.X_OK):
        return ["write"]
    return [key for key, path in inputs.items() if not Path(path).expanduser().exists()]


def _holds(path: Path, content: str, storage: str) -> bool:
    if storage:
        return Mirror(storage, path.parent).read(path) == {"probe": content}
    try:
        return path.read_text() == content
    except OSError:
        return False
