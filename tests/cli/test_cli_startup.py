"""Commands that only look at a recipe or a table do without torch's compiler, which takes 1.5 s to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmreg.contract.optimization import ParameterGroup
from mmreg.recipe.optimization import refusal
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve

CALL = """
import sys
from mmreg.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print([name for name in ("torch._dynamo", "torchmetrics", "matplotlib") if name in sys.modules])
"""
TABLE = "text,label\n" + "".join(f"some words and number {number % 5},{'ab'[number % 2]}\n" for number in range(40))


@pytest.mark.parametrize(
    "arguments",
    [("init", "table.csv", "--out", "own.yaml"), ("validate", "recipe.yaml")],
    ids=["init", "validate"],
)
def test_a_small_table_is_looked_at_without_the_compiler(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "recipe.yaml").write_text("table: table.csv\ntarget: {column: label}\nmodalities: {text: {}}\n")
    command = [sys.executable, "-c", CALL, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("epochs", [1, 2, 3, 50])
def test_what_a_recipe_leaves_out_works_untried(epochs: int, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "recipe.yaml").write_text(
        f"table: table.csv\ntarget: {{column: label}}\nmodalities: {{text: {{}}}}\ntraining: {{epochs: {epochs}}}\n"
    )
    plan = resolve(read_recipe(tmp_path / "recipe.yaml"))
    assert refusal(plan.optimizer, plan.schedule, epochs) is None


def test_the_stand_in_of_an_estimate_moves_no_weight() -> None:
    import torch
    from torch import nn

    from mmreg.training.estimate import _StandIn

    weight, frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    weight.grad = torch.full((3,), 5.0)
    built = _StandIn().build([ParameterGroup([weight, frozen])])
    built.step()
    assert weight.tolist() == [1.0, 1.0, 1.0]
    built.zero_grad()
    assert weight.grad is None
