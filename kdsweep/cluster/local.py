"""This machine as the host of a cluster: the same shell as over SSH, without SSH."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kdsweep.cluster.mask import mask
from kdsweep.errors import ResourceError


@dataclass(frozen=True)
class Ran:
    """How a piece of shell ended: exit code and all that it printed."""

    code: int
    output: str


class Here:
    """Runs shell on this machine."""

    name = "this machine"

    def run(self, script: str, *, timeout_s: float = 120.0) -> Ran:
        """Runs a script to its end; see `kdsweep.cluster.ssh.Host.run`."""
        # The programs of this Python come first: `ray` and `mlflow` need no activated environment.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        ours = {name: value for name, value in os.environ.items() if not _leads_astray(name)}
        try:
            done = subprocess.run(
                ["bash", "-c", script],
                env={**ours, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ResourceError(
                f"{self.name} has not ended a command within {timeout_s:.0f} s: {mask(script)}"
            ) from None
        return Ran(done.returncode, done.stdout)


def _leads_astray(name: str) -> bool:
    """Whether a variable says where Ray or its token is, which the cluster file says here."""
    return name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") or name.startswith("RAY_AUTH_")
