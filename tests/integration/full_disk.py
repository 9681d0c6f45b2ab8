"""A disk that becomes full, and a run that meets it at every one of its writes.

    python full_disk.py DISK SWEEP_FILE

runs the sweep file's run on a small disk, and again for each folder, file and rename of that run,
with the disk full from there on. Each time the run has to end by itself or say that the disk is
full, and with room made it has to end with the bits of the first one. Prints what does not.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from kdsweep.engine import files
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.spec.load import load_sweep


def fill(path: Path) -> None:
    """Writes a file until the disk takes nothing more."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


class Moments:
    """Fills a disk when a process is about to write below a folder for the n-th time.

    Attributes:
        met: The writes so far.
        full_at: The n; 0: never.
    """

    def __init__(self, folder: Path, ballast: Path) -> None:
        self.met: list[str] = []
        self.full_at = 0
        self._folder = f"{folder}/"
        self._ballast = ballast
        sys.addaudithook(self._meet)

    def _meet(self, event: str, words: tuple[Any, ...]) -> None:
        makes = event in ("os.mkdir", "os.rename")
        writes = event == "open" and words[2] & (os.O_WRONLY | os.O_RDWR)
        if (makes or writes) and str(words[0]).startswith(self._folder):
            self.met.append(f"{event} {words[0]}")
            if len(self.met) == self.full_at:
                fill(self._ballast)


def main(disk: Path, sweep_file: Path) -> None:
    spec, home, ballast = load_sweep(sweep_file).run, disk / "home", disk / "ballast"
    place = Place(home, home / "run", "cpu", threads=1)
    moments = Moments(home, ballast)

    def student() -> dict[str, torch.Tensor]:
        execute(spec, place, lambda progress: True)
        return load_file(place.run_dir / "student.safetensors")

    whole = student()
    writes = moments.met[:]
    for number, write in enumerate(writes, 1):
        shutil.rmtree(home)
        moments.met.clear()
        moments.full_at, error = number, None
        try:
            student()
        except Exception as raised:  # looked at below
            error = raised
        moments.full_at = 0
        ballast.unlink()
        told = error is None or files.is_disk_full(error)
        again = student()
        equal = all(torch.equal(again[name], tensor) for name, tensor in whole.items())
        litter = [*home.rglob("*.tmp"), *home.rglob(".desk-*")]
        if not told or not equal or litter:
            print(f"full at {write}: {error!r}; equal: {equal}; left: {litter}")
    print(len(writes), "writes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
