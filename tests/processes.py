"""Whether processes that tests started, or that others started for them, have ended."""

from pathlib import Path


def born(pid: int) -> int | None:
    """When a process began, in ticks since the machine's start; None of one that has ended.

    A pid may be another process's later on; pid and beginning together are not. A process that
    has ended and whose parent has not asked for it yet (a zombie) has ended.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def runs(pid: int) -> bool:
    """Whether there is a process of this pid that has not ended."""
    return born(pid) is not None
