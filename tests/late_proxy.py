"""A real HTTP proxy before a tracking server, which spoils single answers as a network does."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlflow_server import Server

_OWN = {"transfer-encoding", "content-length", "connection", "date", "server"}


class Proxy:
    """Passes on everything but what `spoil` names.

    Args:
        server: Where to.

    Attributes:
        uri: Its address.
        asked: Paths of all requests that came.
    """

    def __init__(self, server: Server) -> None:
        self.asked: list[str] = []
        self.spoiled = threading.Event()
        self._server = server
        self._lock = threading.Lock()
        self._path, self._count, self._how = "", 0, ""
        self._go_on = threading.Event()
        self._done = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever)
        self.uri = f"http://127.0.0.1:{self._http.server_port}"

    def spoil(self, path: str, how: str, number: int = 1) -> None:
        """Spoils one request to come.

        Args:
            path: How its path ends.
            how: ``cut``: done, but no answer comes; ``held``: done, but no answer comes in time;
                ``lost``: not done, no answer; ``delayed``: done when `release` is called.
            number: Which of these requests, counted from 1.
        """
        with self._lock:
            self._path, self._count, self._how = path, number, how
        for event in (self.spoiled, self._go_on, self._done):
            event.clear()

    def release(self) -> None:
        """Lets a delayed request be done, and waits until it is."""
        self._go_on.set()
        assert self._done.wait(60)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _fault(self, path: str) -> str:
        with self._lock:
            self.asked.append(path)
            if not self._path or not path.endswith(self._path):
                return ""
            self._count -= 1
            return self._how if self._count == 0 else ""

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response, data

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self._body()
                dropped = {"host", "accept-encoding", *_OWN}
                headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
                fault = proxy._fault(self.path)
                if fault == "delayed":
                    proxy.spoiled.set()
                    proxy._go_on.wait()
                if fault != "lost":
                    response, data = proxy._ask(self.command, self.path, body, headers)
                if fault == "held":
                    proxy.spoiled.set()
                    proxy._go_on.wait()
                if fault:
                    proxy.spoiled.set()
                    proxy._done.set()
                    self.close_connection = True
                    return
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in _OWN:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while length := int(self.rfile.readline(), 16):
                    body += self.rfile.read(length)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_POST

            def log_message(self, *_: object) -> None:
                pass

        return Handler
