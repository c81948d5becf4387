"""The model encodes the rows that are there, and what is absent changes nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toys
from torch import Tensor

from mmreg import Recipe, Signal, registry
from mmreg.contract.spec import Spec
from mmreg.errors import RecipeError
from mmreg.model.build import build
from mmreg.model.model import MultimodalModel
from mmreg.model.nodes import ModelNode
from mmreg.model.seeding import Draws
from mmreg.recipe.resolve import resolve

VECTOR = Spec("C", (4,))


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def task(outputs: int = 3) -> Any:
    made = registry.build("task", "classification")
    made.fit([index % outputs for index in range(2 * outputs)])
    return made


def model(fusion: Any = "concat", names: str = "ab", **changes: Any) -> MultimodalModel:
    data = toys.recipe("x.csv", modalities={name: {"type": "numbers"} for name in names}, fusion=fusion, **changes)
    plan = resolve(Recipe(data))
    return build(plan, dict.fromkeys(names, VECTOR), task(), torch.tensor([-1.0, -2.0, -0.5]).log_softmax(0))


def batch(values: dict[str, Tensor], present: Tensor) -> Any:
    """Signals of the rows that are present; the others are not even passed on."""
    signals, rows = {}, {}
    for index, (name, tensor) in enumerate(values.items()):
        having = present[:, index]
        if having.any():
            signals[name] = Signal(tensor[having])
            rows[name] = None if having.all() else having.nonzero().squeeze(1)
    return SimpleNamespace(signals=signals, features={}, rows=rows, present=present)


def sample(size: int = 6, names: str = "ab") -> dict[str, Tensor]:
    return {name: torch.randn(size, 4, generator=torch.Generator().manual_seed(ord(name))) for name in names}


FUSIONS = [
    "concat",
    "sum",
    "mean",
    "product",
    "weighted",
    {"name": "product", "of": [{"name": "concat", "of": ["a", "b"]}, "c"]},
    {"name": "concat", "of": [{"name": "mean", "of": ["a", "b"]}, "c"]},
    {"name": "mean", "of": [{"name": "product", "of": ["a", "b"]}, "c"]},
]


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_a_row_gives_the_same_alone_and_among_others(fusion: Any) -> None:
    net = model(fusion, "abc").eval()
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 0]]).bool()
    values = sample(6, "abc")
    together = net(batch(values, present)).scores
    for row in range(6):
        alone = net(batch({k: v[row : row + 1] for k, v in values.items()}, present[row : row + 1])).scores
        torch.testing.assert_close(alone[0], together[row])


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_a_row_without_any_modality_gets_the_prior(fusion: Any) -> None:
    net = model(fusion, "abc").eval()
    present = torch.tensor([[1, 1, 1], [0, 0, 0]]).bool()
    output = net(batch(sample(2, "abc"), present))
    torch.testing.assert_close(output.scores[1], net.prior)
    assert output.present.tolist() == [True, False]


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_scores_are_log_probabilities(fusion: Any) -> None:
    scores = model(fusion, "abc").eval()(batch(sample(5, "abc"), torch.ones(5, 3).bool())).scores
    torch.testing.assert_close(scores.logsumexp(1), torch.zeros(5))


def test_absent_rows_leave_batch_statistics_alone() -> None:
    one, two = model(), model()
    values = sample(6)
    present = torch.ones(6, 2).bool()
    present[3:, 0] = False
    one.train()(batch(values, present))
    two.train()(batch({k: v[:3] for k, v in values.items()}, present[:3]))
    norm_one: Any = one.encoders["a"].norm
    norm_two: Any = two.encoders["a"].norm
    torch.testing.assert_close(norm_one.running_mean, norm_two.running_mean)


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_a_modality_that_no_row_has_gets_zero_gradients_not_none(fusion: Any) -> None:
    net = model(fusion, "abc").train()
    present = torch.tensor([[0, 1, 1]] * 4).bool()
    output = net(batch(sample(4, "abc"), present))
    sum(supervised.logits[supervised.present].sum() for supervised in output.supervised).backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.encoders["a"].parameters())


def test_weights_are_keyed_to_names_so_that_another_modality_changes_none() -> None:
    two, three = model("concat", "ab"), model("concat", "abc")
    for key, weight in two.encoders.state_dict().items():
        assert torch.equal(weight, three.encoders.state_dict()[key])


def test_dropout_is_keyed_to_the_step_and_the_modality() -> None:
    encoder = {"name": "linear", "dropout": 0.5}
    settings = {name: {"type": "numbers", "encoder": encoder} for name in "ab"}
    nets = []
    for names in ("ab", "b"):
        data = toys.recipe("x.csv", modalities={n: settings[n] for n in names}, fusion="product")
        nets.append(build(resolve(Recipe(data)), dict.fromkeys(names, VECTOR), task()).train())
    values = sample()
    present = torch.ones(6, 2).bool()
    both = nets[0](batch(values, present), Draws(7)).parts["b"].scores
    torch.manual_seed(5)  # whatever the global state is
    again = nets[0](batch(values, present), Draws(7)).parts["b"].scores
    alone = nets[1](batch({"b": values["b"]}, present[:, :1]), Draws(7)).parts["b"].scores
    other = nets[0](batch(values, present), Draws(8)).parts["b"].scores
    assert torch.equal(both, again)
    assert torch.equal(both, alone)
    assert not torch.equal(both, other)


def test_parts_of_a_model_level_fusion_follow_their_own_losses_alone() -> None:
    net = model("mean").train()
    output = net(batch(sample(), torch.ones(6, 2).bool()))
    assert [supervised.name for supervised in output.supervised] == ["a", "b"]
    output.supervised[0].logits.sum().backward()
    assert all(parameter.grad is None for parameter in net.encoders["b"].parameters())


def test_a_joint_loss_reaches_every_part() -> None:
    net = model({"name": "mean", "own_loss": False, "joint_loss": 0.5}).train()
    output = net(batch(sample(), torch.ones(6, 2).bool()))
    assert [(supervised.name, supervised.weight) for supervised in output.supervised] == [("mean", 0.5)]
    output.supervised[0].logits[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in net.encoders.parameters())


def test_an_operators_own_parameters_follow_the_combination_without_touching_the_parts() -> None:
    net = model("weighted").train()
    output = net(batch(sample(), torch.ones(6, 2).bool()))
    assert [supervised.name for supervised in output.supervised] == ["a", "b", "weighted"]
    output.supervised[-1].logits[:, 0].sum().backward()
    assert isinstance(net.root, ModelNode)
    assert all(parameter.grad is not None for parameter in net.root.fusion.parameters())
    assert all(parameter.grad is None for parameter in net.encoders.parameters())


def test_modalities_may_have_any_name() -> None:
    names = ["type", "values", "forward", "train"]
    data = toys.recipe("x.csv", modalities={name: {"type": "numbers"} for name in names}, fusion="product")
    net = build(resolve(Recipe(data)), dict.fromkeys(names, VECTOR), task()).eval()
    values = {name: torch.randn(2, 4) for name in names}
    scores = net(batch(values, torch.ones(2, 4).bool())).scores
    clone = build(resolve(Recipe(data)), dict.fromkeys(names, VECTOR), task()).eval()
    clone.load_state_dict(net.state_dict())
    assert torch.equal(scores, clone(batch(values, torch.ones(2, 4).bool())).scores)


def test_an_encoder_that_does_not_take_the_spec_is_refused_with_both_sides_and_what_fits() -> None:
    plan = resolve(Recipe(toys.recipe("x.csv")))
    with pytest.raises(RecipeError) as caught:
        build(plan, {"a": Spec("CHW", (1, 8, 8)), "b": VECTOR}, task())
    text = str(caught.value)
    assert "linear does not take what numbers gives, CHW (1, 8, 8) float32: it takes vectors (C)" in text
    assert "image_cnn" in text


class _Raising(toys.Linear):
    """Raises when it is built.

    Args:
        lazy: whether it has a lazy module instead.
    """

    def __init__(self, spec: Spec, *, lazy: bool = False) -> None:
        if not lazy:
            raise KeyError("weights")
        super().__init__(spec)
        self.layer = torch.nn.LazyLinear(8)


@pytest.mark.parametrize(
    ("lazy", "message"),
    [(False, "local:raising cannot be built for C (4) float32: KeyError: 'weights'"), (True, "has a lazy module")],
)
def test_an_encoder_that_cannot_be_built_is_named(lazy: bool, message: str) -> None:
    registry.register("encoder", "raising", _Raising)
    data = toys.recipe("x.csv", modalities={"a": {"type": "numbers", "encoder": {"name": "raising", "lazy": lazy}}})
    with pytest.raises(RecipeError) as caught:
        build(resolve(Recipe(data)), {"a": VECTOR}, task())
    assert message in str(caught.value)
