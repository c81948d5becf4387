"""Dynamic batching: what comes in while the model is busy is predicted together when it is free again."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from mmreg_serve.metrics import Metrics
from mmreg_serve.predicting import Answer
from mmreg_serve.refusal import Refused, try_again
from mmreg_serve.requests import Request

MOMENT = 0.001
"""Seconds in which a further request is waited for behind several that were answered together."""
Waiting = tuple[Request, "asyncio.Future[Answer]"]


class Batcher:
    """Predicts in a thread of its own, as many requests at a time as there are and go together.

    A batch is what has gathered behind the one before. A single client waits for nobody; behind requests that were
    answered together a moment is left, as their senders may ask again together, and a full batch costs far less a row.

    Args:
        predict: gives an answer for each of several requests.
        batch_rows: rows of several requests that are predicted together; a single request may have more.
        queue_rows: rows that may wait.
        metrics: told of each batch.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Request]], Sequence[Answer | Refused]],
        *,
        batch_rows: int,
        queue_rows: int,
        metrics: Metrics,
    ) -> None:
        self._predict = predict
        self._batch_rows, self._queue_rows = batch_rows, queue_rows
        self._metrics = metrics
        self._waiting: deque[Waiting] = deque()
        self._something = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mmreg-serve")
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request) -> Answer:
        """Wait for a request's answer; one whose waiter is cancelled is left out if it has not begun.

        Raises:
            Refused: it cannot be answered, or too many rows are waiting.
        """
        rows = self._metrics.queue_rows
        if rows and rows + len(request.rows) > self._queue_rows:
            raise try_again(f"{rows:,} rows are waiting")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._metrics.queue_rows += len(request.rows)
        self._waiting.append((request, future))
        self._something.set()
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        several = False
        while True:
            await self._something.wait()
            if several:  # were answered together, so they may ask again together
                await self._gather()
            batch = self._next()
            if not batch:
                self._something.clear()
                continue
            several = len(batch) > 1
            self._metrics.batch(sum(len(request.rows) for request, _ in batch))
            requests = [request for request, _ in batch]
            try:
                answers = await loop.run_in_executor(self._thread, self._predict, requests)
            except Exception as error:  # `predict` answers whatever happens; no waiter must be left behind
                answers = [Refused(500, f"the prediction failed: {type(error).__name__}")] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():  # its time is over
                    continue
                if isinstance(answer, Refused):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    async def _gather(self) -> None:
        """Wait a moment, and again as long as there are further requests after it, for a batch's worth at most."""
        seen = 0
        while seen < self._metrics.queue_rows < self._batch_rows:
            seen = self._metrics.queue_rows
            await asyncio.sleep(MOMENT)

    def _next(self) -> list[Waiting]:
        """The first request, and those behind it that fit beside it; the others keep their places."""
        batch: list[Waiting] = []
        kinds: dict[str, str] = {}
        rows = 0
        kept: deque[Waiting] = deque()
        while self._waiting:
            request, future = self._waiting.popleft()
            count = len(request.rows)
            if future.done():
                self._metrics.queue_rows -= count
            elif not batch or (rows + count <= self._batch_rows and request.joins(kinds)):
                self._metrics.queue_rows -= count
                batch.append((request, future))
                kinds |= request.kinds
                rows += count
            else:
                kept.append((request, future))
            if rows >= self._batch_rows:
                break
        kept.extend(self._waiting)
        self._waiting = kept
        return batch
