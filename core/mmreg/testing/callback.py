"""Checks of callbacks: they follow whatever happens in a training, and change nothing of it."""

from __future__ import annotations

import copy
import csv
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmreg.contract.callback import TRAINING, Callback, Step
from mmreg.contract.metrics import Epoch, MetricValue
from mmreg.messages import one_line
from mmreg.testing.expectations import expect
from mmreg.testing.registration import check
from mmreg.testing.subject import Subject

EPOCHS = (
    Epoch(1, 2, 0.1, (MetricValue("train", "", "loss", 0.9), MetricValue("validation", "", "accuracy", 0.5))),
    Epoch(2, 4, 0.05, (MetricValue("train", "", "loss", 0.7), MetricValue("validation", "image", "loss", 0.8))),
)
"""A short training, of which not every epoch measures the same."""

RESULT: Mapping[str, Any] = {
    "rows": 4,
    "metrics": {"accuracy": 0.75, "per_class": {"cat": {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "rows": 2}}},
    "parts": {"image": {"accuracy": 0.5}},
}


@dataclass
class Followed:
    """A run that a callback may look at, with the files that every run has."""

    folder: Path
    recipe: Mapping[str, Any] = field(
        default_factory=lambda: {"target": {"column": "label"}, "training": {"epochs": 2, "optimizer": {"name": "SGD"}}}
    )
    model: nn.Module = field(default_factory=lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    report: Mapping[str, Any] = field(
        default_factory=lambda: {"epochs": 2, "steps": 4, "notes": [], "test": copy.deepcopy(dict(RESULT))}
    )

    def write(self) -> None:
        """Write the table of epochs and the report."""
        columns = list(dict.fromkeys(name for epoch in EPOCHS for name in epoch.row()))
        with (self.folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(epoch.row() for epoch in EPOCHS)
        (self.folder / "report.json").write_text(json.dumps(self.report), encoding="utf-8")


class _Following:
    """A callback under test, told of events; what it must not change is compared after each."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.callback: Callback = subject.cls(**subject.all_options)
        self.run = Followed(folder)
        self.run.write()

    def tell(self, event: str, *arguments: Any) -> None:
        """Call the method of an event.

        Raises:
            AssertionError: it raised, or changed what it was given, the model or the random state.
        """
        plain = [argument for argument in arguments if isinstance(argument, dict)]
        before = copy.deepcopy((plain, self.run.recipe, self.run.report, self.run.model.state_dict()))
        random, mode = torch.random.get_rng_state(), self.run.model.training
        try:
            getattr(self.callback, event)(*arguments)
        except Exception as error:
            raise AssertionError(f"{event} raised {one_line(error)}") from error
        expect(plain == before[0], f"{event} changed the facts that it was given")
        same = (self.run.recipe, self.run.report) == before[1:3]
        expect(same, f"{event} changed the run's recipe or its report")
        weights = self.run.model.state_dict()
        kept = list(weights) == list(before[3]) and all(torch.equal(weights[key], before[3][key]) for key in weights)
        expect(kept, f"{event} changed the model's weights or buffers")
        expect(self.run.model.training == mode, f"{event} left the model in another mode (training or evaluation)")
        expect(torch.equal(torch.random.get_rng_state(), random), f"{event} drew from torch's global random state")


@check("callback")
def check_events(subject: Subject) -> None:
    """It follows a whole training, event by event, without raising, and changes neither facts, model nor randomness."""
    with tempfile.TemporaryDirectory() as folder:
        following = _Following(subject, Path(folder))
        run = following.run
        following.tell("on_progress", "preparing image", 0, 2)
        following.tell("on_progress", "preparing image", 2, 2, "b.png")
        following.tell("on_message", "image: 1 cell cannot be loaded, left out")
        facts = {"out": folder, "device": "cpu", "precision": "float32", "rows": {"train": 4}, "parameters": 6}
        more = {"modalities": {"image": "CHW (3, 8, 8) float32"}, "epochs": 2, "steps": 4, "metric": "accuracy"}
        following.tell("on_start", run, {**facts, **more, "resumed_after_epoch": 0, "resumed_after_step": 0})
        for epoch in EPOCHS:
            for step in (epoch.step - 1, epoch.step):
                following.tell("on_gradients", step)
                following.tell("on_step", Step(epoch.number, step, 4, 2, lambda: 0.5))
            following.tell("on_epoch_end", run, epoch)
        for split in ("validation", "test"):
            following.tell("on_evaluation", run, split, copy.deepcopy(dict(RESULT)))
        following.tell("on_end", run, copy.deepcopy(dict(run.report)))


@check("callback")
def check_events_of_others(subject: Subject) -> None:
    """It follows what is no whole training, too: the end of a combined run alone, a resumed one, a comparison."""
    with tempfile.TemporaryDirectory() as folder:
        combined = _Following(subject, Path(folder))
        combined.tell("on_end", combined.run, copy.deepcopy(dict(combined.run.report)))
    with tempfile.TemporaryDirectory() as folder:
        resumed = _Following(subject, Path(folder))
        stopped = {"resumed_after_epoch": 1, "resumed_after_step": 2}
        resumed.tell("on_start", resumed.run, {"out": folder, "epochs": 2, "steps": 4, **stopped})
        resumed.tell("on_epoch_end", resumed.run, EPOCHS[1])
    with tempfile.TemporaryDirectory() as folder:
        compared = _Following(subject, Path(folder))
        for done in range(3):
            compared.tell("on_progress", TRAINING, done, 2, "fusion=mean")
