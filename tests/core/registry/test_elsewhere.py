"""Work done by workers that ask on their way, and applications that answer elsewhere: what is carried back of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from engines import HereEngine

from mmreg.errors import DataError, EngineError
from mmreg.registry import converse_elsewhere, elsewhere, serve_elsewhere
from mmreg.registry.elsewhere import compute_together


class HereEngineWithoutCopies(HereEngine):
    """Whose functions need not be pickled."""

    def converse(self, function: Any, shards: Any, answer: Any, **_: Any) -> Any:
        for shard in shards:
            yield shard, function(shard, answer)

    def serve(self, build: Any, **options: Any) -> Any:
        return nullcontext((build(), options))


def sum_of_answers(shard: int, ask: Callable[[int], int]) -> int:
    return ask(shard) + ask(10 * shard)


def test_shards_may_depend_on_results_and_ask_on_their_way() -> None:
    taken: list[int] = []

    def shards() -> Any:
        yield 1
        while taken[-1] < 100:
            yield taken[-1]

    for shard, result in converse_elsewhere(HereEngine(), sum_of_answers, shards(), lambda asked: asked + 1):
        assert result == 11 * shard + 2
        taken.append(result)
    assert taken == [13, 145]


def test_a_shard_whose_workers_die_has_an_error_in_the_place_of_its_result() -> None:
    engine = HereEngine(deaths=[1, 0, 0])
    results = list(converse_elsewhere(engine, sum_of_answers, range(3), lambda asked: asked))
    assert [result for _, result in results[1:]] == [11, 22]
    assert isinstance(results[0][1], EngineError)


def test_a_workers_error_is_raised_here_and_warnings_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def work(shard: int, ask: Any) -> int:
        logging.getLogger("mmreg").warning("odd")
        if shard == 2:
            raise DataError("2 cells cannot be loaded")
        return shard

    results = converse_elsewhere(HereEngineWithoutCopies(), work, range(3), print)
    assert [next(results), next(results)] == [(0, 0), (1, 1)]
    with pytest.raises(DataError, match="2 cells cannot be loaded"):
        next(results)
    assert [record.getMessage() for record in caplog.records] == ["odd"]


def test_workers_of_another_release_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(["1.0"])
    monkeypatch.setattr(elsewhere, "version", lambda _: next(numbers, "2.0"))
    with pytest.raises(EngineError, match=r"a worker has mmreg 2.0, and this is mmreg 1.0"):
        list(converse_elsewhere(HereEngineWithoutCopies(), sum_of_answers, range(3), int))
    numbers = iter(["1.0"])
    with pytest.raises(EngineError, match=r"a worker has mmreg 2.0, and this is mmreg 1.0"):
        serve_elsewhere(HereEngineWithoutCopies(), dict)


def test_an_application_is_made_there_as_it_was_asked_for() -> None:
    with serve_elsewhere(HereEngineWithoutCopies(), dict, port=1, replicas=2) as served:
        assert served == ({}, {"port": 1, "replicas": 2})


def one_of_three(rank: int) -> int:
    logging.getLogger("mmreg").warning("note: of all")
    logging.getLogger("mmreg").warning("note: of %d", rank)
    if rank == 1:
        raise DataError("cell 1 cannot be loaded")
    return rank


@pytest.mark.parametrize("failing", [False, True])
def test_the_first_process_says_what_all_warn_of_and_fails_as_one_of_them_does(
    failing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ranks = [0, 1, 2] if failing else [0, 2, 4]
    told: list[Any] = []
    for rank in ranks[1:]:
        assert compute_together(told.append, partial(one_of_three, rank)) is None
    assert caplog.messages == []
    first = partial(compute_together, lambda own: [own, *told], partial(one_of_three, 0))
    if failing:
        with pytest.raises(DataError, match=r"^cell 1 cannot be loaded$"):
            first()
    else:
        assert first() == ranks
    assert caplog.messages == ["note: of all", *(f"note: of {rank}" for rank in ranks)]
