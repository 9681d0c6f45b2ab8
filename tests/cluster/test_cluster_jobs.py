"""What kdsweep asks of Ray Jobs, and what it makes of the answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kdsweep.cluster.jobs import Jobs, Link
from kdsweep.errors import SweepError

Answer = tuple[int, str]


@contextmanager
def dashboard(take: Callable[[int], Answer]) -> Iterator[Link]:
    """A dashboard that knows no job; `take` answers the n-th submission."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, "[]" if "jobs" in self.path else '{"ray_version": "2.60.0"}')

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
