"""A balance in a training: what it acts on, what it is refused with, and what becomes of it in a run."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import balanced
import pytest
import torch
import toys
from balanced import batches, gradients, trainer
from torch import Tensor

import mmreg
from mmreg import Balance, BalanceBatch, EncoderGradients, Observed, registry, runs
from mmreg.errors import RecipeError
from mmreg.model.nodes import ModelNode
from mmreg.studies.compare.variants import grid_variants

ROWS = (0, 1, 2, 3, 4, 5, 6, 7)


class Looking(Balance):
    """Keeps what it is given.

    Args:
        weight: of its heads' losses.
    """

    observes = True
    modulates = True
    own_gradients = True
    seen: Tensor

    def __init__(
        self, inputs: Mapping[str, int], *, num_logits: int, num_outputs: int, space: str, weight: float = 0.0
    ) -> None:
        super().__init__()
        self.inputs, self.own_loss = dict(inputs), weight
        self.layers = torch.nn.ModuleList(torch.nn.Linear(size, num_logits) for size in inputs.values())
        self.register_buffer("seen", torch.zeros(()))
        self.batches: list[BalanceBatch] = []
        self.given: list[tuple[Mapping[str, EncoderGradients], Mapping[str, Tensor]]] = []

    def own_logits(self, vectors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: layer(each) for layer, (name, each) in zip(self.layers, vectors.items(), strict=True)}

    def observe(self, batch: BalanceBatch) -> Observed:
        self.batches.append(batch)
        self.seen += 1
        return Observed({"term": 0.5 * next(iter(batch.vectors.values())).mean()}, {"rows": batch.present.sum(0)})

    def modulate(self, gradients: Mapping[str, EncoderGradients], sums: Mapping[str, Tensor]) -> None:
        self.given.append((gradients, sums))


@pytest.fixture(autouse=True)
def _known() -> None:
    toys.register()
    balanced.register()
    registry.register("balance", "looking", Looking)


def looking(*arguments: Any, **changes: Any) -> tuple[Any, Any]:
    one = trainer("looking", *arguments, **changes)
    return one, one.model.balance


@pytest.mark.parametrize(
    ("fusion", "names", "expected"),
    [
        ("concat", "ab", "ab"),
        ("concat", "abc", "abc"),
        ({"name": "concat", "of": ["c", {"name": "sum", "of": ["a", "b"]}]}, "abc", "cab"),
        ({"name": "mean", "of": ["a", {"name": "sum", "of": ["b", "c"]}]}, "abc", "bc"),
        ({"name": "concat", "of": ["a", "b", {"name": "mean", "of": ["c", "d"]}]}, "abcd", "ab"),
        (
            {"name": "mean", "of": [{"name": "concat", "of": ["a"]}, {"name": "sum", "of": ["b", "c", "d"]}]},
            "abcd",
            "bcd",
        ),
    ],
)
def test_it_acts_on_the_modalities_that_reach_one_head(fusion: Any, names: str, expected: str) -> None:
    one, balance = looking(names, fusion=fusion)
    gradients(one, batches(one, ROWS))
    assert balance.inputs == dict.fromkeys(expected, 6)
    assert one.model.balanced.names == tuple(expected)
    assert list(balance.batches[0].vectors) == list(balance.given[0][0]) == list(expected)
    if isinstance(one.model.root, ModelNode):
        assert one.model.balanced.head is one.model.root.heads["sum"]


def test_what_is_between_gives_the_joint_scores_of_any_modalities() -> None:
    fusion = {"name": "mean", "of": ["a", {"name": "concat", "of": ["b", "c"], "dropout": 0.5, "hidden": [4]}]}
    absent = {"b": (1, 2), "c": (2, 3)}
    one, balance = looking("abc", fusion=fusion, absent=absent)
    gradients(one, batches(one, ROWS))
    seen = balance.batches[0]
    (whole, only_b, none) = (
        seen.joint(seen.present & torch.tensor(mask)) for mask in ([True, True], [True, False], [False] * 2)
    )
    one.model.eval()
    output = one.model(balanced.inputs(one, batches(one, ROWS)[0]))
    torch.testing.assert_close(
        whole[output.parts["concat"].present], output.parts["concat"].scores[output.parts["concat"].present]
    )
    assert torch.equal(none, seen.prior.expand_as(none))
    assert torch.equal(only_b[1:3], seen.prior.expand(2, 3))
    assert not torch.allclose(only_b[0], whole[0])
    assert all(module.training for module in trainer_modules(one)) is False
    one.model.train()
    gradients(one, batches(one, ROWS))
    assert all(module.training for module in trainer_modules(one))


def trainer_modules(one: Any) -> list[torch.nn.Module]:
    return list(one.model.modules())


def test_terms_and_sums_are_those_of_all_batches_of_a_step() -> None:
    one, balance = looking(accumulate=2, absent={"b": (1, 9)})
    plain = trainer(None, accumulate=2, absent={"b": (1, 9)})
    parts = (ROWS, (8, 9, 10, 11))
    found, joint = gradients(one, batches(one, *parts)), gradients(plain, batches(plain, *parts))
    (given,) = balance.given
    assert given[1]["rows"].tolist() == [12, 10]
    bias = "encoders.a.second.bias"
    torch.testing.assert_close(found[bias] - joint[bias], torch.full((6,), 0.5 / 6, dtype=torch.float64))
    assert all(not tensor.any() for each in given[0].values() for tensor in each.own)  # there is no own loss


def test_a_modality_that_no_row_has_and_a_frozen_encoder_have_gradients_of_zero_or_none() -> None:
    one, balance = looking("ab", absent={"a": range(24)}, encoders={"b": {"name": "smooth", "freeze": True}})
    one.freezing.begin(0)
    gradients(one, batches(one, ROWS))
    ((given, _),) = balance.given
    assert len(given["b"].whole) == len(given["b"].own) == 0
    assert len(given["a"].whole) == len(given["a"].own) == 4
    assert not any(each.any() for each in given["a"].own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "mean"}, "ogm_ge balances several modalities that reach one head .* here none does; leave it out"),
        ({"fusion": None, "names": "a"}, "here none does"),
        (
            {
                "names": "abcd",
                "fusion": {
                    "name": "mean",
                    "of": [{"name": "sum", "of": ["a", "b"]}, {"name": "concat", "of": ["c", "d"]}],
                },
            },
            "several: below sum, below concat",
        ),
        (
            {"balance": "pmr", "task": "regression"},
            "pmr has no meaning for a task whose scores are values; it takes log_prob",
        ),
        ({"balance": "agm", "names": "abcde"}, "agm balances 2 to 4 modalities, but concat fuses 5"),
        ({"encoders": {"b": {"share": "a"}}}, "ogm_ge changes the gradients .* shared by a, b: give each its own"),
        ({"mixup": 0.2}, "ogm_ge goes by each row's target, and mixed rows have two: leave mixup or it out"),
        ({"balance": "ogm"}, "did you mean 'ogm_ge'|there is no balance 'ogm'"),
        ({"balance": {"name": "ogm_ge", "alpha": -1}}, "training.balance.alpha: must be greater than or equal to 0"),
        ({"balance": {"name": "ogm_ge", "beta": 1}}, "training.balance.beta: is no option here"),
    ],
)
def test_what_it_cannot_work_with_is_refused(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(balanced.SIZES, "e", 2)
    monkeypatch.setitem(balanced.SIZES, "b", 4)
    monkeypatch.setattr(balanced.Exact, "mixes", frozenset({"mixup"}))
    with pytest.raises(RecipeError, match=message):
        trainer(**{"balance": "ogm_ge", "names": "ab", **changes})


@pytest.mark.parametrize("name", ["own_losses", "mmpareto"])
def test_those_that_see_no_targets_go_with_mixed_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced.Exact, "mixes", frozenset({"mixup"}))
    one = trainer(name, mixup=0.4)
    found = gradients(one, batches(one, ROWS))
    assert all(each.isfinite().all() for each in found.values())
    assert any(each.any() for key, each in found.items() if key.startswith("balance."))


@pytest.mark.parametrize("name", ["own_losses", "opm"])
def test_a_shared_encoder_is_no_obstacle_where_its_gradients_are_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(balanced.SIZES, "b", 4)
    one = trainer(name, encoders={"b": {"share": "a"}})
    assert all(each.isfinite().all() for each in gradients(one, batches(one, ROWS)).values())


@pytest.mark.parametrize("name", registry.names("balance"))
def test_every_one_trains_with_all_else_that_a_recipe_may_ask_for(tmp_path: Path, name: str) -> None:
    settings = [
        "accumulate=2",
        "gradient_clip=0.5",
        "average=0.9",
        "precision=bfloat16",
        "on_nonfinite=skip",
        "epochs=2",
    ]
    run = toys.train(
        tmp_path / "run",
        toys.rows(absent=0.3),
        **{**toys.NOISY, "fusion": {"name": "concat", "hidden": [6], "dropout": 0.1}},
        overrides=[
            *(f"training.{each}" for each in settings),
            f"training.balance={name}",
            "training.modality_dropout=0.1",
        ],
    )
    again = mmreg.load(run.folder, "cpu")
    assert again.evaluate(toys.rows(absent=0.3), split="test")["metrics"] == run.report["test"]["metrics"]
    assert run.recipe["training"]["balance"]["name"] == f"mmreg:{name}"


def test_a_step_that_is_left_out_leaves_what_it_remembers_as_it_was() -> None:
    one, balance = looking(on_nonfinite="skip")
    one.model.train()
    (batch,) = batches(one, ROWS)
    one.step([batch], 0, batch.weight)
    assert balance.seen == 1
    with torch.no_grad():
        one.model.head.bias.fill_(float("nan"))
    one.step([batch], 1, batch.weight)
    assert one.step.guard.bad is True
    assert balance.seen == 1


def test_a_run_shows_each_modalitys_own_figures_and_predicts_as_any_other(tmp_path: Path) -> None:
    plain = toys.train(tmp_path / "plain")
    run = toys.train(tmp_path / "run", overrides=["training.balance={name: own_losses, weight: 0}"])
    with (run.folder / runs.METRICS).open() as file:
        last = list(csv.DictReader(file))[-1]
    assert {f"{split}_{name}_loss" for split in ("train", "validation") for name in "ab"} <= last.keys()
    assert {"validation_a_accuracy", "validation_b_accuracy"} <= last.keys()
    for split in ("validation", "test"):
        found, expected = run.report[split]["metrics"], plain.report[split]["metrics"]
        figures = found.pop("modalities")
        assert figures.keys() == {"a", "b"}
        assert 0.3 < figures["a"]["accuracy"] < 0.7  # of four classes it tells two from two
        assert expected.pop("modalities") == {}
        assert found == expected  # which weights of 0 do not change
    assert run.predict(toys.rows()) == plain.predict(toys.rows())


@pytest.mark.parametrize("name", registry.names("balance"))
def test_scaled_gradients_are_balanced_as_others_are(name: str) -> None:
    plain, scaled = trainer(name), trainer(name)
    scaled.step.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for rows in (ROWS, (8, 9, 10), (11, 12, 13)):
        expected, found = gradients(plain, batches(plain, rows)), gradients(scaled, batches(scaled, rows))
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key] / 1024, tensor)


def test_the_weights_of_all_else_are_what_they_are_without_it() -> None:
    with_it, without = trainer("own_losses").model.state_dict(), trainer(None).model.state_dict()
    assert all(torch.equal(with_it[name], tensor) for name, tensor in without.items())


def test_runs_that_were_balanced_can_be_combined(tmp_path: Path) -> None:
    one = toys.train(tmp_path / "one", overrides=["training.balance=own_losses"])
    other = toys.train(tmp_path / "other", overrides=["training.balance=ogm_ge", "training.seed=1"])
    both = mmreg.fuse([one.folder, other.folder], "mean", tmp_path / "both", device="cpu")
    assert both.recipe["training"]["balance"] is None
    assert not [name for name in both.model.state_dict() if name.startswith("balance")]
    assert both.evaluate(toys.rows(), split="test")["metrics"]["accuracy"] > 0.5


def test_encoders_are_not_compiled_where_the_way_back_is_gone_twice(tmp_path: Path) -> None:
    run = toys.train(tmp_path / "run", overrides=["training.balance=mmpareto", "training.compile=true"])
    (note,) = run.report["notes"]
    assert note == "encoders are not compiled, as the balance goes back through them twice"


def test_a_grid_goes_over_balances_and_trains_modalities_alone_without_one() -> None:
    recipe = mmreg.Recipe(toys.recipe("rows.csv", training={"balance": "opm"}))
    balances = ["none", "own_losses", {"name": "ogm_ge", "alpha": 0.5}]
    found = {each.name: each.changes for each in grid_variants(recipe, ["concat"], None, {}, True, balances)}
    names = ["balance=none", "balance=own_losses", "balance=ogm_ge(alpha=0.5)"]
    assert list(found) == [*(f"concat [{name}]" for name in names), "a alone", "b alone"]
    chosen = [changes["training.balance"] for changes in found.values()]
    assert chosen == [None, *balances[1:], None, None]
