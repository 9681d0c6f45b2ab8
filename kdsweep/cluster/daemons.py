"""The shell that starts and ends what a cluster file starts: Ray and MLflow, each by a pid file.

A cluster file says `ray start ...`, as Ray's own tools want it. kdsweep runs the same command as a
process that it can name later, so that the end of a cluster ends these processes and no others:
`ray stop` would end every Ray of the machine.
"""

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

What = Literal["ray", "mlflow"]

ENDED = 3
"""Exit code of `alive` where the daemon does not run."""
ENDS = "kdsweep-ends-"
"""What `stop` prints before the name of a daemon that runs."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+)
    | (?P<word>(?:[0-9]*[<>]{1,2}&[0-9-]|&>{1,2}|'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s;&|'"\\])+)
    | (?P<operator>&&|\|\||[;&|\n])""",
    re.VERBOSE,
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_RAY = {
    "RAY_AUTH_MODE": "token",
    # On SIGTERM a node waits so long for work to leave it; Ray's 30 s make every end slow.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "10",
}
# Fails once the process k has ended, also where its parent does not ask for it (a zombie), as the
# first process of a container may not: signals reach it for ever then. macOS has no /proc.
_RUNS = (
    'kill -0 "$k" 2>/dev/null && ! { grep ^State: /proc/"$k"/status || ps -o state= -p "$k"; } '
    "2>/dev/null | grep -q Z"
)
_BACKGROUND = ("nohup", "setsid", "exec", "env", "command")


@dataclass(frozen=True)
class Daemon:
    """A command of a cluster file that starts a process which stays.

    Attributes:
        what: ``ray`` or ``mlflow``.
        before: Shell in front of it on the same line, its operator included.
        assignments: ``NAME=VALUE`` words in front of it, as written.
        exported: The same of an ``export`` that comes before it on the line.
        command: The command itself, as written, without what puts it in the background.
        trouble: Why kdsweep cannot start it; empty where it can.
    """

    what: What
    before: str
    assignments: tuple[str, ...]
    command: str
    exported: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that are set for it, without the shell's quotes."""
        pairs = (plain(word).partition("=") for word in (*self.exported, *self.assignments))
        return {name: value for name, _, value in pairs}

    @property
    def program(self) -> str:
        """Its first word, as written: ``ray``, ``~/venv/bin/ray``."""
        return self.command.split(maxsplit=1)[0]

    def option(self, name: str) -> str | None:
        """The value of an option (``--port 5000``, ``--port=5000``); None where it is not given.

        The last one counts, as for the programs themselves; one without a value gives "".
        """
        words = [plain(word) for word in _words(self.command)]
        value = None
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == name:
                value = following
            elif word.startswith(f"{name}="):
                value = word.partition("=")[2]
            elif len(name) == 2 and word.startswith(name):  # -p5000
                value = word[2:]
        return value


def plain(word: str) -> str:
    """A word of the shell without its quotes."""
    try:
        return " ".join(shlex.split(word))
    except ValueError:
        return word


def parse(line: str) -> Daemon | None:
    """Finds the daemon that a line of shell starts; None where it starts none."""
    pieces = [match for match in _TOKEN.finditer(line) if match.lastgroup != "space"]
    commands: list[list[re.Match[str]]] = [[]]
    for piece in pieces:
        if piece.lastgroup == "operator":
            commands.append([])
        else:
            commands[-1].append(piece)
    exported: list[str] = []
    for words in commands:
        if words and words[0].group() == "export":
            exported += [word.group() for word in words[1:] if _ASSIGNMENT.match(word.group())]
        found = _daemon(words)
        if found is not None:
            what, assignments, first = found
            before = line[: words[0].start()].lstrip()
            after = line[words[-1].end() :].strip()
            command = line[first.start() : words[-1].end()]
            trouble = _trouble(before, after)
            return Daemon(what, before, assignments, command, tuple(exported), trouble)
    return None


def _daemon(words: list[re.Match[str]]) -> tuple[What, tuple[str, ...], re.Match[str]] | None:
    assignments = []
    for index, word in enumerate(words):
        text = word.group()
        if _ASSIGNMENT.match(text):
            assignments.append(text)
        elif text not in _BACKGROUND:
            rest = [plain(later.group()) for later in words[index : index + 4]]
            what = _what(rest)
            return None if what is None else (what, tuple(assignments), word)
    return None


def _what(words: list[str]) -> What | None:
    program = words[0].rpartition("/")[2]
    if program.startswith("python") and words[1:3] == ["-m", "mlflow"]:
        program, words = "mlflow", words[2:]
    if program == "ray" and words[1:2] == ["start"]:
        return "ray"
    return "mlflow" if program == "mlflow" and words[1:2] == ["server"] else None


def _trouble(before: str, after: str) -> str:
    if after not in ("", "&", ";"):
        return f"must be the last command of its line; {after!r} follows it"
    if before and not before.rstrip().endswith((";", "&&")):
        return f"can only follow ';' or '&&' on its line, not {before.rstrip()[-1:]!r}"
    return ""


def _words(text: str) -> list[str]:
    return [match.group() for match in _TOKEN.finditer(text) if match.lastgroup == "word"]


def folder(cluster: str) -> str:
    """Folder of a cluster on each of its nodes, for the shell; quoted, $HOME open."""
    return f'"$HOME"/{shlex.quote(f".kdsweep/clusters/{cluster}")}'


