"""Rows as a model sees them: asked without inputs or with others, they come to what predicting such rows does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from planted import rows_of, trained
from torch import Tensor

import mmreg
from mmreg import Run, Signal


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("inputs") / "run", lambda third: third["m0"] > 0, epochs=2)


def plain(run: Run, rows: object) -> Tensor:
    given = run.prepare(rows)
    return run.predict_rows(given.prepared, given.rows).scores


def test_inputs_that_are_left_out_are_as_empty_cells(run: Run) -> None:
    rows = rows_of(lambda third: third["m0"] > 0, rows=7, seed=1)
    rows[2]["m0"] = None
    given = run.prepare(rows)
    (batch,) = run.row_inputs(given)
    for absent in ([], ["m0"], ["m1"], ["m0", "m1"]):
        emptied = [{**row, **dict.fromkeys(absent)} for row in rows]
        torch.testing.assert_close(batch.scores(absent), plain(run, emptied))
    assert batch.present["m0"].tolist() == given.present()["m0"].tolist() == [True] * 2 + [False] + [True] * 4
    assert given.value("m0", 2) is None
    assert given.value("m1", 2).tolist() == rows[2]["m1"]


def test_changed_signals_take_the_place_of_the_rows_own_and_have_a_gradient(run: Run) -> None:
    rows = rows_of(lambda third: third["m0"] > 0, rows=30, seed=1)
    others = rows_of(lambda third: third["m0"] > 0, rows=30, seed=2)
    mixed = [{**row, "m0": other["m0"]} for row, other in zip(rows, others, strict=True)]
    (batch,) = run.row_inputs(run.prepare(rows))
    (other,) = run.row_inputs(run.prepare(others))
    torch.testing.assert_close(batch.scores(changed={"m0": other.signals["m0"]}), plain(run, mixed))
    values = other.signals["m0"].values.clone().requires_grad_()
    scores = batch.scores(changed={"m0": Signal(values)})
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), values)
    step = 1e-3 * torch.eye(30, 4)[:1].expand(30, 4)
    ahead, behind = (batch.scores(changed={"m0": Signal(values.detach() + way * step)}) for way in (1, -1))
    apart = (gradient[:, 0] - (ahead - behind)[:, 1] / 2e-3).abs()
    assert apart.median() < 1e-3  # of a few rows a unit bends within the step
    assert gradient[:, 0].abs().median() > 5e-3
    assert not batch.scores().requires_grad


def test_one_row_is_repeated_for_many_signals(run: Run) -> None:
    rows = rows_of(lambda third: third["m0"] > 0, rows=1, seed=1)
    others = [row["m0"] for row in rows_of(lambda third: third["m0"] > 0, rows=5, seed=2)]
    (row,) = run.row_inputs(run.prepare(rows))
    loaded = row.loaded("m0", others)
    found = row.repeated(5).scores(changed={"m0": loaded})
    torch.testing.assert_close(found, plain(run, [{**rows[0], "m0": other} for other in others]))


def test_cells_of_many_values_and_texts_of_several_lengths(tmp_path: Path) -> None:
    import json

    rows = [
        {"label": number % 2, "texts": ["a b c", "b"][: 1 + number % 2], "title": "x " * (1 + number % 4)}
        for number in range(24)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = {"type": "text", "encoder": {"name": "text_rnn", "hidden_size": 4, "embedding_size": 4}}
    recipe = {
        "table": str(tmp_path / "rows.jsonl"),
        "target": {"column": "label", "task": "classification"},
        "modalities": {
            "texts": {**text, "column": "texts", "many": "attention"},
            "title": {**text, "column": "title"},
        },
        "fusion": "concat",
        "split": {"validation": 0.25, "test": 0.0},
        "training": {"epochs": 1},
    }
    run = mmreg.train(recipe, tmp_path / "run", device="cpu")
    given = run.prepare(rows)
    (batch,) = run.row_inputs(given, 24)
    assert batch.several == {"texts"}
    for absent in ([], ["texts"], ["title"]):
        expected = plain(run, [{**row, **dict.fromkeys(absent)} for row in rows])
        found = torch.empty_like(expected)
        found[torch.from_numpy(batch.index)] = batch.scores(absent)
        torch.testing.assert_close(found, expected)
    row = list(run.row_inputs(given, 1))[1]
    loaded = row.loaded("title", ["x x x", "x"])
    changed = [{**rows[int(row.index[0])], "title": title} for title in ("x x x", "x")]
    torch.testing.assert_close(row.repeated(2).scores(changed={"title": loaded}), plain(run, changed))
