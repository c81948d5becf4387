"""Balances by which one modality learns at a time give the gradients of their formulas, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from balanced import batches, gradients, inputs, trainer, vectors
from torch import Tensor

from mmreg import registry
from mmreg.training.loop import Trainer

STEPS = ((0, 1, 2, 3, 4, 5, 6, 7), (8, 9, 10, 11, 12), (13, 14, 15, 16, 17, 18, 19))
SOME_ABSENT = {"a": (1, 6, 9), "b": (2, 3, 9, 14)}
NO_B = {"b": range(24)}
NESTED = {"name": "concat", "of": ["a", {"name": "bilinear", "of": ["b", "c"]}], "hidden": [5]}
BELOW = {"name": "mean", "of": ["a", {"name": "sum", "of": ["b", "c"], "features": 5}]}
BESIDE = {"name": "concat", "of": ["a", "b", {"name": "mean", "of": ["c"]}], "hidden": [5]}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name in found.keys() | expected.keys():
        here, there = (each.get(name, torch.zeros(())) for each in (found, expected))
        if name in found and name in expected:
            torch.testing.assert_close(
                here, there, rtol=1e-8, atol=1e-11, msg=lambda told, name=name: f"{name}: {told}"
            )
        else:
            assert not here.any(), name
            assert not there.any(), name


def of_one_alone(one: Trainer, name: str, names: str, fusion: Any, absent: Any) -> Trainer:
    """The same model without a balance, over a table whose rows have one modality at the most."""
    lacking = trainer(None, names, fusion=fusion, absent={**absent, **{n: range(24) for n in names if n != name}})
    lacking.model.load_state_dict({k: v for k, v in one.model.state_dict().items() if not k.startswith("balance.")})
    return lacking


@pytest.mark.parametrize("absent", [{}, SOME_ABSENT, NO_B], ids=["all there", "some absent", "one absent"])
@pytest.mark.parametrize(
    ("names", "fusion", "balanced", "head"),
    [
        ("ab", {"name": "sum", "features": 5}, "ab", "head"),
        ("abc", {"name": "attention", "features": 4}, "abc", "head"),
        ("abc", {"name": "concat", "hidden": [5]}, "abc", "head"),
        ("abc", NESTED, "abc", "head"),
        ("abc", BELOW, "bc", "root.heads.sum"),
        ("abc", BESIDE, "ab", "head"),
        ("abc", {"name": "sum", "features": 5, "absent": "learned"}, "abc", "head"),
    ],
    ids=["sum", "attention", "concat", "nested", "below a model-level one", "beside a model-level one", "learned"],
)
def test_mla_projects_the_gradient_of_the_shared_head(
    names: str, fusion: Any, balanced: str, head: str, absent: dict[str, Sequence[int]]
) -> None:
    one = trainer({"name": "mla", "alpha": 0.3}, names, fusion=fusion, absent=absent)
    plain = trainer(None, names, fusion=fusion, absent=absent)
    weight = f"{head}.weight"
    size = dict(one.model.named_parameters())[weight].shape[1]
    projection = torch.eye(size, dtype=torch.float64)
    alone = {name: of_one_alone(one, name, names, fusion, absent) for name in balanced}
    for rows in STEPS:
        expected = {
            key: each
            for key, each in gradients(plain, batches(plain, rows)).items()
            if key.split(".")[1] not in balanced or not key.startswith("encoders.")
        }
        for name, lacking in alone.items():
            fused: list[Tensor] = []
            layer = lacking.model.get_submodule(head)
            hook = layer.register_forward_hook(lambda _, given, __, kept=fused: kept.append(given[0].detach()))
            own = gradients(lacking, batches(lacking, rows))
            hook.remove()
            own[weight] = own[weight] @ projection
            for key, each in own.items():
                expected[key] = expected.get(key, 0) + each
            there = inputs(lacking, batches(lacking, rows)[0]).present[:, names.index(name)]
            if there.any():  # Sherman and Morrison: recursive least squares is this inverse
                mean = fused[0][there].mean(0)
                projection = torch.linalg.inv(torch.linalg.inv(projection) + torch.outer(mean, mean) / 0.3)
                projection = projection * math.sqrt(size) / projection.square().sum().sqrt()
        same(gradients(one, batches(one, rows)), expected)
        torch.testing.assert_close(one.model.balance.projection, projection, rtol=1e-8, atol=1e-10)  # type: ignore[union-attr]


def test_what_mla_learns_of_one_modality_hardly_moves_what_it_says_of_an_earlier_mean() -> None:
    method: Any = registry.build(
        "balance",
        "mla",
        {"a": 4, "b": 4},
        num_logits=2,
        num_outputs=2,
        space="log_probabilities",
        head_size=6,
        alpha=1e-4,
    )
    torch.manual_seed(0)
    head, first, second = torch.nn.Linear(6, 2), torch.randn(5, 6), torch.randn(5, 6)
    present = torch.ones(5, 2, dtype=torch.bool)
    logits = method.shared_logits({"a": first, "b": second}, present, head)
    (moved,) = torch.autograd.grad(logits["b"].square().sum(), [head.weight])
    assert (moved @ first.mean(0)).norm() < 1e-3 * moved.norm()
    method.eval()
    before = method.projection.clone()
    for name, each in method.shared_logits({"a": first, "b": second}, present, head).items():
        torch.testing.assert_close(each, logits[name])
    assert torch.equal(method.projection, before)  # use changes nothing


def own_logits(one: Trainer, batch: Any) -> tuple[dict[str, Tensor], Tensor, Any]:
    found, present, given = vectors(one, batch)
    heads = zip(found.items(), one.model.balance.heads, strict=True)  # type: ignore[union-attr, arg-type]
    return {name: vector @ head.weight.T + head.bias for (name, vector), head in heads}, present, given


def expected_term(one: Trainer, batch: Any, learning: str, strength: float, task: str) -> Tensor:
    """The term of one modality, or of all, row by row."""
    logits, present, given = own_logits(one, batch)
    names = list(logits)

    def loss(values: Tensor, row: int) -> Tensor:
        if task == "classification":
            return values.logsumexp(0) - values[given.targets[row]]
        odds = torch.where(given.targets[row] > 0, values, -values)
        return -odds.sigmoid().log().mean()

    total = torch.zeros((), dtype=torch.float64)
    for row in range(given.size):
        there = {name: logits[name][row] for place, name in enumerate(names) if present[row, place]}
        factor = given.weights[row].double() / given.weights.double().sum()
        if learning == "all":
            total = total + (factor * loss(sum(there.values()), row) if there else 0)  # type: ignore[arg-type]
        elif learning in there:
            others = [each.detach() for name, each in there.items() if name != learning]
            sure = math.exp(-float(loss(sum(others), row))) if others else 0.0  # type: ignore[arg-type]
            total = total + factor * (1 - strength * sure) * loss(there[learning], row)
    return total


@pytest.mark.parametrize("absent", [{}, SOME_ABSENT, NO_B], ids=["all there", "some absent", "one absent"])
@pytest.mark.parametrize(
    ("names", "task", "fusion"),
    [("ab", "classification", "concat"), ("abc", "classification", NESTED), ("ab", "multilabel", "concat")],
    ids=["two", "nested", "labels"],
)
def test_reconboost_boosts_one_modality_at_a_time_and_then_rectifies(
    names: str, task: str, fusion: Any, absent: dict[str, Sequence[int]]
) -> None:
    options = {"name": "reconboost", "strength": 0.4, "turn": 2, "rectification": 1}
    one = trainer(options, names, task, fusion=fusion, absent=absent)
    plain = trainer(None, names, task, fusion=fusion, absent=absent)
    turns = [each for name in names for each in (name, name, "all")]
    for step, learning in enumerate([*turns, *turns[:3]]):
        rows = STEPS[step % len(STEPS)]
        named = dict(one.model.named_parameters())
        term = expected_term(one, batches(one, rows)[0], learning, 0.4, task)
        expected = {}
        if term.requires_grad:
            own = torch.autograd.grad(term, list(named.values()), allow_unused=True)
            expected = {key: each for key, each in zip(named, own, strict=True) if each is not None}
        for key, each in gradients(plain, batches(plain, rows)).items():
            if not key.startswith("encoders."):
                expected[key] = each
        found = gradients(one, batches(one, rows))
        same(found, expected)
        moved = {key.split(".")[1] for key, each in found.items() if key.startswith("encoders.") and each.any()}
        there = set(names) - {"b"} if absent is NO_B else set(names)
        assert moved == {name for name in there if learning in (name, "all")}


@pytest.mark.parametrize(("rectification", "expected"), [(1, "a ab b ab a"), (2, "a ab ab b ab"), (0, "a b a b a")])
def test_a_turn_of_reconboost_is_that_of_all_batches_of_a_step(rectification: int, expected: str) -> None:
    one = trainer({"name": "reconboost", "rectification": rectification}, accumulate=2)
    learning = []
    for _ in range(5):
        found = gradients(one, batches(one, *STEPS[:2]))
        learning.append("".join(name for name in "ab" if found[f"encoders.{name}.first.weight"].any()))
    assert " ".join(learning) == expected
