"""Work done by an engine's workers: its results, with what the workers had to say and what went wrong in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from mmreg import errors
from mmreg.contract.engine import Engine
from mmreg.errors import EngineError, MmregError
from mmreg.messages import one_line

logger = logging.getLogger("mmreg")

Failure = tuple[str, str]
"""An error as plain data, which can be sent whatever the error holds: its class's name, and what it says."""


def compute_elsewhere(
    engine: Engine,
    function: Callable[[Any], Any],
    shards: Iterable[Any],
    total: int,
    *,
    accelerator: bool = False,
) -> Generator[Any]:
    """The results of all shards, in order and each once; arguments as `Engine.map` takes them.

    What workers warn of is said here, once.

    Raises:
        EngineError: the workers cannot be reached, have another mmreg, or something in them failed; or the engine
            breaks its promise.
        MmregError: the function raised it.
    """
    said: set[str] = set()
    done = 0
    worker = _Worker(function, version("mmreg"))
    for number, result, failure, notes in engine.map(worker, enumerate(shards), total, accelerator=accelerator):
        _say(notes, said)
        if number != done:
            raise EngineError(f"the engine {type(engine).__name__} gave shard {number} in the place of shard {done}")
        if failure is not None:
            raise _error(*failure)
        done += 1
        yield result
    if done != total:
        raise EngineError(f"the engine {type(engine).__name__} gave {done} of {total} shards")


def converse_elsewhere(
    engine: Engine,
    function: Callable[[Any, Callable[[Any], Any]], Any],
    shards: Iterable[Any],
    answer: Callable[[Any], Any],
    *,
    workers: int | None = None,
    accelerator: bool = False,
) -> Generator[tuple[Any, Any]]:
    """Shards with their results as they come, of a function that asks this process; see `Engine.converse`.

    What workers warn of is said here, once. Where the workers of a shard have died over and over, an `EngineError` is
    in the place of its result.

    Raises:
        EngineError: the workers cannot be reached, have another mmreg, or something in them failed; or the engine does
            not converse.
        MmregError: the function or `answer` raised it.
    """
    said: set[str] = set()
    worker = _Worker(function, version("mmreg"))
    given = engine.converse(worker, enumerate(shards), answer, workers=workers, accelerator=accelerator)
    with closing(given) as results:
        for (_, shard), got in results:
            if isinstance(got, EngineError):
                yield shard, got
                continue
            _, result, failure, notes = got
            _say(notes, said)
            if failure is not None:
                raise _error(*failure)
            yield shard, result


def compute_together(to_first: Callable[[Any], list[Any] | None], function: Callable[[], Any]) -> list[Any] | None:
    """What a function gives in each of several processes, for the first of them; None for the others.

    Args:
        to_first: gives what each process has to the first one, as `Peers.to_first`.
        function: called in each. What it warns of, in any of them, is said by the first one, once.

    Raises:
        MmregError: the function raised it in one of them; only in the first process.
        EngineError: something else failed in one of them.
    """
    told = to_first(_Worker(lambda _: function(), version("mmreg"))((0, None)))
    if told is None:
        return None
    said: set[str] = set()
    for *_, notes in told:
        _say(notes, said)
    for _, _, failure, _ in told:
        if failure is not None:
            raise _error(*failure)
    return [result for _, result, *_ in told]


def serve_elsewhere(engine: Engine, build: Callable[[], Any], **options: Any) -> AbstractContextManager[str]:
    """Replicas of an application that answer elsewhere, in the very mmreg that is here; arguments as `Engine.serve`."""
    return engine.serve(partial(_checked, build, version("mmreg")), **options)


def _checked(build: Callable[[], Any], wanted: str) -> Any:
    _check(wanted)
    return build()


class _Worker:
    """What is sent to a worker: the function, called so that nothing it raises is lost on the way back."""

    def __init__(self, function: Callable[..., Any], wanted: str) -> None:
        self._function, self._wanted = function, wanted

    def __call__(self, shard: tuple[int, Any], *ask: Any) -> tuple[int, Any, Failure | None, list[str]]:
        number, value = shard
        with _warnings() as notes:
            try:
                _check(self._wanted)
                return number, self._function(value, *ask), None, notes
            except MmregError as error:
                return number, None, (type(error).__name__, str(error)), notes
            except Exception as error:  # of a plugin, or of a library under it
                what = f"an error in a worker: {one_line(error)}"
                return number, None, (EngineError.__name__, what), notes


def _check(wanted: str) -> None:
    if version("mmreg") != wanted:
        raise EngineError(
            f"a worker has mmreg {version('mmreg')}, and this is mmreg {wanted}; install the same everywhere"
        )


def _say(notes: Iterable[str], said: set[str]) -> None:
    """What workers warned of, unless it was said."""
    for text in notes:
        if text not in said:
            said.add(text)
            logger.warning("%s", text)


def _error(name: str, text: str) -> MmregError:
    """An error of a worker, raised again: of mmreg's own classes the same one, as it has the same exit code."""
    found = vars(errors).get(name)
    kind = found if isinstance(found, type) and issubclass(found, MmregError) else EngineError
    error = kind.__new__(kind)
    error.args = (text,)
    return error


@contextmanager
def _warnings() -> Generator[list[str]]:
    """What is warned of inside, kept instead of written."""
    kept: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield kept
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
