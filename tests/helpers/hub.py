"""A small stand-in for the Hugging Face hub: repositories of files, served on this computer as its API does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The only commit of every repository."""
BRANCHES = ("main", "v1")


@contextmanager
def serving(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve folders by their repositories' names; gives the address, and the files that were asked for so far."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/").split("/")
            if path[:2] == ["api", "models"]:
                self.api("/".join(path[2:4]), path[4:])
            else:
                self.file("/".join(path[:2]), "/".join(path[4:]))

        def api(self, name: str, rest: list[str]) -> None:
            if name not in repositories:
                self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif rest[:1] == ["tree"]:
                files = [each for each in repositories[name].rglob("*") if each.is_file()]
                self.json([self.entry(repositories[name], each) for each in files])
            elif not rest or rest[1] in (*BRANCHES, COMMIT):
                self.json({"id": name, "sha": COMMIT, "siblings": []})
            else:
                self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})

        def entry(self, folder: Path, path: Path) -> dict[str, object]:
            size, name = path.stat().st_size, path.relative_to(folder).as_posix()
            return {"type": "file", "path": name, "size": size, "oid": hashlib.sha1(path.read_bytes()).hexdigest()}

        def file(self, name: str, file: str) -> None:
            content = (repositories[name] / file).read_bytes()
            if self.command == "GET":
                fetched.append(f"{name}/{file}")
            etag = hashlib.sha1(content).hexdigest()
            self.send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

        def json(self, value: object) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
