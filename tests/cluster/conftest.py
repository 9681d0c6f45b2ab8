"""What stands in for a Ray dashboard and for kubectl: there is no Kubernetes here."""

import base64
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from forwarder import FORWARDER

from kdsweep.cluster import daemons


@pytest.fixture
def ray_cluster_of_others():
    """A dashboard that wants a token, as Ray's does; notes the tokens that it was shown."""
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            shown.append(given)
            ok = given == "Bearer right"
            self.send_response(200 if ok else 403 if given else 401)
            self.end_headers()
            self.wfile.write(b'{"ray_version": "2.60.0"}' if ok else b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", shown
        server.shutdown()


@pytest.fixture
def own_parents(tmp_path, monkeypatch):
    """Folders for Ray's files that no other test and no real cluster has, and that do not stay."""
    parent_of, names = daemons._parent, set()

    def own(cluster: str) -> str:
        names.add(name := f"{cluster} of {tmp_path}")
        return parent_of(name)

    monkeypatch.setattr(daemons, "_parent", own)
    yield
    made = " ".join(map(parent_of, names))
    subprocess.run(["bash", "-c", f"rmdir {made} 2>/dev/null"], check=False)


STAND_IN = """\
#!{python}
# Stands in for kubectl: answers from files, notes its calls, forwards to a given port. It waits
# until somebody has looked for events so often, or for ever, as `waits` says.
import json, os, sys, time
from pathlib import Path
folder = Path({folder!r})
words = sys.argv[1:]
with (folder / "calls").open("a") as file:
    file.write(json.dumps(words) + "\\n")
state, version = folder / "state", folder / "version"
def looks():
    return (folder / "calls").read_text().count('"events"')
def answer(name):
    path = folder / name
    print(path.read_text() if path.exists() else json.dumps({{"items": []}}))
if "--dry-run=server" in words:
    refusal = folder / "refusal"
    sys.exit(refusal.read_text() if refusal.exists() else 0)
elif "apply" in words:
    state.write_text("ready its-own-head-svc")
    if not (folder / "unchanged").exists():
        version.write_text(str(int(version.read_text()) + 1) if version.exists() else "1")
    if (folder / "events-then").exists():
        (folder / "events-then").rename(folder / "events")
elif "wait" in words and (folder / "waits").exists():
    waits = json.loads((folder / "waits").read_text())
    (folder / "waiting").write_text(str(os.getpid()))
    until = looks() + waits["looks"]
    while looks() < until:
        time.sleep(0.01)
    sys.exit(waits["words"] or 0)
elif "events" in words:
    if (folder / "forbidden").exists():
        sys.exit((folder / "forbidden").read_text())
    answer("events")
elif "pods" in words:
    answer("pods")
elif "jsonpath={{.metadata.resourceVersion}} {{.status}}" in words:
    status = (folder / "status").read_text() if (folder / "status").exists() else ""
    print(f"{{version.read_text()}} {{status}}" if version.exists() else "", end="")
elif "delete" in words:
    state.unlink(missing_ok=True)
elif "raycluster" in words and "get" in words:
    print(state.read_text() if state.exists() else "", end="")
elif "secret" in words:
    print({secret!r}, end="")
elif "port-forward" in words:
    here = int(words[-1].partition(":")[0])
    os.execv(sys.executable, [sys.executable, {forwarder!r}, str(here), {target!r}])
"""


@pytest.fixture
def stand_in_kubectl(tmp_path, ray_cluster_of_others):
    """A stand-in for kubectl, for the order of its calls only: there is no Kubernetes here."""
    url, _ = ray_cluster_of_others
    folder = tmp_path / "kubectl"
    folder.mkdir()
    (folder / "forwarder.py").write_text(FORWARDER)
    program = folder / "kubectl"
    program.write_text(
        STAND_IN.format(
            python=sys.executable,
            folder=str(folder),
            secret=base64.b64encode(b"right").decode(),
            forwarder=str(folder / "forwarder.py"),
            target=url.rpartition(":")[2],
        )
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder
