"""What stands before every request: which host and token it names, and the headers of every answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmreg_serve.metrics import Metrics

OPEN = frozenset({"/", "/healthz", "/page.js", "/page.css", "/favicon.ico"})
"""What needs no token: the page, which asks for one, and the sign of life."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = Headers(
    {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
).raw
"""Of every answer, as bytes."""


class Guard:
    """An ASGI application around another.

    Args:
        app: the other.
        token: what a request has to bring as `Authorization: Bearer ...`; None if it needs none.
        hosts: the names that a request may call this host by; None for any. A page elsewhere, whose name its owner lets
            point to this machine, would otherwise be allowed to read the answers.
        metrics: told of requests to /predict.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Sequence[str] | None, metrics: Metrics) -> None:
        self.app = app
        self._token = None if token is None else f"Bearer {token}".encode()
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        counted = scope["path"] == "/predict"
        self._metrics.in_flight += counted
        try:
            await (self._refusal(scope) or self.app)(scope, receive, answer)
        finally:
            self._metrics.in_flight -= counted
            if counted:
                self._metrics.request(status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            return JSONResponse({"detail": "this service is called by another name"}, 400)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
            return JSONResponse({"detail": "a page from elsewhere may not ask"}, 403)  # nor have this one compute
        if self._token is None or scope["path"] in OPEN:
            return None
        given = headers.get("authorization", "").encode("latin-1")
        if secrets.compare_digest(given, self._token):  # takes as long wherever they differ
            return None
        asks = {"WWW-Authenticate": "Bearer"}
        return JSONResponse({"detail": "the header Authorization: Bearer TOKEN is needed"}, 401, asks)


def _name(host: str) -> str:
    """A Host header's name, without the port."""
    return (host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]).lower()
