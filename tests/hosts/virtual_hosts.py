"""Hosts of their own on one machine, for tests that need a cluster of several.

Each host is a set of Linux namespaces: its own network with an address on a common bridge, its own
processes, host name, /tmp, /dev/shm and home folder, and an SSH server that lets one key in. The
root file system is this machine's, so nothing has to be installed on them. This machine itself has
an address on the bridge too: it is the laptop from which the hosts are reached.
"""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_HOME = Path("/root")
_SHM_MB = 1024
_READY_S = 20.0

_SPACES = ("--mount", "--pid", "--uts", "--ipc")
_TOOLS = (
    "ip",
    "unshare",
    "setpriv",
    "nsenter",
    "mount",
    "ps",
    "sshd",
    "ssh",
    "ssh-keygen",
    "rsync",
)

_START = """\
set -e
hostname {name}
mount --make-rprivate /
{binds}
mount --rbind {folder}/root {home}
mount --rbind {folder}/tmp /tmp
mount -t tmpfs -o size={shm}m tmpfs /dev/shm
mount --bind {hosts_file} /etc/hosts
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
cd /
exec {sshd} -D -e -f {config}
"""

_SSHD = """\
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
MaxStartups 50
PidFile none
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Host:
    """One virtual host.

    Attributes:
        name: Its host name.
        address: Its IPv4 address on the bridge.
        folder: What backs its /root and /tmp, seen from outside.
        key: Private SSH key that it lets in as root.
    """

    name: str
    address: str
    folder: Path
    key: Path
    _init: int
    _wire: str

    def run(self, command: str, *, timeout_s: float = 60.0) -> str:
        """Runs a line of bash on the host, not by way of its network, and gives its output.

        Raises:
            RuntimeError: It failed; the message holds what it printed.
        """
        enter = ["nsenter", f"--target={self._init}", "--all", f"--wd={_HOME}", "--"]
        done = subprocess.run(
            [*enter, "env", "-i", f"HOME={_HOME}", "TERM=dumb", "bash", "-lc", command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {command}: {done.stdout}{done.stderr}")
        return done.stdout

    def processes(self) -> dict[int, str]:
        """Command lines by process id; the SSH server's and those of `run` are left out."""
        listed = self.run("exec ps -e -o pid=,ppid=,args= --width 500")
        rows = [line.split(maxsplit=2) for line in listed.splitlines()]
        return {
            int(pid): args
            for pid, parent, args in rows
            if parent != "0" and not args.startswith(("sshd:", "sshd-session:"))
        }

    def cut_off(self) -> None:
        """Takes the host off the network: no packet comes or goes from now on."""
        _run("ip", "link", "set", self._wire, "down")

    def reconnect(self) -> None:
        """Puts the host back on the network."""
        _run("ip", "link", "set", self._wire, "up")


def missing() -> str | None:
    """Why hosts cannot be made here, or None."""
    if os.name != "posix" or sys.platform != "linux":
        return "virtual hosts need Linux"
    if os.geteuid() != 0:
        return "virtual hosts need root"
    absent = [tool for tool in _TOOLS if _find(tool) is None]
    if absent:
        return f"virtual hosts need {', '.join(absent)} (iproute2, openssh-server, rsync)"
    probe = subprocess.run(["unshare", "--net", *_SPACES, "--fork", "true"], capture_output=True)
    return None if probe.returncode == 0 else "namespaces cannot be made here"


@contextmanager
def virtual_hosts(
    names: Iterable[str], folder: Path, *, visible: Iterable[Path] = ()
) -> Iterator[list[Host]]:
    """Hosts that live as long as the context.

    Args:
        names: Host names.
        folder: Where their files are kept, a new folder of the caller's.
        visible: Folders that every host sees under their path here even if that is below /tmp or
            /root, which are each host's own: shared storage, say. Python's and this checkout's
            are always among them.

    Yields:
        The hosts, in the order of their names, each with its SSH server answering.
    """
    names = list(names)
    net = _free_network()
    tag = f"kd{secrets.token_hex(2)}"
    folder.mkdir(parents=True, exist_ok=True)
    _write_keys(folder)
    table = ["127.0.0.1 localhost", *(f"{net}.{10 + n} {name}" for n, name in enumerate(names))]
    (folder / "hosts").write_text("\n".join(table) + "\n")
    with ExitStack() as stack:
        _run("ip", "link", "add", tag, "type", "bridge")
        stack.callback(_run, "ip", "link", "del", tag)
        _run("ip", "addr", "add", f"{net}.1/24", "dev", tag)
        _run("ip", "link", "set", tag, "up")
        hosts = [
            stack.enter_context(_host(name, f"{net}.{10 + n}", f"{tag}{n}", tag, folder, visible))
            for n, name in enumerate(names)
        ]
        for host in hosts:
            _await_ssh(host)
        yield hosts


