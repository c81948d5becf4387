"""A web server on this machine that serves files, counts what is asked of it, and misbehaves as a test wants it to."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WebServer(ThreadingHTTPServer):
    """Serves what is in `files`.

    Attributes:
        files: the content by path, such as "/a.png".
        redirects: where a path leads to.
        redirect_header: the name of the header that says so.
        statuses: by path, what is answered instead of a file.
        cut: the paths of which half of the content comes.
        endless: the paths whose content has no end and no length.
        silent: the paths that are never answered.
        etags: whether files have an ETag.
        asked: how often each (method, path) was asked for.
        headers: those of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.redirect_header = "Location"
        self.statuses: dict[str, int] = {}
        self.cut: set[str] = set()
        self.endless: set[str] = set()
        self.silent: set[str] = set()
        self.closing = threading.Event()
        self.etags = True
        self.asked: Counter[tuple[str, str]] = Counter()
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gets(self) -> int:
        """How many files were asked for."""
        return sum(count for (method, _), count in self.asked.items() if method == "GET")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of a test's business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        server, path = self.server, self.path.partition("?")[0]
        with server.lock:
            server.asked[self.command, path] += 1
            server.headers.append(dict(self.headers))
        if path in server.silent:
            self.close_connection = True
            server.closing.wait(60)
            return
        if path in server.redirects:
            self._head(302, {server.redirect_header: server.redirects[path], "Content-Length": "0"})
            return
        if path in server.endless:
            self.close_connection = True
            self._head(200, {"Connection": "close"})
            for _ in range(10_000 if body else 0):
                self.wfile.write(bytes(100_000))
            return
        status = server.statuses.get(path) or (200 if path in server.files else 404)
        content = server.files.get(path, b"") if status == 200 else b""
        headers = {"Content-Length": str(len(content))}
        if server.etags and status == 200:
            headers["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
        if path in server.cut:
            self.close_connection = True
            content = content[: len(content) // 2]
        self._head(status, headers)
        if body:
            self.wfile.write(content)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving() -> Iterator[WebServer]:
    """A server that runs while the block does."""
    server = WebServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
