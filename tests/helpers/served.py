"""What tests of the service share: rows as JSON, and a client that asks many things at once."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON gives it."""
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in row.items()
    }


def among(app: Any, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    """What an application, while it lives, answers to a client that asks many things at once."""
    import httpx

    async def whole() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            return await ask(client)

    return asyncio.run(whole())


@contextmanager
def in_a_thread(app: Any, **options: Any) -> Iterator[str]:
    """The address of an application that uvicorn, with some options, serves in a thread."""
    import uvicorn

    from mmreg_serve.command import listening

    with listening("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def check_same(answered: dict[str, Any], expected: dict[str, Any]) -> None:
    """Fail if an answer is not what `Run.predict` gives for the row."""
    modalities = "+".join(answered["modalities"])
    assert modalities == expected["modalities"]
    for name, value in answered["prediction"].items():
        if isinstance(value, float):
            np.testing.assert_allclose(value, expected[name], atol=1e-6)
        else:
            assert value == expected[name]
