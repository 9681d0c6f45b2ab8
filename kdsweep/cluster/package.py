"""What a job ships to the cluster: kdsweep's own code, the sweep file, and a fixed environment."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kdsweep
from kdsweep.environment import JOB

SWEEP_FILE = "sweep.yaml"


@dataclass(frozen=True)
class Package:
    """Files that are shipped.

    Attributes:
        sweep: The sweep file; None where a job resumes.
        files: Sources by their path in the package.
    """

    sweep: Path | None
    files: dict[str, Path]

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files.values())


def make_package(sweep: Path | None) -> Package:
    """Lists what is shipped for a sweep file."""
    root = Path(kdsweep.__file__).parent
    found = {
        f"kdsweep/{path.relative_to(root).as_posix()}": path
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    return Package(sweep, {**found, **({SWEEP_FILE: sweep} if sweep else {})})


@contextmanager
def runtime_env(package: Package) -> Iterator[dict[str, Any]]:
    """The runtime environment of a job, whose folder lasts as long as the context."""
    with TemporaryDirectory(prefix="kdsweep-job-") as folder:
        for name, source in package.files.items():
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        yield {"working_dir": folder, "env_vars": dict(JOB)}
