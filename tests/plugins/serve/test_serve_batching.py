"""Requests that come in together are predicted together, and each is answered as if it were alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from served import among, as_json, check_same

pytest.importorskip("fastapi", reason="needs mmreg[serve]")

from mmreg_serve import batching
from mmreg_serve.app import create_app
from mmreg_serve.batching import Batcher
from mmreg_serve.limits import Limits
from mmreg_serve.metrics import Metrics
from mmreg_serve.predicting import Predictor
from mmreg_serve.refusal import Refused
from mmreg_serve.requests import Request


def rows(*names: str, kind: str = "text") -> Request:
    return Request([{"a": name} for name in names], {"a": kind})


class Held:
    """Answers with the rows' names, and waits at the first call until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, requests: Sequence[Request]) -> list[Any]:
        self.batches.append([row["a"] for request in requests for row in request.rows])
        self.begun.set()
        assert self.go.wait(60)
        return [[{"name": row["a"]} for row in request.rows] for request in requests]


async def gathered(batcher: Batcher, held: Held, requests: Sequence[Request], late: Sequence[int] = ()) -> list[Any]:
    """The answers to requests of which all but the first come while that one is predicted; the late ones give up."""
    async with batcher:
        tasks = [asyncio.create_task(batcher.answer(requests[0]))]
        await asyncio.to_thread(held.begun.wait, 60)
        tasks += [asyncio.create_task(batcher.answer(request)) for request in requests[1:]]
        await asyncio.sleep(0)  # they are in the queue then
        for number in late:
            tasks[number].cancel()
        await asyncio.sleep(0)
        held.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


def batches(requests: Sequence[Request], late: Sequence[int] = (), **limits: int) -> tuple[list[list[str]], list[Any]]:
    held = Held()
    batcher = Batcher(held, metrics=Metrics(), **({"batch_rows": 4, "queue_rows": 100} | limits))
    answers = asyncio.run(gathered(batcher, held, requests, late))
    return held.batches, answers


def test_what_comes_while_the_model_is_busy_is_predicted_together():
    found, answers = batches([rows("a"), rows("b"), rows("c", "d"), rows("e"), rows("f")])
    assert found == [["a"], ["b", "c", "d", "e"], ["f"]]
    assert answers == [[{"name": name} for name in names] for names in ("a", "b", "cd", "e", "f")]


def test_a_request_with_more_rows_than_a_batch_is_predicted_alone():
    found, _ = batches([rows("a"), rows("b"), rows(*"cdefgh"), rows("i")])
    assert found == [["a"], ["b", "i"], list("cdefgh")]


def test_cells_of_different_kinds_are_not_put_into_one_table():
    found, _ = batches([rows("a"), rows("b"), rows("c", kind="float"), rows("d"), rows("e", kind="float")])
    assert found == [["a"], ["b", "d"], ["c", "e"]]


def test_who_has_given_up_is_left_out():
    found, answers = batches([rows("a"), rows("b"), rows("c")], late=[1])
    assert found == [["a"], ["c"]]
    assert isinstance(answers[1], asyncio.CancelledError)


def test_a_full_queue_refuses_and_says_when_to_try_again():
    found, answers = batches([rows("a"), rows("b", "c"), rows("d"), rows("e")], queue_rows=3)
    assert found == [["a"], ["b", "c", "d"]]
    assert isinstance(answers[3], Refused)
    assert (answers[3].status, answers[3].headers) == (503, {"Retry-After": "1"})


def asked_again(first: Sequence[str], moment: float, monkeypatch: Any) -> list[list[str]]:
    """The batches of some requests at once, and of as many further ones, each of which comes a little later."""
    monkeypatch.setattr(batching, "MOMENT", moment)
    held = Held()

    async def ask() -> None:
        async with Batcher(held, batch_rows=4, queue_rows=100, metrics=Metrics()) as batcher:
            held.go.set()
            await asyncio.gather(*(batcher.answer(rows(name)) for name in first))
            tasks = []
            for name in first:
                tasks.append(asyncio.create_task(batcher.answer(rows(name))))
                await asyncio.sleep(0.01)
            await asyncio.wait_for(asyncio.gather(*tasks), 60)

    asyncio.run(ask())
    return held.batches


