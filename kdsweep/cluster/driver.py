"""The driver of a sweep as a job: what it runs, what it ships, what it is called."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdsweep.cluster.package import SWEEP_FILE, Package, make_package


@dataclass(frozen=True)
class Driver:
    """A job that launches or resumes a sweep.

    Attributes:
        sweep: Name of the sweep.
        package: Files that it ships.
        arguments: What `kdsweep` is called with on the head.
    """

    sweep: str
    package: Package
    arguments: tuple[str, ...]

    def entrypoint(self, python: str) -> str:
        """The shell command of the job.

        Args:
            python: The Python of the head, as shell (``~/venv/bin/python``).
        """
        # In place of the shell, so that a signal meets one process and not two.
        return f"exec {python} -m kdsweep {shlex.join(self.arguments)}"


def make_driver(
    verb: Literal["launch", "resume"],
    sweep: str,
    file: Path | None,
    arguments: Sequence[str],
    *,
    home: str | None = None,
    tracking_uri: str | None = None,
) -> Driver:
    """The driver of a sweep.

    Args:
        verb: What it does.
        sweep: Name of the sweep.
        file: Its file, for `launch`.
        arguments: Overrides, or options of `resume`.
        home: Folder on the nodes; None: the cluster's own $KDSWEEP_HOME.
        tracking_uri: MLflow as the head sees it; None: the cluster's own.
    """
    where = [
        *(["--home", home] if home else []),
        *(["--tracking-uri", tracking_uri] if tracking_uri else []),
    ]
    subject = SWEEP_FILE if verb == "launch" else sweep
    # Options first, and a mark at their end: no name or override can be taken for an option.
    options = [argument for argument in arguments if verb == "resume"]
    overrides = [argument for argument in arguments if verb == "launch"]
    words = (verb, "--address", "auto", *where, *options, "--", subject, *overrides)
    return Driver(sweep, make_package(file), words)
