"""A cluster that is slow to answer, or that two launches want at once, is never started twice."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder import FORWARDER
from ports import free_ports

from kdsweep.cluster import daemons, listeners, up
from kdsweep.cluster.jobs import ask
from kdsweep.cluster.launch import end
from kdsweep.cluster.launcher import Launcher, prepare
from kdsweep.cluster.load import load_cluster
from kdsweep.cluster.local import Here
from kdsweep.cluster.ssh import forwarding
from kdsweep.cluster.token import make_token, token_file, write_token
from kdsweep.errors import ResourceError

STAND_IN = """\
#!{python}
# Stands in for `ray start --head --block`: notes its start, and answers 503 while `busy` is there.
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
folder = Path({folder!r})
with (folder / "starts").open("a") as file:
    file.write(f"{{os.getpid()}}\\n")
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        (folder / "asked").touch()
        self.send_response(503 if (folder / "busy").exists() else 200)
        self.end_headers()
        version = b'{{"version": "4", "ray_version": "2.60.0", "ray_commit": ""}}'
        self.wfile.write(version if self.path == "/api/version" else b"[]")  # no jobs
    def log_message(self, *_):
        pass
port = next(word for word in sys.argv if word.startswith("--dashboard-port=")).partition("=")[2]
ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""

STAND_IN_SSH = """\
#!{python}
# Stands in for ssh to a machine that is this one: runs the script, or forwards a port.
import os, sys
words = sys.argv[1:]
if "-N" in words:
    _, here, _, there = next(word for word in words if word.startswith("-L")).split(":")
    os.execv(sys.executable, [sys.executable, {forwarder!r}, here, there])
os.execvp("bash", ["bash", "-c", words[-1]])
"""

