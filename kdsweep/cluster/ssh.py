"""A host behind SSH: runs shell there, and brings its loopback ports here."""

import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdsweep.cluster import listeners
from kdsweep.cluster.local import Here, Ran
from kdsweep.errors import ResourceError

_SSH_FAILED = 255


@dataclass(frozen=True)
class Host:
    """How to reach a host.

    Attributes:
        address: Its name or address.
        user: User to log in as.
        key: File of the private key; None: the agent's or the user's own.
        proxy_command: SSH's ProxyCommand; None where the host is reached directly.
        known_hosts: File that remembers the host's key from the first contact on; None where
            addresses pass from one rented machine to the next.
    """

    address: str
    user: str
    key: str | None
    proxy_command: str | None
    known_hosts: Path | None

    @property
    def name(self) -> str:
        return f"{self.user}@{self.address}"

    def run(self, script: str, *, timeout_s: float = 120.0) -> Ran:
        """Runs a script to its end.

        Raises:
            ResourceError: The host cannot be reached, or the script takes too long.
        """
        try:
            done = subprocess.run(
                [*self.command(), *self.where(), f"bash -lc {shlex.quote(script)}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError:
            raise ResourceError("ssh is not installed here; clusters on hosts need it.") from None
        except subprocess.TimeoutExpired:
            raise ResourceError(f"{self.name} does not answer within {timeout_s:.0f} s.") from None
        if done.returncode == _SSH_FAILED:
            raise ResourceError(f"cannot reach {self.name}: {_last(done.stderr)}")
        return Ran(done.returncode, done.stdout + done.stderr)

    def command(self) -> list[str]:
        """``ssh`` with the options for this host."""
        trust = (
            {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"}
            if self.known_hosts is None
            else {
                "StrictHostKeyChecking": "accept-new",
                # ssh splits it at spaces, and replaces what follows a percent sign.
                "UserKnownHostsFile": '"{}"'.format(str(self.known_hosts).replace("%", "%%")),
            }
        )
        options = {
            **trust,
            "BatchMode": "yes",
            "ConnectTimeout": 15,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 3,
            "LogLevel": "ERROR",
            **({"IdentitiesOnly": "yes"} if self.key else {}),
            **({"ProxyCommand": self.proxy_command} if self.proxy_command else {}),
        }
        identity = ["-i", str(Path(self.key).expanduser())] if self.key else []
        return ["ssh", *identity, *(f"-o{name}={value}" for name, value in options.items())]

    def where(self) -> list[str]:
        """User and host as the last words of ``ssh``; neither can be taken for an option."""
        return ["-l", self.user, "--", self.address]


@contextmanager
def tunnel(host: Host, ports: Sequence[int]) -> Iterator[list[int]]:
    """Brings loopback ports of a host to loopback ports here, while the context lasts.

    Yields:
        The ports here, in the order of those there.

    Raises:
        ResourceError: The host cannot be reached.
    """
    here = free_ports(len(ports))
    forwards = [
        f"-L127.0.0.1:{ours}:127.0.0.1:{theirs}" for ours, theirs in zip(here, ports, strict=True)
    ]
    command = [*host.command(), "-N", "-oExitOnForwardFailure=yes", *forwards, *host.where()]
    with forwarding(command, here, f"cannot reach {host.name}"):
        yield here


@contextmanager
def forwarding(command: Sequence[str], ports: Sequence[int], trouble: str) -> Iterator[None]:
    """Runs a program that forwards ports, from when they are open to the end of the context.

    Raises:
        ResourceError: It is not installed, or ends before the ports are open.
    """
    with tempfile.TemporaryFile() as said:
        try:
            # In a session of its own: a Ctrl-C that detaches from a log is not meant for it.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise ResourceError(f"{trouble}: {command[0]} is not installed here.") from None
        with ExitStack() as stack:
            stack.callback(process.wait)
            stack.callback(process.terminate)
            for _ in range(300):
                if process.poll() is not None:
                    said.seek(0)
                    raise ResourceError(f"{trouble}: {_last(said.read().decode(errors='replace'))}")
                if all(_is_open(port) for port in ports):
                    break
                time.sleep(0.1)
            else:
                raise ResourceError(f"{trouble}: the tunnel did not open within 30 s")
            for port in ports:
                found = listeners.read(Here().run(listeners.script(port)).output)
                if found and found.others:  # a token is about to be sent through it
                    raise ResourceError(f"{trouble}: another user took port {port}. Try again.")
            yield


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nothing listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says no more"
