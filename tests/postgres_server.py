"""A real PostgreSQL server on the loopback interface, for as long as a test needs it."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ports import free_ports

PASSWORD = "database-Pa55word-of-kdsweep"


@dataclass(frozen=True)
class Postgres:
    """A database whose user has a password.

    Attributes:
        uri: Its address for MLflow, without the password.
        pgpass: File that tells the password to clients which `PGPASSFILE` points to it.
        log: What the server writes.
    """

    uri: str
    pgpass: Path
    log: Path


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Makes a server, and ends it; skips where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if not initdb or not pg_ctl:
        pytest.skip("PostgreSQL's programs initdb and pg_ctl are not installed")
    # Not below pytest's folders, which only their owner may enter: PostgreSQL refuses root.
    folder = Path(tempfile.mkdtemp(prefix="kdsweep-postgres-"))
    try:
        who: dict[str, Any] = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            who |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        (port,), secret = free_ports(1), folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        make = [initdb, "-D", "data", "--username=kdsweep", f"--pwfile={secret}", "--no-sync"]
        make += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        subprocess.run(make, **who)
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        control = [pg_ctl, "-D", "data", "-w"]
        subprocess.run([*control, "-l", "log", "-o", options, "start"], **who)
        try:
            pgpass = folder / "pgpass"
            pgpass.touch(mode=0o600)
            pgpass.write_text(f"127.0.0.1:{port}:postgres:kdsweep:{PASSWORD}\n")
            uri = f"postgresql+psycopg://kdsweep@127.0.0.1:{port}/postgres"
            yield Postgres(uri, pgpass, folder / "log")
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **who)
    finally:
        shutil.rmtree(folder)


def _program(name: str) -> str | None:
    """Debian keeps them off the PATH, a folder for each version."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(beside[-1]) if beside else None)
