"""The output of a notebook's cell while a training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toys

import mmreg
from mmreg.contract.callback import Step
from mmreg.runs import notebook_bar
from mmreg.runs.notebook_bar import INTERVAL, NotebookBar, follower


class Screen:
    """Stands for IPython: keeps what was shown, as HTML."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.outputs = 0

    def display(self, thing: Any, *, display_id: bool) -> Screen:
        assert display_id
        self.outputs += 1
        self.update(thing)
        return self

    def update(self, thing: Any) -> None:
        self.shown.append(thing._repr_html_())


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    pytest.importorskip("IPython")
    found = Screen()
    monkeypatch.setattr("IPython.display.display", found.display)
    return found


def test_steps_move_the_bar_now_and_then_and_read_no_loss_between(screen: Screen) -> None:
    now = [0.0]
    bar = NotebookBar(lambda: now[0])
    reads = []

    def loss() -> float:
        reads.append(now[0])
        return 0.5

    for number in range(1, 9):
        bar.on_step(Step(1, number, 8, 4, loss))
        now[0] += INTERVAL / 4
    assert reads == [0.0, INTERVAL]
    assert '<progress value="5" max="8"></progress> training: 5 of 8 (epoch 1, loss 0.5000)' in screen.shown[-1]
    assert screen.outputs == 1


def test_a_training_shows_one_output_from_its_rows_to_its_folder(screen: Screen, tmp_path: Path) -> None:
    toys.register()
    run = toys.train(tmp_path / "run", callback=NotebookBar())
    assert screen.outputs == 1
    assert "parameters; cpu, float32" in "".join(screen.shown)
    assert f"the run is in {run.folder}" in screen.shown[-1]
    assert "<progress" not in screen.shown[-1]


def test_texts_and_names_are_no_markup(screen: Screen) -> None:
    bar = NotebookBar()
    bar.on_message("<script>x</script>")
    bar.on_progress("preparing <i>", 1, 1, "<b>")
    assert "&lt;script&gt;" in screen.shown[-1]
    assert "preparing &lt;i&gt;: 1 of 1 (&lt;b&gt;)" in screen.shown[-1]


def test_an_output_that_fails_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("IPython")
    tries = []

    def display(*_: Any, **__: Any) -> None:
        tries.append(1)
        raise RuntimeError

    monkeypatch.setattr("IPython.display.display", display)
    bar = NotebookBar()
    bar.on_message("one")
    bar.on_message("two")
    assert tries == [1]


def test_a_notebook_without_a_callback_gets_the_bar_and_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(follower(None)) is mmreg.Callback
    monkeypatch.setattr(notebook_bar, "in_notebook", lambda: True)
    assert isinstance(follower(None), NotebookBar)
    own = mmreg.Callback()
    assert follower(own) is own