def test_those_that_were_answered_together_and_ask_again_are_answered_together_again(monkeypatch):
    assert asked_again("abc", 0.5, monkeypatch) == [["a", "b", "c"]] * 2


def test_a_full_batch_waits_no_longer(monkeypatch):
    assert asked_again("abcd", 0.5, monkeypatch) == [["a", "b", "c", "d"]] * 2


def test_who_asks_alone_waits_for_nobody(monkeypatch):
    assert asked_again("a", 3600, monkeypatch) == [["a"]] * 2


def test_no_waiter_is_left_behind_where_predicting_fails():
    def broken(requests: Sequence[Request]) -> list[Any]:
        raise OSError("no space")

    async def ask() -> None:
        async with Batcher(broken, batch_rows=4, queue_rows=4, metrics=Metrics()) as batcher:
            await batcher.answer(rows("a"))

    with pytest.raises(Refused, match="OSError") as refused:
        asyncio.run(ask())
    assert refused.value.status == 500


def test_many_at_once_get_each_their_own_answer(run, values):
    asked = [
        {"title": f"{row['title']} {number}", **({"image": row["image"]} if number % 3 else {})}
        for number, row in enumerate(values)
    ]

    async def ask(client: Any) -> list[Any]:
        answers = await asyncio.gather(*(client.post("/predict", json={"rows": [as_json(row)]}) for row in asked))
        return [*answers, await client.get("/metrics")]

    *answers, metrics = among(create_app(run), ask)
    for answer, expected in zip(answers, [run.predict(row)[0] for row in asked], strict=True):
        check_same(answer.json()["predictions"][0], expected)
    counts = dict(line.split() for line in metrics.text.splitlines() if line.startswith("mmreg_batch_rows_"))
    assert float(counts["mmreg_batch_rows_sum"]) == len(asked)
    assert int(counts["mmreg_batch_rows_count"]) < len(asked) / 2
    assert "mmreg_queue_rows 0\n" in metrics.text
    assert "mmreg_requests_in_flight 0\n" in metrics.text


def test_a_bad_file_is_the_business_of_its_sender_alone(run, values):
    good = Request([{**values[0]}], {"image": "file", "title": "text", "audio": "file"})
    bad = Request([{**values[1]}, {**values[2], "image": b"private"}], good.kinds)
    first, refused, last = Predictor(run, 64)([good, bad, good])
    expected = run.predict([values[0]])[0]
    check_same(first[0], expected)
    check_same(last[0], expected)
    assert isinstance(refused, Refused)
    assert str(refused).startswith("row 2, column image: ")


def test_one_that_fails_otherwise_fails_alone(run, values, caplog):
    good = Request([values[0]], {})
    broken = Request([{"image": object(), "title": None, "audio": None}], {})
    first, refused, last = Predictor(run, 64)([good, broken, good])
    check_same(first[0], run.predict([values[0]])[0])
    assert first == last
    assert isinstance(refused, Refused)


def test_bad_files_are_refused_whatever_the_recipe_says_of_them(run, values, monkeypatch):
    for name, given in run.plan.inputs.items():
        monkeypatch.setitem(run.plan.inputs, name, replace(given, on_bad="skip"))
    assert run.predict({**values[0], "image": b"x"}) == []
    answer = Predictor(run, 64)([Request([{**values[0], "image": b"x"}], {})])[0]
    assert isinstance(answer, Refused)


def test_a_large_request_is_predicted_in_parts(run, values):
    async def ask(client: Any) -> Any:
        return await client.post("/predict", json={"rows": [as_json(row) for row in values[:20]]})

    answer = among(create_app(run, Limits(batch_rows=8)), ask)
    for answered, expected in zip(answer.json()["predictions"], run.predict(values[:20]), strict=True):
        check_same(answered, expected)
