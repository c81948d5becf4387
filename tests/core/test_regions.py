"""Every moment is charged to one region, and nothing happens while nobody asks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
import torch

from mmreg.regions import Recorder, region, waited


@pytest.fixture
def recorder() -> Recorder:
    """One whose clock moves on by a second whenever it is read."""
    ticks = itertools.count()
    return Recorder(frozenset({"validation"}), clock=lambda: float(next(ticks)))


def test_the_regions_sum_to_the_whole_and_the_innermost_is_charged(recorder: Recorder) -> None:
    with recorder.active():
        with region("outer"), region("encoder", "image"):
            pass
        with region("outer"):
            pass
    assert recorder.seconds == {"rest": 3.0, "outer": 3.0, "encoder/image": 1.0}
    assert recorder.calls == {"outer": 2, "encoder/image": 1}


def test_an_enclosing_region_is_charged_for_all_within(recorder: Recorder) -> None:
    with recorder.active(), region("validation"), region("encoder", "image"):
        pass
    assert set(recorder.seconds) == {"rest", "validation"}
    assert recorder.calls == {"validation": 1}


def test_what_a_value_is_waited_for_is_charged_and_what_is_done_with_it_is_not(recorder: Recorder) -> None:
    with recorder.active():
        values = []
        for value in waited("waiting", "ab"):
            with region("work"):
                values.append(value)
    assert values == ["a", "b"]
    assert recorder.calls == {"waiting": 3, "work": 2}
    assert recorder.seconds["waiting"] == 3.0


def test_a_region_that_raises_is_left(recorder: Recorder) -> None:
    def failing() -> None:
        with region("outer"):
            raise ValueError

    with recorder.active():
        with pytest.raises(ValueError):
            failing()
        with region("next"):
            pass
    assert recorder.seconds == {"rest": 3.0, "outer": 1.0, "next": 1.0}


def test_a_device_is_waited_for_at_the_borders_but_not_while_a_trace_is_taken() -> None:
    waits: list[int] = []
    recorder = Recorder(settle=lambda: waits.append(1))
    with recorder.active():
        with region("one"):
            pass
        assert len(waits) == 2
        recorder.tracing = True
        with region("one"):
            pass
        assert len(waits) == 2
        recorder.charge()
        recorder.tracing = False
    assert recorder.seconds["traced steps"] > 0
    assert recorder.calls == {"one": 1}


def test_a_trace_is_ended_by_what_is_not_for_it() -> None:
    ended: list[str] = []

    def end_trace() -> None:
        ended.append("once")
        recorder.charge()
        recorder.tracing = False

    recorder = Recorder(frozenset({"validation"}), frozenset({"validation"}), end_trace=end_trace)
    with recorder.active():
        recorder.tracing = True
        for name in ("step", "validation", "validation"):
            with region(name):
                pass
    assert ended == ["once"]
    assert recorder.calls == {"validation": 2}


def test_without_a_recorder_and_in_other_threads_nothing_is_kept(recorder: Recorder) -> None:
    assert region("one") is region("two", "x")
    same: list[bool] = []

    def other() -> None:
        same.append(region("one") is region("two"))

    with recorder.active():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert same == [True]
    assert set(recorder.seconds) == {"rest"}
    assert region("one") is region("two", "x")


def test_given_up_values_are_closed() -> None:
    closed: list[bool] = []

    def values() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    for value in waited("waiting", values()):
        if value == 2:
            break
    assert closed == [True]


def test_a_compiled_graph_has_no_break_at_a_region() -> None:
    def step(values: torch.Tensor) -> torch.Tensor:
        with region("encoder", "image"):
            return values.sin() + 1

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    values = torch.arange(3.0)
    torch.testing.assert_close(compiled(values), step(values))
    with Recorder().active():
        torch.testing.assert_close(compiled(values), step(values))