def token_path(cluster: str) -> str:
    """File of a cluster's token on each of its nodes, for rsync: relative to the home folder."""
    return f"~/.kdsweep/clusters/{cluster}/token"


def start(daemon: Daemon, cluster: str, extra: Mapping[str, str] = MappingProxyType({})) -> str:
    """One line of shell that starts a daemon, in place of an earlier one of the same name.

    The line ends when the daemon has left its pid, so that the end of an SSH session, which sends
    a hang-up to what it still holds, cannot meet it half way.

    Args:
        daemon: The command of the cluster file.
        cluster: Name of the cluster.
        extra: Variables that Ray needs besides; plain words.
    """
    block = " --block" if daemon.what == "ray" and daemon.option("--block") is None else ""
    tag = shlex.quote(_tag(cluster, daemon.what))
    exports = list(daemon.assignments)
    if daemon.what == "ray":
        exports += [f"{name}={value}" for name, value in {**_RAY, **extra}.items()]
        exports.append(f"RAY_AUTH_TOKEN_PATH={folder(cluster)}/token")
    export = f"export {' '.join(exports)} && " if exports else ""
    is_head, given = daemon.option("--head") is not None, daemon.option("--temp-dir") is not None
    own = f" --temp-dir={_parent(cluster)}/ray" if is_head and not given else ""
    # Workers take the path from their head, and make the same folder on their node.
    safe = _make_parent(cluster) if daemon.what == "ray" and not given else ""
    inner = f'echo $$ > "$0"; {daemon.before}{export}exec {daemon.command}{own}{block}'
    return (
        f"{stop(cluster, daemon.what)}; "
        f'(umask 077; mkdir -p "$d"; : > "$p"); {safe}'
        f'KDSWEEP_DAEMON={tag} setsid bash -c {shlex.quote(inner)} "$p" '
        f'> "$d/{daemon.what}.log" 2>&1 < /dev/null & '
        f'for i in $(seq 100); do [ -s "$p" ] && break; sleep 0.1; done'
    )


def inner(line: str) -> str:
    """The shell that runs in the background for a line made by `start`."""
    words = shlex.split(line)
    return words[words.index("-c") + 1].partition("; ")[2]


def stop(cluster: str, what: What) -> str:
    """One line of shell that ends a daemon and waits for its end; it may have ended before.

    It prints `ENDS` where it had not.

    A pid is believed only while its process carries the daemon's name in its environment: pids
    are used again.
    """
    # Its children are of its process group: what outlives it for some seconds ends here too.
    group = 'kill -KILL -- -"$k" 2>/dev/null'
    return (
        f"{_find(cluster, what)}; "
        f'if [ -n "$k" ]; then echo {ENDS}{what}; kill -TERM "$k"; '
        f"for i in $(seq 600); do {_RUNS} || break; sleep 0.1; done; "
        f'{group}; fi; rm -f "$p"'
    )


def alive(cluster: str, what: What) -> str:
    """One line of shell that succeeds where a daemon runs.

    Where it does not, it prints the end of its log and exits with `ENDED`. Another code, such as
    of a machine that can start no process, says nothing of the daemon.
    """
    return f'{_find(cluster, what)}; [ -n "$k" ] || {{ tail -n 20 "$d/{what}.log"; exit {ENDED}; }}'


def _find(cluster: str, what: What) -> str:
    """Sets d (folder of this node), p (pid file) and k (pid; empty where it does not run)."""
    tag = shlex.quote(f"KDSWEEP_DAEMON={_tag(cluster, what)}")
    # Of this node, because home folders are often shared by all nodes of a cluster. A process that
    # is just becoming another program (exec) has no environment for a moment: it is asked again.
    return (
        f'd={folder(cluster)}/"$(uname -n)"; p="$d/{what}.pid"; k=$(cat "$p" 2>/dev/null); e=; '
        f"for i in $(seq 20); do {_RUNS} || break; "
        f"e=$({{ tr '\\0' '\\n' < /proc/\"$k\"/environ "
        f'|| ps eww -o command= -p "$k" | tr " " "\\n"; }} 2>/dev/null); '
        f'[ -n "$e" ] && break; sleep 0.1; done; '
        f"printf '%s\\n' \"$e\" | grep -qxF -- {tag} || k="
    )


def _parent(cluster: str) -> str:
    """Where Ray's temporary folder lies, which no other Ray uses and no other user may change.

    A job joins the cluster that was last noted there; in /tmp/ray, where all Rays of a machine
    leave their notes, that may be somebody else's. Short, because the paths of sockets are.
    """
    mark = hashlib.blake2b(cluster.encode(), digest_size=4).hexdigest()
    return f'/tmp/kdsweep-"$(id -u)"-{mark}'


def _make_parent(cluster: str) -> str:
    """Makes that folder, or ends where another user was there first. Ray opens its own to all."""
    return (
        f't={_parent(cluster)}; mkdir -p -m 700 "$t"; if [ -L "$t" ] || [ ! -O "$t" ]; '
        f'then echo "$t is not this user\'s folder: remove it, or have it removed"; exit 1; fi; '
        f'chmod 700 "$t"; '
    )


def _tag(cluster: str, what: What) -> str:
    return f"{cluster}/{what}"