FILE = """\
cluster_name: slow
provider: {{type: local, head_ip: 127.0.0.1, worker_ips: []}}
auth: {{ssh_user: unused}}
head_start_ray_commands:
  - KDSWEEP_HOME={folder}/runs {folder}/ray start --head --dashboard-port={port}
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch, own_parents) -> Iterator[Launcher]:
    """A cluster of this machine whose `ray` is a small server, and is ended by its pid."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    program = tmp_path / "ray"
    program.write_text(STAND_IN.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    path = tmp_path / "slow.yaml"
    path.write_text(FILE.format(folder=tmp_path, port=free_ports(1)[0]))
    yield load_cluster(path)
    for pid in starts(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def starts(folder: Path) -> list[int]:
    """The pids of all that was ever started."""
    path = folder / "starts"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_busy_cluster_is_refused_and_never_started_again(cluster, tmp_path, monkeypatch):
    said: list[str] = []
    with up.running(cluster, said.append) as link:
        assert ask(link) == "up"
    (pid,) = starts(tmp_path)
    (tmp_path / "busy").touch()
    monkeypatch.setattr(up, "_BUSY_S", 1.0)
    with (
        pytest.raises(ResourceError, match=r"'slow' runs on this machine, but has not answered"),
        up.running(cluster, said.append),
    ):
        pass
    assert starts(tmp_path) == [pid]
    os.kill(pid, 0)
    assert len([line for line in said if line.startswith("Starting")]) == 1


def test_a_cluster_that_answers_late_is_joined(cluster, tmp_path):
    said: list[str] = []
    with up.running(cluster, said.append):
        pass
    (tmp_path / "busy").touch()
    (tmp_path / "asked").unlink()

    def calm_down() -> None:
        while not (tmp_path / "asked").exists():
            pass
        (tmp_path / "busy").unlink()

    thread = threading.Thread(target=calm_down)
    thread.start()
    with up.running(cluster, said.append) as link:
        assert ask(link) == "up"
    thread.join()
    assert len(starts(tmp_path)) == 1
    assert said[-1] == "Cluster slow is up: joining it."


def test_a_cluster_whose_ray_has_ended_is_started_again(cluster, tmp_path):
    with up.running(cluster, lambda _: None):
        pass
    up.end(cluster, lambda _: None)
    with up.joined(cluster) as link:
        assert link is None
    with up.running(cluster, lambda _: None) as link:
        assert ask(link) == "up"
    assert len(starts(tmp_path)) == 2


def test_a_command_that_takes_too_long_is_told():
    with pytest.raises(ResourceError, match=r"has not ended a command within 1 s: exec sleep"):
        Here().run("exec sleep 60", timeout_s=1.0)


def test_a_command_that_fails_is_told_without_the_secret_in_it(cluster, tmp_path):
    lines = "setup_commands: ['export API_TOKEN=topsecret; echo $API_TOKEN >/dev/null; exit 5']\n"
    cluster.path.write_text(cluster.path.read_text() + lines)
    with pytest.raises(ResourceError, match=r"exit code 5: export API_TOKEN=\*\*\*;") as caught:
        up.start(load_cluster(cluster.path), lambda _: None)
    assert "topsecret" not in str(caught.value)
    assert starts(tmp_path) == []


def test_a_command_that_fails_shows_no_password_of_a_package_index(cluster):
    line = "echo Looking in https://me:topsecret@host/simple; false --index-url"
    line += " https://me:topsecret@pypi.example.com/simple kd"
    cluster.path.write_text(f"{cluster.path.read_text()}setup_commands: ['{line}']\n")
    with pytest.raises(ResourceError, match=r"https://\*\*\*@pypi.example.com") as caught:
        up.start(load_cluster(cluster.path), lambda _: None)
    assert "Looking in https://***@host/simple" in str(caught.value)
    assert "topsecret" not in str(caught.value)


def test_the_log_of_rays_launcher_is_told_without_the_secrets_in_it(cluster):
    with pytest.raises(ResourceError, match="The end of") as caught, up._logged(cluster, "start"):
        subprocess.run(["echo", "pip install -i https://me:topsecret@host/simple"], check=True)
        raise RuntimeError("export API_TOKEN=topsecret")
    assert "https://***@host/simple" in str(caught.value)
    assert "topsecret" not in str(caught.value)


def test_launches_at_the_same_moment_start_a_cluster_once(cluster, tmp_path):
    together, said, answers = threading.Barrier(3, timeout=60), [], []

    def launch() -> None:
        together.wait()
        with up.running(cluster, said.append) as link:
            together.wait()  # nobody waits for the end of another's sweep
            answers.append(ask(link))

    threads = [threading.Thread(target=launch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["up", "up", "up"]
    assert len(starts(tmp_path)) == 1
    assert len([line for line in said if line.startswith("Starting")]) == 1


def test_a_cluster_that_a_launch_is_starting_is_not_ended_before_it_is_up(cluster, tmp_path):
    started, said, ended = threading.Event(), [], []

    def say(text: str) -> None:
        said.append(text)
        started.set()  # by the first words of the one that waits

    def take_down() -> None:
        ended.append((end(cluster, say), len(starts(tmp_path))))

    thread = threading.Thread(target=take_down)
    with up.alone(cluster, lambda _: None):
        thread.start()
        assert started.wait(timeout=60)
        up.start(cluster, lambda _: None)
    thread.join()
    assert said[0] == "Another command starts, joins or ends cluster slow: waiting for it."
    assert ended == [(True, 1)]
    assert not end(cluster, say)  # nothing of it is left
    with up.joined(cluster) as link:
        assert link is None


@pytest.fixture
def by_ssh(cluster, tmp_path, monkeypatch) -> Launcher:
    """The same cluster as a host behind SSH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "forwarder.py").write_text(FORWARDER)
    ssh = tools / "ssh"
    ssh.write_text(
        STAND_IN_SSH.format(python=sys.executable, forwarder=str(tools / "forwarder.py"))
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    text = cluster.path.read_text().replace("127.0.0.1", "head.example.com")
    cluster.path.write_text(text)
    return load_cluster(cluster.path)


@pytest.mark.parametrize("way", ["cluster", "by_ssh"])
def test_a_stranger_on_the_dashboards_port_is_told_and_never_shown_the_token(
    way, request, ray_cluster_of_others
):
    cluster = request.getfixturevalue(way)
    url, shown = ray_cluster_of_others
    port = url.rpartition(":")[2]
    cluster.path.write_text(
        cluster.path.read_text().replace(f"port={cluster.dashboard_port}", f"port={port}")
    )
    cluster = load_cluster(cluster.path)
    write_token(cluster.name, "right")
    for enter in (up.joined(cluster), up.running(cluster, lambda _: None)):
        with pytest.raises(ResourceError, match=f"something else listens on port {port} of"), enter:
            pass
    assert shown == []


@pytest.mark.parametrize("way", ["cluster", "by_ssh"])
def test_the_token_is_shown_to_the_ray_that_runs_under_the_noted_pid(way, request, tmp_path):
    cluster = request.getfixturevalue(way)
    make_token(cluster.name)
    up._start_here(prepare(cluster, token_file(cluster.name)))
    with up.joined(cluster) as link:
        assert ask(link) == "up"
    up.end(cluster, lambda _: None)
    with up.joined(cluster) as link:
        assert link is None


LISTENER = """\
import os, socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    server.settimeout(60)
    os.setuid(65534)  # of the process; the socket stays with the user who made it
    other = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    other.settimeout(60)
    print("listens", flush=True)
    while other.accept()[0].recv(1) == b"":  # one that only looks whether the port is open
        pass
    print("was sent something", flush=True)
"""


@contextlib.contextmanager
def another_user_on(port: int) -> Iterator[int]:
    """Somebody who listens on a port and is sent nothing; gives a port of this user's own."""
    mine = free_ports(1)[0]
    words = [sys.executable, "-c", LISTENER, str(mine), str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout.readline() == "listens\n"
        try:
            yield mine
        finally:
            listener.kill()
        assert listener.stdout.read() == ""


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@only_root
def test_another_user_who_was_on_the_port_before_ray_is_not_shown_the_token(cluster, tmp_path):
    (tmp_path / "ray").write_text("#!/bin/bash\nexec sleep 1000\n")  # and never comes up
    port = cluster.dashboard_port
    with another_user_on(port) as mine:
        with pytest.raises(ResourceError, match=f"something else listens on port {port} of"):
            up.start(cluster, lambda _: None)
        up._run(Here(), daemons.alive(cluster.name, "ray"))  # and ours runs
        found = listeners.read(Here().run(listeners.script(mine)).output)
        assert (found.users, found.others) == ({found.us}, frozenset())
    up.end(cluster, lambda _: None)


@only_root
def test_a_tunnel_whose_port_another_user_took_is_not_used():
    (port,) = free_ports(1)
    with (
        pytest.raises(ResourceError, match=rf"^no way: another user took port {port}\."),
        another_user_on(port),
        forwarding(["sleep", "60"], [port], "no way"),
    ):
        pass
