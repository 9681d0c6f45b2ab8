"""Who listens on a TCP port of a machine's loopback, as far as the system tells."""

import re
from dataclasses import dataclass

_MARK = "kdsweep-listens:"
_LOOPBACK = ("0100007F", "7F000001")
"""127.0.0.1 as the kernel prints it, by the order of the machine's bytes."""
_REACHED = ("0" * 8, "0" * 32, *_LOOPBACK, *(f"{'0' * 16}FFFF0000{ip}" for ip in _LOOPBACK))
"""Addresses whose listener gets what is sent to 127.0.0.1: itself, and any address."""


@dataclass(frozen=True)
class Listeners:
    """User ids: of who has asked, and of those who listen."""

    us: str
    users: frozenset[str]

    @property
    def others(self) -> frozenset[str]:
        """Those who listen and are not who has asked."""
        return self.users - {self.us}


def script(port: int) -> str:
    """One line of shell whose output `read` understands; it prints nothing outside Linux."""
    # Columns: index, local address and port, remote ones, state (0A: listens), ..., user.
    where = f"^({'|'.join(_REACHED)}):{port:04X}$"
    program = f'$4 == "0A" && $2 ~ /{where}/ {{ printf " %s", $8 }}'
    return (
        f"n=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '{program}') && "
        f'[ -r /proc/net/tcp ] && printf \'\\n{_MARK}%s:%s\\n\' "$(id -u)" "$n"'
    )


def read(output: str) -> Listeners | None:
    """What the script has printed, perhaps among other things; None where it could not tell."""
    found = re.search(rf"^{_MARK}(\d+):([\d ]*)$", output, re.MULTILINE)
    return Listeners(found[1], frozenset(found[2].split())) if found else None
