"""The shell that starts and ends daemons: read from cluster files, and really run."""

import contextlib
import os
import re
import shutil
import signal
import string
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import runs

from kdsweep.cluster import daemons
from kdsweep.cluster.driver import make_driver
from kdsweep.cluster.jobs import next_id
from kdsweep.cluster.token import token_file
from kdsweep.spec.sweep import NAME_PATTERN

LINE = "KDSWEEP_HOME=/shared ray start --head --port=6379"


@pytest.mark.parametrize(
    ("line", "what", "command"),
    [
        ("ray start --head", "ray", "ray start --head"),
        ("A=1 B='x y' ~/venv/bin/ray start", "ray", "~/venv/bin/ray start"),
        ("ulimit -n 65536; ray start --head", "ray", "ray start --head"),
        ("source ~/v/bin/activate && ray start --head;", "ray", "ray start --head"),
        (
            "nohup mlflow server --port 1 > log 2>&1 &",
            "mlflow",
            "mlflow server --port 1 > log 2>&1",
        ),
        ("python3 -m mlflow server", "mlflow", "python3 -m mlflow server"),
        ("export RAY_HEAD_IP=1.2.3.4; A=1 ray start", "ray", "ray start"),
    ],
)
def test_a_daemon_is_found_however_it_is_written(line, what, command):
    found = daemons.parse(line)
    assert (found.what, found.command, found.trouble) == (what, command, "")


@pytest.mark.parametrize(
    "line", ["echo ray start", "ray stop", "pip install ray", "mkdir -p /x", "'ray start'", "A=ray"]
)
def test_other_commands_are_no_daemons(line):
    assert daemons.parse(line) is None


@pytest.mark.parametrize(
    "line", ["ray start | tee log", "ray start && echo up", "true || ray start"]
)
def test_what_cannot_be_put_in_the_background_is_told(line):
    assert daemons.parse(line).trouble


def test_variables_and_options_are_read_as_the_shell_reads_them():
    found = daemons.parse("export A='x y'; KDSWEEP_HOME=\"/a b\" ray start --port 7 --temp-dir=/t")
    assert found.environment == {"A": "x y", "KDSWEEP_HOME": "/a b"}
    assert (found.option("--port"), found.option("--temp-dir")) == ("7", "/t")


@pytest.mark.parametrize(
    ("words", "value"),
    [("--port=1 --port 2", "2"), ("--port=1 --port", ""), ("--head --port=", ""), ("--head", None)],
)
def test_the_last_of_an_option_counts(words, value):
    assert daemons.parse(f"ray start {words}").option("--port") == value


def test_a_prepared_line_is_left_alone():
    assert daemons.parse(daemons.start(daemons.parse(LINE), "name")) is None


