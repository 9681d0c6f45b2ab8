"""One Ray on this machine for the tests of whole sweeps that do not end it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_HERE = str(Path(__file__).parent)


@pytest.fixture(scope="session")
def worker_path() -> Iterator[str]:
    """Lets Ray's processes import the modules beside the tests."""
    patch = pytest.MonkeyPatch()
    paths = [_HERE, *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))
    patch.setattr(sys, "path", [_HERE, *sys.path])
    yield _HERE
    patch.undo()


@pytest.fixture(scope="session")
def ray_cluster(worker_path: str) -> Iterator[None]:
    """Two CPU cores, whatever the machine has."""
    import ray

    from kdsweep.sweep import cluster

    cluster.set_environment()
    cluster.connect(None, {"CPU": 2.0, "GPU": 0.0})
    yield
    ray.shutdown()
