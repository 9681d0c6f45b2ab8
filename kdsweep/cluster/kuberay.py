"""KubeRay manifests."""

from contextlib import contextmanager


class KubeRay: ...


def read_kuberay(file, parts): ...
@contextmanager
def joined(c):
    yield None


@contextmanager
def running(c, say):
    yield None