@pytest.fixture
def node(tmp_path, monkeypatch, own_parents):
    """A home folder and a `ray` on the path that only waits and notes how it was called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / "ray"
    program.write_text('#!/bin/bash\nenv > "$NOTES"; echo "$@" >> "$NOTES"; exec sleep 1000\n')
    program.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    yield tmp_path
    for path in home.glob(".kdsweep/clusters/*/*/*.pid"):
        with contextlib.suppress(ValueError, ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


def bash(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def home_of(node: Path, cluster: str) -> Path:
    """Makes the folder of a cluster on this node."""
    folder = node / "home" / ".kdsweep" / "clusters" / cluster / os.uname().nodename
    folder.mkdir(parents=True)
    return folder


def pid_of(node: Path, cluster: str) -> int:
    (path,) = node.glob(f"home/.kdsweep/clusters/{cluster}/*/ray.pid")
    return int(path.read_text())


def wait_for(holds) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_daemon_starts_stays_and_ends(node):
    done = bash(daemons.start(daemons.parse(LINE), "one"))
    assert (done.returncode, done.stderr) == (0, "")
    pid = pid_of(node, "one")
    assert runs(pid)
    assert bash(daemons.alive("one", "ray")).returncode == 0
    noted = node / "notes"
    wait_for(lambda: noted.exists() and "--block" in noted.read_text())
    notes = (node / "notes").read_text().splitlines()
    own = rf"--temp-dir=(/tmp/kdsweep-{os.getuid()}-[0-9a-f]{{8}})/ray"
    started = re.fullmatch(rf"start --head --port=6379 {own} --block", notes[-1])
    assert started
    assert Path(started[1]).stat().st_mode & 0o777 == 0o700
    assert {"KDSWEEP_HOME=/shared", "RAY_AUTH_MODE=token"} <= set(notes)
    assert f"RAY_AUTH_TOKEN_PATH={node}/home/.kdsweep/clusters/one/token" in notes
    done = bash(daemons.stop("one", "ray"))
    assert (done.returncode, done.stdout) == (0, f"{daemons.ENDS}ray\n")
    assert not runs(pid)
    assert bash(daemons.stop("one", "ray")).stdout == ""
    assert bash(daemons.alive("one", "ray")).returncode != 0


def test_ray_does_not_start_in_a_folder_that_another_user_may_change(node):
    name = f"another-{os.getpid()}"
    parent = Path(bash(f"echo {daemons._parent(name)}").stdout.strip())
    parent.symlink_to(node)
    try:
        done = bash(daemons.start(daemons.parse(LINE), name))
    finally:
        parent.unlink()
    assert done.returncode == 1
    assert done.stdout == f"{parent} is not this user's folder: remove it, or have it removed\n"
    assert bash(daemons.alive(name, "ray")).returncode == daemons.ENDED


def test_a_daemon_that_is_just_becoming_its_program_is_not_taken_for_ended(node):
    """While a process calls exec, the kernel shows no environment of it."""
    waits = node / "waits"
    os.mkfifo(waits)
    becomes = f"read < {waits}; KDSWEEP_DAEMON=one/ray exec sleep 1000"
    bare = subprocess.Popen(["bash", "-c", becomes], env={})
    (home_of(node, "one") / "ray.pid").write_text(str(bare.pid))
    pause = node / "tools" / "sleep"  # who asks pauses before asking again, and that lets it go on
    lets = f"[ -p {waits} ] && echo > {waits} && rm {waits}"
    pause.write_text(f'#!/bin/bash\n{lets}\nexec /bin/sleep "$@"\n')
    pause.chmod(0o755)
    assert bash(daemons.alive("one", "ray")).returncode == 0
    bare.kill()
    bare.wait()


def test_a_second_start_replaces_the_first_and_a_second_stop_is_harmless(node):
    start = daemons.start(daemons.parse(LINE), "one")
    bash(start)
    first = pid_of(node, "one")
    bash(start)
    second = pid_of(node, "one")
    assert not runs(first)
    assert runs(second)
    assert [bash(daemons.stop("one", "ray")).returncode for _ in range(2)] == [0, 0]
    assert not runs(second)


def test_a_daemon_that_nobody_reaps_has_ended(node):
    """As in a container whose first process asks for no child (`docker run IMAGE sleep ...`)."""
    file = home_of(node, "one") / "ray.pid"
    becomes = f"echo $$ > {file}; exec env KDSWEEP_DAEMON=one/ray sleep 1000"
    with subprocess.Popen(["bash", "-c", becomes]) as child:  # asked for at the end only
        wait_for(lambda: bash(daemons.alive("one", "ray")).returncode == 0)
        assert bash(daemons.stop("one", "ray")).stdout == f"{daemons.ENDS}ray\n"
        os.kill(child.pid, 0)  # it can be signalled still
        file.write_text(f"{child.pid}\n")
        assert bash(daemons.alive("one", "ray")).returncode == daemons.ENDED
        assert bash(daemons.stop("one", "ray")).stdout == ""


def test_another_cluster_and_a_reused_pid_are_left_alone(node):
    bash(daemons.start(daemons.parse(LINE), "one"))
    bash(daemons.start(daemons.parse(LINE), "two"))
    mine, other = pid_of(node, "one"), pid_of(node, "two")
    (file,) = node.glob("home/.kdsweep/clusters/one/*/ray.pid")
    file.write_text(f"{other}\n")  # as if the pid of `one` had been given to another process
    bash(daemons.stop("one", "ray"))
    assert runs(other)
    os.kill(mine, signal.SIGKILL)


def test_a_daemon_that_fails_shows_its_log(node):
    (node / "tools" / "ray").write_text("#!/bin/bash\necho 'port is taken'; exit 1\n")
    bash(daemons.start(daemons.parse(LINE), "one"))
    wait_for(lambda: bash(daemons.alive("one", "ray")).returncode)
    assert "port is taken" in bash(daemons.alive("one", "ray")).stdout


NAMES = st.from_regex(NAME_PATTERN, fullmatch=True)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES)
def test_no_name_leaves_its_folder_or_breaks_the_shell(node, name):
    shutil.rmtree(node / "home", ignore_errors=True)
    (node / "home").mkdir()
    done = bash(daemons.start(daemons.parse(LINE), name))
    assert (done.returncode, done.stderr) == (0, "")
    pid = pid_of(node, name)
    made = {path.relative_to(node / "home").parts[:3] for path in node.glob("home/**/*.pid")}
    assert made == {(".kdsweep", "clusters", name)}
    assert {path.name for path in (node / "home").iterdir()} == {".kdsweep"}
    assert bash(daemons.stop(name, "ray")).returncode == 0
    assert not runs(pid)


@given(name=NAMES)
def test_the_token_and_the_job_of_a_name_stay_in_their_places(name):
    folder = Path.home() / ".kdsweep" / "clusters"
    assert token_file(name).resolve().is_relative_to(folder.resolve())
    assert next_id(name, set()) == f"kdsweep-{name}"


@settings(max_examples=25)
@given(
    name=NAMES,
    overrides=st.lists(
        st.text(string.printable + "äß'\"$`;|&", min_size=1, max_size=20), max_size=3
    ),
)
def test_an_entrypoint_passes_its_arguments_through_the_shell_unchanged(name, overrides):
    given_words = [f"run.x={text}".replace("\x00", "") for text in overrides]
    driver = make_driver("launch", name, None, given_words, home="/shared/it's")
    shell = driver.entrypoint("printf '%s\\0' #").replace("exec printf '%s\\0' #", "printf '%s\\0'")
    done = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=20, check=True)
    words = done.stdout.decode().split("\0")[:-1]
    assert words[:2] == ["-m", "kdsweep"]
    assert words[2:] == list(driver.arguments)
    assert words[words.index("--") + 2 :] == given_words


def test_a_resume_runs_under_the_first_free_id():
    assert next_id("s", {"kdsweep-s", "kdsweep-s-2"}) == "kdsweep-s-3"
