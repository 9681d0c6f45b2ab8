"""What kdsweep asks of Ray Jobs, and what it makes of the answers."""

import asyncio
import json
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ports import free_ports

from kdsweep.cluster.jobs import Jobs, Link
from kdsweep.cluster.launch import flag_of, follow, reach
from kdsweep.cluster.load import load_cluster
from kdsweep.errors import ResourceError, SpecError, SweepError

Answer = tuple[int, str]


@contextmanager
def dashboard(take: Callable[[int], Answer], jobs: str = "[]") -> Iterator[Link]:
    """A dashboard that knows these jobs; `take` answers the n-th submission."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, jobs if "jobs" in self.path else '{"ray_version": "2.60.0"}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            self._answer(*take(len(asked)))

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Link(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_cluster_that_cannot_take_a_job_yet_is_asked_again():
    taken = json.dumps({"submission_id": "kdsweep-a", "job_id": "kdsweep-a"})

    def take(count: int) -> Answer:
        late = "No available agent to submit job, please try again later."
        return (500, late) if count == 1 else (200, taken)

    with dashboard(take) as link:
        assert Jobs(link).submit("a", "true", {}) == "kdsweep-a"


def test_a_job_that_the_cluster_refuses_is_not_sent_again():
    def take(count: int) -> Answer:
        return (500, "no room") if count == 1 else (200, "{}")

    with dashboard(take) as link, pytest.raises(SweepError, match=r"(?s)job kdsweep-a: .*no room"):
        Jobs(link).submit("a", "true", {})


def test_a_sweep_that_runs_already_is_named_with_commands_that_can_be_pasted():
    running = {
        **{"type": "SUBMISSION", "submission_id": "kdsweep-a", "status": "RUNNING"},
        **{"entrypoint": "true", "metadata": {"kdsweep_sweep": "a"}, "start_time": 0},
    }
    with (
        dashboard(lambda _: (200, "{}"), json.dumps([running])) as link,
        pytest.raises(SweepError, match="is running on this cluster already") as caught,
    ):
        Jobs(link, "--cluster 'my c.yaml'").submit("a", "true", {})
    commands = str(caught.value).split("`")[1::2]
    assert [shlex.split(command) for command in commands] == [
        ["kdsweep", "logs", "a", "-f", "--cluster", "my c.yaml"],
        ["kdsweep", "stop", "a", "--cluster", "my c.yaml"],
    ]


@contextmanager
def fading_dashboard(port: int) -> Iterator[Link]:
    """A dashboard whose log streams break off, and that answers other questions with a trace."""
    from aiohttp import web

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"ray_version": "2.60.0"})

    async def tail(request: web.Request) -> web.WebSocketResponse:
        stream = web.WebSocketResponse()
        await stream.prepare(request)
        await stream.send_str("epoch 1\n")
        request.transport.abort()
        return stream

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=500, text="Traceback (most recent call last):\nKeyError: 'x'\n")

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/api/version", version)
        app.router.add_get("/api/jobs/{job}/logs/tail", tail)
        app.router.add_get("/api/jobs/{rest:.*}", broken)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await asyncio.to_thread(done.wait)
        await runner.cleanup()

    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    try:
        yield Link(f"http://127.0.0.1:{port}")
    finally:
        done.set()
        thread.join()


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # Ray's own call of aiohttp
def test_a_log_that_breaks_off_is_told_with_how_to_look_again():
    said, written = [], []
    with fading_dashboard(free_ports(1)[0]) as link:
        jobs = Jobs(link)
        with pytest.raises(ResourceError, match=r"connection to http://\S+ broke") as caught:
            jobs.follow("kdsweep-a", written.append)
        assert written == ["epoch 1\n"]
        with pytest.raises(ResourceError, match=r"Next:  kdsweep logs a -f --cluster 'my c.yaml'"):
            follow(jobs, "kdsweep-a", "a", "--cluster 'my c.yaml'", said.append)
    assert "code 1006" not in str(caught.value)


def test_a_trace_that_the_cluster_answers_with_is_told_in_one_line():
    with fading_dashboard(free_ports(1)[0]) as link:
        jobs = Jobs(link)
        for call in (jobs.all, lambda: jobs.get("x"), lambda: jobs.log("x")):
            with pytest.raises(ResourceError, match=r"answered: KeyError: 'x'") as caught:
                call()
            assert "Traceback" not in str(caught.value)


def test_the_next_command_names_a_cluster_file_as_the_shell_wants_it(tmp_path):
    path = tmp_path / "it's here" / "c.yaml"
    path.parent.mkdir()
    path.write_text((Path(__file__).parents[2] / "cluster" / "local.yaml").read_text())
    words = shlex.split(f"kdsweep status {flag_of(load_cluster(path))}")
    assert words == ["kdsweep", "status", "--cluster", str(path)]


def test_advice_about_a_cluster_file_can_be_pasted_whatever_its_path(tmp_path):
    path = tmp_path / "it's here" / "c.yaml"
    path.parent.mkdir()
    shipped = (Path(__file__).parents[2] / "cluster" / "local.yaml").read_text()
    path.write_text(shipped.replace("8265", str(free_ports(1)[0])))
    with pytest.raises(ResourceError, match="is not up") as caught, reach(load_cluster(path)):
        pass
    command = str(caught.value).split("`")[1]
    assert shlex.split(command)[-2:] == ["--cluster", str(path)]
    path.write_text("run: {}\nsweep: {}\n")
    with pytest.raises(SpecError, match="is a sweep file") as told:
        load_cluster(path)
    assert shlex.split(str(told.value).partition("Write: ")[2])[2] == str(path)
