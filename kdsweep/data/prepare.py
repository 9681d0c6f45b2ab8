"""Makes data ready before a run: writes synthetic scans once, checks the files of the splits."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from kdsweep.data.scans import Scan, ScanReader
from kdsweep.data.synthetic import SynthConfig, config_digest, write_semantickitti
from kdsweep.errors import DataError

_LISTED = 5


def synthetic_root(config: SynthConfig, home: Path) -> Path:
    """Where the synthetic scans of a configuration are, or will be."""
    return home / "data" / config_digest(config)


def write_synthetic(config: SynthConfig, home: Path) -> Path:
    """Writes synthetic scans, unless they are there already.

    Processes that ask at the same time wait for the first one. The folder appears under its name
    only when it is complete; what a killed process left behind is removed.

    Returns:
        `synthetic_root`.

    Raises:
        DataError: The folder cannot be written.
    """
    root = synthetic_root(config, home)
    if root.is_dir():
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if root.is_dir():
                return root
            partial = root.with_name(f".{root.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            write_semantickitti(config, partial)
            os.replace(partial, root)
    except OSError as error:
        raise DataError(
            f"{root}: cannot write the synthetic scans: {error.strerror or error}. Free some "
            "space, or choose another place (KDSWEEP_HOME)."
        ) from error
    return root


def scan_sizes(reader: ScanReader, scans: Iterable[Scan]) -> list[tuple[str, int, int]]:
    """Name, points and labels of scans, judged by file size.

    Raises:
        DataError: A file is missing or truncated, or there is not one label per point; the message
            lists the first faults.
    """
    sizes, faults = [], []
    for scan in scans:
        try:
            sizes.append((scan.name, *reader.sizes(scan)))
        except DataError as error:
            faults.append(str(error))
    if faults:
        more = len(faults) - _LISTED
        rest = f"\n  and {more} more" if more > 0 else ""
        raise DataError(
            f"{reader.root}: {len(faults)} damaged or missing files ('kdsweep data check' lists "
            "all):\n  " + "\n  ".join(faults[:_LISTED]) + rest
        )
    return sizes
