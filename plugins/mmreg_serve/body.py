"""Reading a request's body within its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from mmreg.messages import byte_size
from mmreg_serve.limits import Limits
from mmreg_serve.refusal import Refused, try_again


class Bodies:
    """The bodies that are in memory, of all requests together.

    Args:
        limits: of one, and of all.
    """

    def __init__(self, limits: Limits) -> None:
        self._each = limits.bytes
        self._all = limits.bytes * limits.bodies
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """A request's body, which counts as held until the end of the block.

        Raises:
            Refused: it is too large, or all of them are; nothing more is read of it then.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._each:
            raise self._too_large()
        body = bytearray()
        try:
            async for chunk in request.stream():
                self._held += len(chunk)
                body += chunk
                if len(body) > self._each:
                    raise self._too_large()
                if self._held > self._all:
                    raise try_again(f"requests of {byte_size(self._all)} are being answered")
            yield bytes(body)
        except ClientDisconnect:
            raise Refused(400, "the request ended before its end") from None
        finally:
            self._held -= len(body)

    def _too_large(self) -> Refused:
        return Refused(413, f"a request may have {byte_size(self._each)}; send several, or smaller files")
