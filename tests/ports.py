"""Ports of the loopback interface for servers of the tests."""

import socket
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 20000
"""Ray gives the ports below, from 10002 on, to its workers."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that the system gives to nobody who asks for any port.

    So an outgoing connection cannot take one between now and the start of its server, nor while
    the server is down in between.
    """
    found: list[int] = []
    for port in _candidates():
        if port not in found and _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("every port is taken")


def _candidates() -> Iterator[int]:
    """Ports in random order, those outside the ephemeral range where there are some."""
    first, last = 32768, 60999
    if _EPHEMERAL.exists():
        first, last = map(int, _EPHEMERAL.read_text().split())
    outside = [port for port in range(_LOWEST, 65536) if not first <= port <= last]
    draw = SystemRandom()  # Hypothesis seeds the other one, alike in every process
    yield from draw.sample(outside, len(outside))
    yield from draw.sample(range(_LOWEST, 65536), 1000)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
