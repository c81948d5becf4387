"""Features that are learned and stand for an absent part, against features put there by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import toys

import mmreg
from mmreg import Features, Recipe, registry
from mmreg.contract.spec import Spec
from mmreg.errors import RecipeError
from mmreg.model.build import build
from mmreg.model.nodes import FeatureNode, with_absent
from mmreg.recipe.resolve import resolve


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def nodes(fusion: Any) -> list[FeatureNode]:
    modalities = {name: {"type": "numbers"} for name in "ab"}
    plan = resolve(Recipe(toys.recipe("x.csv", modalities=modalities, fusion=fusion)))
    task = registry.build("task", "classification")
    task.fit([0, 1, 2])
    built = build(plan, dict.fromkeys("ab", Spec("C", (4,))), task)
    return [each for each in built.modules() if isinstance(each, FeatureNode)]


def test_a_vector_stands_for_what_a_row_lacks() -> None:
    token, present = torch.tensor([7.0, 8.0]), torch.tensor([True, False])
    pooled = with_absent(Features(pooled=torch.ones(2, 2)), token, present)
    assert pooled.pooled is not None
    assert pooled.pooled.tolist() == [[1, 1], [7, 8]]
    mask = torch.tensor([[True, True, False], [False, False, False]])
    for given in (mask, None):
        tokens = with_absent(Features(tokens=torch.ones(2, 3, 2), mask=given), token, present)
        assert tokens.tokens is not None
        assert tokens.mask is not None
        assert tokens.tokens[1][tokens.mask[1]].tolist() == [[7, 8]]
        assert tokens.mask[0].tolist() == ([True, True, False] if given is not None else [True] * 3)
        assert tokens.tokens[0].eq(1).all()


@pytest.mark.parametrize("name", ["concat", "sum", "low_rank", "cross_attention"])
def test_operators_see_it_as_if_it_were_there(name: str) -> None:
    (node,) = nodes({"name": name, "absent": "learned"})
    node.eval()
    with torch.no_grad():
        for token in node.absent:
            token.normal_(generator=torch.Generator().manual_seed(1))
    features = {each: Features(pooled=torch.randn(3, 8)) for each in "ab"}
    present = torch.tensor([[True, True], [True, False], [False, False]])

    class Leaf:
        def __init__(self, index: int) -> None:
            self.present, self.features, self.scores = present[:, index], features["ab"[index]], None

    from mmreg.model.nodes import Pass

    branch = node.run(Pass({"a": Leaf(0), "b": Leaf(1)}, None, None))  # type: ignore[arg-type, dict-item]
    assert branch.present.tolist() == [True, True, False]
    by_hand = {each: given.pooled.clone() for each, given in features.items() if given.pooled is not None}
    by_hand["b"][1] = node.absent[1]
    expected = node.fusion({each: Features(pooled=given) for each, given in by_hand.items()}, torch.ones(3, 2).bool())
    assert branch.features is not None
    torch.testing.assert_close(branch.features.pooled[:2], expected.pooled[:2])


def test_it_is_learned_kept_and_combined(tmp_path: Path) -> None:
    table = toys.rows(200, absent=0.3)
    run = toys.train(tmp_path / "run", table, fusion={"name": "concat", "absent": "learned"}, key="id")
    node = run.model.root
    assert isinstance(node, FeatureNode)
    assert all(token.abs().max() > 0 for token in node.absent)
    again = mmreg.load(tmp_path / "run", "cpu")
    assert again.recipe["fusion"]["absent"] == "learned"
    assert again.predict(table[:20]) == run.predict(table[:20])
    other = toys.train(tmp_path / "other", table, key="id")
    assert other.recipe["fusion"]["absent"] == "masked"
    fused = mmreg.fuse([run.folder, other.folder], "mean", tmp_path / "fused", device="cpu")
    assert mmreg.load(fused.folder, "cpu").predict(table[:20]) == fused.predict(table[:20])


def test_a_training_that_was_stopped_learns_the_same(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"fusion": {"name": "concat", "absent": "learned"}, "table": toys.rows(absent=0.3)}
    toys.train(tmp_path / "whole", **settings)
    toys.stopped_at(tmp_path / "run", 12, **settings)
    toys.train(tmp_path / "run", resume=True, **settings)
    toys.assert_same(tmp_path / "whole", tmp_path / "run")


def test_at_model_level_it_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"fusion\.absent: is for feature-level fusion; product combines"):
        nodes({"name": "product", "absent": "learned"})
