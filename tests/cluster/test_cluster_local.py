"""A real sweep on a real cluster of this machine: launch, look, stop, resume, end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ports import free_ports

from kdsweep.cluster import daemons
from kdsweep.cluster.jobs import Link, ask
from kdsweep.environment import JOB

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.hosts, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SECRETS = {"AWS_SECRET_ACCESS_KEY": "aws-for-nobody", "MLFLOW_TRACKING_PASSWORD": "pw-for-nobody"}
SMALL = ("sweep.name=small", "sweep.confirm.top=0", "run.teacher.train.epochs=1")
SHORT = (*SMALL, "sweep.trials=2", "run.train.epochs=1")
LONG = (*SMALL, "sweep.trials=2", "run.train.epochs=400", "sweep.budget={}")


class Machine:
    """A laptop with a home folder of its own, and a cluster file with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.file = folder / "cluster.yaml"
        self.port, dashboard, mlflow, client, agent = free_ports(5)
        self.url = f"http://127.0.0.1:{dashboard}"
        text = (ROOT / "cluster" / "local.yaml").read_text()
        own = f"--port={self.port} --ray-client-server-port={client}"
        own += f" --dashboard-agent-listen-port={agent} --num-cpus=2"
        own += " --object-store-memory=100000000"
        for old, new in (
            ("--port=6379", own),
            ("8265", str(dashboard)),
            ("5000", str(mlflow)),
            ("cluster_name: local ", "cluster_name: test-local "),
        ):
            assert old in text
            text = text.replace(old, new)
        self.file.write_text(text)

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.Popen(
            [sys.executable, "-m", "kdsweep", *words],
            env={**kept, "HOME": str(self.home), **SECRETS, **variables},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_hear_ctrl_c,
        )

    def run(self, *words: str, **variables: str) -> tuple[int, str]:
        process = self.start(*words, **variables)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def on_cluster(self, *words: str) -> tuple[int, str]:
        return self.run(*words, "--cluster", str(self.file))

    def processes(self) -> list[str]:
        """Command lines of what this cluster runs, by home folder or cluster in the environment."""
        mine = (f"HOME={self.home}", "KDSWEEP_DAEMON=test-local/")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_text(errors="replace").split("\0")
                line = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            ours = any(entry.startswith(mine) for entry in environment)
            if line and (ours or f":{self.port}" in line):
                found.append(line)
        return found

    def journal(self) -> list[dict]:
        path = self.home / "kdsweep_runs" / "sweeps" / "small" / "journal.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _hear_ctrl_c() -> None:
    """As in a terminal: what a shell runs in the background ignores it, and its children do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    machine = Machine(tmp_path_factory.mktemp("cluster"))
    yield machine
    machine.on_cluster("down")
    parent = f"echo {daemons._parent('test-local')}"  # of Ray's files, which stay
    told = subprocess.run(["bash", "-c", parent], capture_output=True, text=True, check=True)
    shutil.rmtree(told.stdout.strip(), ignore_errors=True)


def wait_for(holds, what: str, timeout_s: float = 240.0) -> None:
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, f"waited in vain for: {what}"
        time.sleep(0.5)


def test_a_sweep_on_a_cluster_from_launch_to_the_end_of_the_cluster(machine):
    launches_detached(machine)
    lets_in_only_with_the_token(machine)
    refuses_a_second_launch(machine)
    stops_so_that_it_can_be_resumed(machine)
    resumes_and_finishes(machine)
    keeps_secrets_to_itself(machine)
    ends_without_a_trace(machine)


def launches_detached(machine: Machine) -> None:
    sweep = str(ROOT / "search_spaces" / "digits.yaml")
    code, said = machine.on_cluster("launch", sweep, *LONG, "--detach")
    assert code == 0, said
    assert "Starting cluster test-local (this machine)." in said
    assert "Job kdsweep-small runs sweep small on the cluster." in said
    assert f"Next:  kdsweep logs small -f --cluster {machine.file}" in said
    wait_for(lambda: any(event["event"] == "epoch" for event in machine.journal()), "an epoch")


def lets_in_only_with_the_token(machine: Machine) -> None:
    assert ask(Link(machine.url)) == "no token"
    assert ask(Link(machine.url, "wrong")) == "wrong token"
    code, said = machine.run("status", "--address", machine.url)
    assert code == 2
    assert "asks for a token" in said
    code, said = machine.run("status", "--address", machine.url, RAY_AUTH_TOKEN="wrong")
    assert code == 2
    assert "does not accept this token" in said
    path = machine.home / ".kdsweep" / "clusters" / "test-local" / "token"
    code, said = machine.run("status", "--address", machine.url, RAY_AUTH_TOKEN_PATH=str(path))
    assert code == 0, said
    assert "small" in said
    assert "running" in said


def refuses_a_second_launch(machine: Machine) -> None:
    sweep = str(ROOT / "search_spaces" / "digits.yaml")
    code, said = machine.on_cluster("launch", sweep, *LONG)
    assert code == 2
    assert "sweep 'small' is running on this cluster already: job kdsweep-small" in said


def stops_so_that_it_can_be_resumed(machine: Machine) -> None:
    following = machine.start("logs", "small", "-f", "--cluster", str(machine.file))
    code, said = machine.on_cluster("stop", "small")
    assert code == 0, said
    assert "Job kdsweep-small stopped." in said
    assert "Next:  kdsweep resume small" in said
    log, _ = following.communicate(timeout=120)
    assert following.returncode == 130, log
    assert "Go on:   kdsweep resume small" in log
    assert machine.journal()[-1]["state"] == "interrupted"
    code, said = machine.on_cluster("status", "small")
    assert "stopped" in said


def resumes_and_finishes(machine: Machine) -> None:
    """The sweep of long trials goes on and is stopped again; a short one runs to its end."""
    started = len(machine.journal())
    following = machine.start("resume", "small", "--cluster", str(machine.file))
    wait_for(
        lambda: any(event["event"] == "epoch" for event in machine.journal()[started:]),
        "an epoch after the resume",
    )
    following.send_signal(signal.SIGINT)  # looks away, and leaves the sweep alone
    said, _ = following.communicate(timeout=60)
    assert following.returncode == 0, said
    assert "joining it" in said
    assert "the sweep goes on" in said
    assert "running" in machine.on_cluster("status", "small")[1]
    assert machine.on_cluster("stop", "small")[0] == 0

    sweep = str(ROOT / "search_spaces" / "digits.yaml")
    code, said = machine.on_cluster("launch", sweep, *SHORT, "sweep.name=short")
    assert code == 0, said
    assert "Trials 5 finished" in said or "Trials 4 finished" in said
    assert "Job kdsweep-short finished." in said
    code, said = machine.on_cluster("resume", "short")
    assert code == 2  # what the driver refuses is refused here
    assert "nothing is left to do" in said


def keeps_secrets_to_itself(machine: Machine) -> None:
    folder = machine.home / ".kdsweep" / "clusters" / "test-local"
    token = (folder / "token").read_text()
    told = "".join(machine.on_cluster("logs", name)[1] for name in ("small", "short"))
    told += "".join(path.read_text(errors="replace") for path in folder.rglob("*.log"))
    told += "".join(_jobs(machine, token))
    assert "kdsweep_sweep" in told
    for secret in (token, *SECRETS.values()):
        assert secret not in told
    jobs = [job for text in _jobs(machine, token) for job in json.loads(text)]
    sent = [job["runtime_env"]["env_vars"] for job in jobs if job["type"] == "SUBMISSION"]
    assert sent
    assert all(variables == JOB for variables in sent)  # as a dry run lists them


def _jobs(machine: Machine, token: str) -> list[str]:
    import urllib.request

    request = urllib.request.Request(
        f"{machine.url}/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [json.dumps(json.load(answer))]


def ends_without_a_trace(machine: Machine) -> None:
    assert machine.processes()
    code, said = machine.on_cluster("down")
    assert code == 0, said
    assert "Cluster test-local is down." in said
    wait_for(lambda: not machine.processes(), f"no process: {machine.processes()}", 30.0)
    code, said = machine.on_cluster("status")
    assert code == 2
    assert "is not up" in said
    assert (machine.home / "kdsweep_runs" / "sweeps" / "short" / "journal.jsonl").is_file()
