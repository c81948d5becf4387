"""Losses share an axis where both can be read on it, and what a folder tells of a training is whole or refused."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import mmreg
from mmreg.errors import RunError
from mmreg.sections import Chart, Series
from mmreg_report.axes import ticks
from mmreg_report.reading import Facts
from mmreg_report.sections.curves import curve_charts
from mmreg_report.subject import loaded
from mmreg_report.svg import draw


def facts(train: list[float], validation: list[float | None]) -> Facts:
    history = [
        {"epoch": float(n), "train_loss": one, "validation_loss": other}
        for n, (one, other) in enumerate(zip(train, validation, strict=True), 1)
    ]
    return Facts("run", {}, {"components": {}}, history)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("train", "validation", "titles"),
    [
        ([2.0, 1.0, 0.5], [1.9, 1.2, 0.9], ["loss"]),
        ([2.0, 1.0, 0.5], [0.4, 0.3, 0.2], ["loss"]),  # apart, and both can be read
        ([900.0, 700.0, 650.0], [0.9, 0.5, 0.4], ["loss (train)", "loss (validation)"]),
        ([0.02, 0.01], [7.0, 3.0], ["loss (train)", "loss (validation)"]),
        ([1.0, 0.5], [None, None], ["loss (train)"]),
        ([1.0, 0.5], [float("nan"), float("inf")], ["loss"]),
    ],
)
def test_losses_share_an_axis_where_none_is_flat_on_it(
    train: list[float], validation: list[float | None], titles: list[str]
) -> None:
    charts = curve_charts(facts(train, validation))
    assert [chart.title for chart in charts] == [f"Learning curves: {title}" for title in titles]
    assert sum(len(chart.series) for chart in charts) == 1 + (validation[0] is not None)


def test_a_metric_that_chose_the_weights_is_drawn_whatever_it_is_called(tmp_path: Path) -> None:
    of = facts([2.0, 1.0], [1.9, 1.2])
    history = [{**row, "validation_relative_loss": value} for row, value in zip(of.history, (0.9, 0.4), strict=True)]
    report = {"best": {"metric": "relative_loss", "value": 0.4, "epoch": 2}}
    charts = curve_charts(replace(of, report=report, history=history))
    assert [chart.title.partition(": ")[2] for chart in charts] == ["loss", "relative_loss"]
    assert [list(series.y) for series in charts[1].series] == [[0.9, 0.4]]


def test_a_truncated_history_is_told(hostile: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(hostile, run)
    whole = (run / "metrics.csv").read_text()
    first, second, third = whole.splitlines(keepends=True)
    for text in (first + second, first + second + third[: len(third) // 2]):
        (run / "metrics.csv").write_text(text)
        with pytest.raises(RunError, match=r"what .* measured cannot be read: metrics\.csv (has 1 epoch|was cut off)"):
            loaded(run, "cpu", rows=False)


def test_the_trained_parameters_are_those_that_a_training_moves(hostile: Path, tmp_path: Path) -> None:
    recipe = mmreg.load(hostile, "cpu").recipe
    encoder = {**recipe["modalities"]["image"]["encoder"], "freeze": True}
    alone = {**recipe, "modalities": {"image": {**recipe["modalities"]["image"], "encoder": encoder}}, "fusion": None}
    run = mmreg.train(alone, tmp_path / "frozen", device="cpu")
    page = (tmp_path / "frozen" / "report.html").read_text(encoding="utf-8")
    encoders = sum(each.numel() for each in run.model.components()["encoder/image"].parameters())
    whole = sum(each.numel() for each in run.model.parameters())
    assert mmreg.count_trained(run.model, run.plan) == whole - encoders
    assert mmreg.count_trained(run.model, run.plan, run.model.components()["encoder/image"]) == 0
    assert f"{whole:,} parameters in all, of which {whole - encoders:,} were trained." in page


def test_epochs_have_no_parts_on_an_axis() -> None:
    epochs = Chart("Loss", "epoch", "loss", [Series("loss", [1.0, 2.0], [0.5, 0.25])])
    told = re.findall(r'text-anchor="middle">([^<]*)<', str(draw(epochs)))
    assert told == ["1", "2", "epoch", "loss"]
    assert ticks(1, 2) == [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
