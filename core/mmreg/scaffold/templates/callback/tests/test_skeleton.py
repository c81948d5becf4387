"""The conformance checks, and what this callback writes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from mmreg import Epoch, MetricValue, registry
from mmreg.testing import parametrize_checks


@parametrize_checks("callback/skeleton")
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_every_epoch_is_a_line_also_of_a_training_that_was_stopped(tmp_path: Path) -> None:
    run = SimpleNamespace(folder=tmp_path)
    (tmp_path / "epochs.jsonl").write_text("of an earlier training")
    for number in (1, 2):  # stopped after the first, and resumed
        callback = registry.build("callback", "skeleton", file="epochs.jsonl")
        callback.on_start(run, {"resumed_after_epoch": number - 1})
        loss = MetricValue("train", "", "loss", 1 / number)
        callback.on_epoch_end(run, Epoch(number, 10 * number, 0.1, (loss,)))
    assert [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()] == [
        {"epoch": 1, "step": 10, "learning_rate": 0.1, "train_loss": 1.0},
        {"epoch": 2, "step": 20, "learning_rate": 0.1, "train_loss": 0.5},
    ]
