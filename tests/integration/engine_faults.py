"""Real trainings on a machine that fails them: what slots execute in `test_training_faults`.

The learning rate of a run says what happens to it.
"""

import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kdsweep.sweep import worker

EXECUTE = "engine_faults:train"
SOUND, DIVERGES, STARVES, TRUNCATED, MISLABELLED = 1e-3, 1e25, 2e-3, 3e-3, 4e-3
_PIECE = 1 << 17


def train(spec: Mapping[str, Any], place: Any, report: Callable[[Any], bool]) -> Any:
    """The engine's own training, while something is wrong with the machine."""
    lr = spec["train"]["lr"]
    folder = Path(spec["data"]["root"]) / "sequences" / "00"
    if lr == STARVES:
        with _Starving() as starving:
            return worker.train(spec, place, lambda news: report(news) and starving.begin())
    if lr == TRUNCATED:
        with _damaged(folder / "velodyne" / "000000.bin", lambda content: content[:-7]):
            return worker.train(spec, place, report)
    if lr == MISLABELLED:
        with _damaged(folder / "labels" / "000000.label", lambda content: content[:-4]):
            return worker.train(spec, place, report)
    return worker.train(spec, place, report)


class _Starving:
    """A process that gets no more memory, and has little left, from some moment on."""

    def __enter__(self) -> "_Starving":
        self._limits = resource.getrlimit(resource.RLIMIT_AS)
        self._taken: list[torch.Tensor] = []
        return self

    def begin(self) -> bool:
        """Takes all memory in larger pieces that the allocator will give; gives True."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), self._limits[1]))
        try:
            while True:
                self._taken.append(torch.empty(_PIECE, dtype=torch.float32))
        except (RuntimeError, MemoryError):
            return True

    def __exit__(self, *_: object) -> None:
        self._taken.clear()
        resource.setrlimit(resource.RLIMIT_AS, self._limits)


@contextmanager
def _damaged(path: Path, damage: Callable[[bytes], bytes]) -> Iterator[None]:
    sound = path.read_bytes()
    path.write_bytes(damage(sound))
    try:
        yield
    finally:
        path.write_bytes(sound)