@contextmanager
def _host(
    name: str, address: str, wire: str, bridge: str, folder: Path, visible: Iterable[Path]
) -> Iterator[Host]:
    own = folder / name
    (own / "tmp").mkdir(parents=True)
    (own / "root").mkdir()
    (own / "root" / ".profile").write_text(f"PATH={sys.prefix}/bin:$PATH\n")
    with ExitStack() as stack:
        _run("ip", "netns", "add", wire)
        stack.callback(_run, "ip", "netns", "del", wire)
        _run("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", wire)
        # The kernel keeps a network alive for a while for connections that nobody closed.
        stack.callback(_run, "ip", "link", "del", wire)
        inside = ["ip", "-n", wire]
        _run("ip", "link", "set", wire, "master", bridge, "up")
        _run(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "link", "set", "eth0", "up")
        # Nothing answers there, but without a default route Ray takes the host's address for
        # 127.0.0.1.
        _run(*inside, "route", "add", "default", "via", address.rsplit(".", 1)[0] + ".1")
        log = stack.enter_context((own / "sshd.log").open("w"))
        spaces = ["unshare", *_SPACES, "--fork", "--kill-child", "--mount-proc"]
        start = ["bash", "-c", _start_script(name, own, folder, visible)]
        process = subprocess.Popen(
            # A test that is killed takes its hosts along.
            ["setpriv", "--pdeathsig=KILL", "ip", "netns", "exec", wire, *spaces, *start],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(_HOME)},
            start_new_session=True,
        )
        stack.callback(_end, process)
        yield Host(name, address, own, folder / "key", _first_child(process), wire)


def _start_script(name: str, own: Path, folder: Path, visible: Iterable[Path]) -> str:
    """What the host's first process does before it becomes the SSH server."""
    config = own / "sshd_config"
    config.write_text(_SSHD.format(folder=folder))
    checkout = Path(__file__).parents[2]
    wanted = {Path(sys.prefix), Path(sys.base_prefix), checkout, folder, *visible}
    binds = []
    for path in sorted(wanted):
        for base, mine in ((_HOME, own / "root"), (Path("/tmp"), own / "tmp")):
            if path.is_relative_to(base):
                target = mine / path.relative_to(base)
                binds += [f"mkdir -p {target}", f"mount --bind {path} {target}"]
    return _START.format(
        name=name,
        binds="\n".join(binds),
        folder=own,
        home=_HOME,
        shm=_SHM_MB,
        hosts_file=folder / "hosts",
        sshd=_find("sshd"),
        config=config,
    )


def _write_keys(folder: Path) -> None:
    for name in ("key", "host_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name))


def _free_network() -> str:
    """The first three numbers of a network that no interface of this machine is in."""
    listed = json.loads(_run("ip", "-json", "-4", "addr"))
    used = {
        info["local"].rsplit(".", 1)[0] for link in listed for info in link.get("addr_info", ())
    }
    return next(net for n in range(77, 256) if (net := f"10.{n}.0") not in used)


def _first_child(process: subprocess.Popen) -> int:
    """Process id, here, of the host's first process."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        if pids := children.read_text().split():
            return int(pids[0])
        time.sleep(0.02)
    raise RuntimeError("a virtual host did not start; its sshd.log says why")


def _await_ssh(host: Host) -> None:
    deadline = time.monotonic() + _READY_S
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    command = ["ssh", "-i", str(host.key), *options, f"root@{host.address}", "true"]
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        if time.monotonic() > deadline:
            log = (host.folder / "sshd.log").read_text()
            raise RuntimeError(f"{host.name} does not answer: {done.stderr}{log}")
        time.sleep(0.1)


def _end(process: subprocess.Popen) -> None:
    """Ends a host: with its first process the kernel ends all of them."""
    process.kill()
    process.wait()


def _find(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout
