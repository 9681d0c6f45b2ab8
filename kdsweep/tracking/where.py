"""How a later command or call finds the same sweeps again, to be pasted."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kdsweep.home import home_folder, home_uri
from kdsweep.tracking._store import redact


@dataclass(frozen=True)
class Where:
    """What has to be said because it is not the default.

    Attributes:
        options: Of ``home`` and ``tracking_uri`` those that must be given, without credentials.
    """

    options: Mapping[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> str:
        """A command of kdsweep: ``kdsweep resume pvd --home /data/runs``."""
        flags = ((f"--{key.replace('_', '-')}", value) for key, value in self.options.items())
        return shlex.join(["kdsweep", *words, *(word for flag in flags for word in flag)])

    def call(self, sweep: str) -> str:
        """A call in Python: ``kdsweep.open_sweep("pvd", home="/data/runs")``."""
        given = "".join(f", {key}={_quoted(value)}" for key, value in self.options.items())
        return f"kdsweep.open_sweep({_quoted(sweep)}{given})"


def where(home: str | Path | None = None, tracking_uri: str | None = None) -> Where:
    """What to say for a home and a store, which may be None for the defaults."""
    options = {}
    if (home_uri(home) or home_folder(home)) != (home_uri() or home_folder()):
        options["home"] = str(home)
    uri = asked_uri(tracking_uri)
    if uri is not None and uri != asked_uri():
        options["tracking_uri"] = redact(uri)
    return Where(options)


def asked_uri(uri: str | None = None) -> str | None:
    """The store that is asked for, by argument or $MLFLOW_TRACKING_URI; None: that in the home."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # JSON's strings are Python's, too
