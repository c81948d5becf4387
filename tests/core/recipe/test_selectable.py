"""Everything selectable is a component: a plugin's optimizer, schedule, metric and callback are named in a recipe."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
import torch
import toys
from annotated_types import Gt
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from toys import train

import mmreg
from mmreg import Callback, ComponentOf, Metric, Optimizer, ParameterGroup, Recipe, Schedule, registry
from mmreg.errors import OptionError, RecipeError
from mmreg.recipe.resolve import resolve
from mmreg.recipe.schema import recipe_schema


class Signs(Optimizer):
    """Steps of one length along the gradient's sign.

    Args:
        lr: the length.
    """

    def __init__(self, *, lr: Annotated[float, Gt(0)] = 0.01) -> None:
        self.lr = lr

    def build(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        given = [{"params": list(group.parameters), "lr": self.lr * group.lr} for group in groups]
        return torch.optim.Rprop(given, lr=self.lr, etas=(0.999999, 1.000001), step_sizes=(self.lr, self.lr))


class Halving(Schedule):
    """Half the rate every epoch."""

    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, epochs: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda epoch: 0.5**epoch)


class Hits(Metric):
    """How many rows are told right, times a factor.

    Args:
        factor: the factor.
    """

    spaces = frozenset({"log_probabilities"})

    def __init__(self, *, num_outputs: int, factor: float = 1.0) -> None:
        self.num_outputs, self.factor = num_outputs, factor

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        assert scores.shape == (len(targets), self.num_outputs)
        return self.factor * int((scores.argmax(1) == targets).sum())


class Writing(Callback):
    """Writes the epochs that it was told of.

    Args:
        name_of_file: where to.
        fails: whether it fails in the second epoch.
    """

    def __init__(self, *, name_of_file: str = "told.json", fails: bool = False) -> None:
        self.name_of_file, self.fails = name_of_file, fails
        self.told: list[int] = []

    def on_epoch_end(self, run: mmreg.FollowedRun, epoch: mmreg.Epoch) -> None:
        self.told.append(epoch.number)
        (run.folder / self.name_of_file).write_text(json.dumps(self.told))
        if self.fails and epoch.number == 2:
            raise ValueError("of its own")


@pytest.fixture(autouse=True)
def _registered() -> None:
    toys.register()
    registry.register("optimizer", "signs", Signs)
    registry.register("schedule", "halving", Halving)
    registry.register("metric", "hits", Hits)
    registry.register("callback", "writing", Writing)


def test_an_optimizer_and_a_schedule_of_a_plugin_train(tmp_path: Path) -> None:
    overrides = ["training.optimizer={name: signs, lr: 0.02}", "training.schedule=halving"]
    run = train(tmp_path, overrides=overrides)
    with (tmp_path / "metrics.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == [0.02, 0.01, 0.005]
    facts = json.loads((tmp_path / "components.json").read_text())["components"]
    assert len(facts["optimizer"].pop("code")) == 32
    assert facts["optimizer"] == {"name": "signs", "distribution": "local", "version": "", "component_version": 1}
    assert run.recipe["training"]["schedule"] == {"name": "local:halving"}


def test_a_metric_of_a_plugin_is_measured_in_every_place_and_may_choose_the_weights(tmp_path: Path) -> None:
    run = train(tmp_path, metrics=[{"name": "hits", "factor": 2.0}], overrides=["training.metric=hits"])
    for split in ("validation", "test"):
        figures = run.report[split]
        assert figures["metrics"]["hits"] == pytest.approx(2 * figures["metrics"]["accuracy"] * figures["rows"])
    assert run.report["best"]["metric"] == "hits"
    with (tmp_path / "metrics.csv").open() as file:
        assert all(float(row["validation_hits"]) >= 0 for row in csv.DictReader(file))
    again = mmreg.load(tmp_path, "cpu")
    assert again.plan.metrics["hits"].options == {"factor": 2.0}


def test_a_metric_may_be_asked_for_afterwards_too(tmp_path: Path) -> None:
    run = train(tmp_path)
    rows = toys.rows()
    assert run.evaluate(rows, metrics=["hits"])["metrics"]["hits"] > 0
    with pytest.raises(OptionError, match="the task has no metric 'hts'; did you mean 'hits'"):
        run.evaluate(rows, metrics=["hts"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["hit"]}, "has no metric 'hit'; did you mean 'hits'"),
        ({"metrics": [{"name": "hits", "fctor": 1}]}, "metrics.0.fctor: is no option here; did you mean 'factor'"),
        ({"metrics": [{"name": "accuracy", "top": 1}]}, "accuracy is the task's own metric and takes no options"),
        ({"metrics": ["hits", {"name": "hits", "factor": 3.0}]}, "the metric 'hits' is named twice"),
        ({"metrics": ["hits"], "target": {"column": "a", "task": "regression"}}, "hits has no meaning for the task"),
        ({"callbacks": ["writng"]}, "there is no callback 'writng'; did you mean 'writing'"),
        ({"training": {"optimizer": {"name": "signs", "lr": 0}}}, "training.optimizer.lr: must be greater than 0"),
    ],
)
def test_a_wrong_choice_is_told_with_its_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(Recipe(toys.recipe(toys.rows(40), **changes)))
    assert message in str(caught.value)


def test_a_callback_is_chosen_and_configured_in_a_recipe(tmp_path: Path) -> None:
    train(tmp_path, callbacks=[{"name": "writing", "name_of_file": "here.json"}])
    assert json.loads((tmp_path / "here.json").read_text()) == [1, 2, 3]


def test_a_chosen_callback_that_fails_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, callbacks=[{"name": "writing", "fails": True}])
    assert json.loads((tmp_path / "told.json").read_text()) == [1, 2]
    assert "callback local:writing" in caplog.text
    assert "is left out of this training: Writing.on_epoch_end raised ValueError: of its own" in caplog.text


def test_callbacks_may_be_others_when_a_training_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, callback=toys.Listening(stop_after=10))
    train(tmp_path, callbacks=["writing"], resume=True)
    assert json.loads((tmp_path / "told.json").read_text()) == [2, 3]


class Extra(mmreg.FeatureFusion):
    """Concatenates, and adds to the loss."""

    def __init__(self, inputs: Mapping[str, int]) -> None:
        super().__init__()
        self.out_features = sum(inputs.values())

    def forward(self, features: Mapping[str, mmreg.Features], present: Tensor) -> mmreg.Features:
        joined = torch.cat([part.pooled for part in features.values() if part.pooled is not None], 1)
        return mmreg.Features(pooled=joined, losses={"loss": joined.square().mean() * 0 + 7.0})


def test_an_extra_loss_never_takes_the_place_of_a_part_s_own(tmp_path: Path) -> None:
    registry.register("fusion", "extra", Extra)
    fusion = {"name": "mean", "of": [{"name": "extra", "of": ["a"]}, "b"]}
    train(tmp_path, fusion=fusion)
    with (tmp_path / "metrics.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["train_extra_extra_loss"]) == pytest.approx(7.0)
    assert 0 < float(row["train_extra_loss"]) < 5


def test_columns_of_metrics_that_would_have_one_name_are_numbered() -> None:
    values = [("a_b", "loss", 1.0), ("a", "b_loss", 2.0)]
    epoch = mmreg.Epoch(1, 2, 0.1, tuple(mmreg.MetricValue("train", *each) for each in values))
    assert epoch.row() == {"epoch": 1, "step": 2, "learning_rate": 0.1, "train_a_b_loss": 1.0, "train_a_b_loss_2": 2.0}
    assert epoch.get("train", "b_loss", "a") == 2.0
    assert mmreg.Epoch.from_plain(json.loads(json.dumps(epoch.to_plain()))) == epoch


class Ordinal(mmreg.Task):
    """Ordered classes: one score, and cut points that are learned (the cumulative link model, McCullagh 1980)."""

    space = "log_probabilities"
    main_metric = "accuracy"
    metrics: ClassVar[Mapping[str, bool]] = {"accuracy": True}

    def fit(self, values: Sequence[Any]) -> None:
        self._set(sorted(set(values)))

    def _set(self, labels: list[Any]) -> None:
        self.labels = labels
        self.num_outputs = len(labels)
        self.module = nn.ParameterDict({"cuts": nn.Parameter(torch.linspace(-1, 1, len(labels) - 1))})

    @property
    def num_logits(self) -> int:
        return 1

    def encode(self, values: Sequence[Any]) -> Any:
        return np.array([self.labels.index(value) for value in values], np.int64)

    def row_weights(self, targets: Any) -> Any:
        return np.ones(len(targets), np.float32)

    def scores(self, logits: Tensor) -> Tensor:
        if logits.shape[1] == self.num_outputs:
            return logits
        assert isinstance(self.module, nn.ParameterDict)
        below = torch.sigmoid(self.module["cuts"].sort().values - logits)
        ends = below.new_zeros(len(below), 1), below.new_ones(len(below), 1)
        return (torch.cat([below, ends[1]], 1) - torch.cat([ends[0], below], 1)).clamp(min=1e-6).log()

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.nll_loss(self.scores(scores), targets, reduction="none")

    def prior(self, targets: Any, weights: Any) -> Tensor:
        return torch.full((self.num_outputs,), 1 / self.num_outputs).log()

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        return {"accuracy": float((scores.argmax(1) == targets).double().mean())}

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        return {"label": [self.labels[k] for k in scores.argmax(1).tolist()]}

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        return f"Accuracy: {result['accuracy']:.0%}"

    def state(self) -> dict[str, Any]:
        return {"labels": self.labels}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._set(list(state["labels"]))


@pytest.mark.parametrize("fusion", ["concat", "mean"])
def test_a_task_may_own_parameters_and_a_head_of_another_width_than_its_scores(tmp_path: Path, fusion: str) -> None:
    registry.register("task", "cut_points", Ordinal)
    table = [{**row, "label": "lmh"[sum(value > 1 for value in (row["a"][0], row["b"][0]))]} for row in toys.rows()]
    target = {"column": "label", "task": "cut_points"}
    run = train(tmp_path, table, target=target, fusion=fusion, overrides=["training.epochs=20"])
    cuts = run.model.state_dict()["task_module.cuts"]
    assert not torch.equal(cuts, torch.linspace(-1, 1, 2))
    assert run.report["test"]["metrics"]["accuracy"] > 0.6
    heads = [tensor for name, tensor in run.model.state_dict().items() if name.endswith(("head.weight", ".a.weight"))]
    assert all(len(tensor) == 1 for tensor in heads if "heads" in tensor.names or tensor.ndim == 2)
    again = mmreg.load(tmp_path, "cpu")
    assert torch.equal(again.model.state_dict()["task_module.cuts"], cuts)
    assert again.predict(table) == run.predict(table)


def test_an_option_that_is_a_component_is_checked_completed_recorded_and_in_the_schema(tmp_path: Path) -> None:
    class Wrapping(toys.Linear):
        """Another encoder.

        Args:
            inner: what encodes.
        """

        def __init__(self, spec: mmreg.Spec, *, inner: Annotated[dict[str, Any] | str, ComponentOf("encoder")]) -> None:
            nn.Module.__init__(self)
            self.inner = registry.build("encoder", inner, spec)
            self.out_features = self.inner.out_features

        def forward(self, signal: mmreg.Signal) -> mmreg.Features:
            features: mmreg.Features = self.inner(signal)
            return features

    registry.register("encoder", "wrapping", Wrapping)
    inputs: dict[str, Any] = {"a": {"type": "numbers", "encoder": {"name": "wrapping", "inner": "linear"}}}
    run = train(tmp_path, modalities=inputs, fusion=None)
    full = {"name": "local:linear", "features": 8, "dropout": 0.0}
    assert run.recipe["modalities"]["a"]["encoder"]["inner"] == full
    facts = json.loads((tmp_path / "components.json").read_text())["components"]
    assert facts["encoder/a.inner"]["name"] == "linear"
    inputs["a"]["encoder"]["inner"] = {"name": "linear", "featurs": 3}
    with pytest.raises(RecipeError, match=r"modalities\.a\.encoder\.inner\.featurs: is no option here; did you mean"):
        resolve(Recipe(toys.recipe(toys.rows(40), modalities=inputs, fusion=None)))
    schema = recipe_schema()
    rule = next(r for r in schema["$defs"]["EncoderChoice"]["allOf"] if "wrapping" in str(r["if"]))
    assert {"$ref": "#/$defs/EncoderChoice"} in rule["then"]["properties"]["inner"]["anyOf"]
    described = registry.describe("encoder", "wrapping")["options"][0]
    assert described["type"] == "encoder by name, or with options"


class Failing(Metric):
    """A metric that fails.

    Args:
        how: how.
    """

    spaces = frozenset({"log_probabilities"})

    def __init__(self, *, num_outputs: int, how: str = "nan") -> None:
        self.how = how

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        if self.how == "raise":
            raise ValueError("of its own")
        if self.how == "exit":
            raise SystemExit(0)
        return float(self.how)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("nan", "gave nan"),
        ("inf", "gave inf"),
        ("raise", "raised ValueError: of its own"),
        ("exit", "raised SystemExit"),
    ],
)
def test_a_metric_that_fails_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, told: str
) -> None:
    registry.register("metric", "failing", Failing)
    run = train(tmp_path, metrics=[{"name": "failing", "how": how}, "hits"])
    assert "failing" not in run.report["test"]["metrics"]
    assert run.report["test"]["metrics"]["hits"] > 0
    assert f"the metric failing (of {Failing.__module__.partition('.')[0]}) {told}" in caplog.text
    assert mmreg.load(tmp_path, "cpu").plan.metric_names == ["failing", "hits"]


def test_weights_cannot_be_chosen_by_a_metric_that_fails(tmp_path: Path) -> None:
    registry.register("metric", "failing", Failing)
    with pytest.raises(mmreg.errors.TrainingError, match="the metric 'failing' chooses the weights, but gave"):
        train(tmp_path, overrides=["training.metric=failing"])


def test_a_metric_that_says_no_spaces_stands_in_nobody_s_way(tmp_path: Path) -> None:
    class Spaceless(Metric):
        """A metric without spaces."""

        def compute(self, scores: Tensor, targets: Tensor) -> float:
            return 1.0

    registry.register("metric", "spaceless", Spaceless)
    with pytest.raises(RecipeError, match="has no metric 'hts'; did you mean 'hits'"):
        resolve(Recipe(toys.recipe(toys.rows(40), metrics=["hts"])))


def test_a_metric_for_other_scores_says_which(tmp_path: Path) -> None:
    target = {"column": "a", "task": "regression"}
    with pytest.raises(RecipeError, match="hits has no meaning for the task 'regression', whose scores are values"):
        resolve(Recipe(toys.recipe(toys.rows(40), target=target, metrics=["hits"])))


def test_a_component_that_raises_is_a_problem_of_the_recipe_that_names_it() -> None:
    class Raising(Callback):
        """Raises."""

        def __init__(self) -> None:
            raise ValueError("of its own")

    registry.register("callback", "raising", Raising)
    with pytest.raises(RecipeError, match=r"callback local:raising cannot be built: ValueError: of its own"):
        resolve(Recipe(toys.recipe(toys.rows(40), callbacks=["raising"])))


def test_an_encoder_whose_accepts_raises_is_told_and_hides_no_other_reason(tmp_path: Path) -> None:
    class Unsure(toys.Linear):
        __doc__ = toys.Linear.__doc__

        @classmethod
        def accepts(cls, spec: mmreg.Spec, options: Mapping[str, Any]) -> str | None:
            raise RuntimeError("of its own")

    registry.register("encoder", "unsure", Unsure)
    inputs: dict[str, Any] = {"a": {"type": "numbers", "encoder": "unsure"}}
    with pytest.raises(RecipeError, match="encoder local:unsure cannot say whether it takes"):
        mmreg.build_model(toys.recipe(toys.rows(40), modalities=inputs, fusion=None))
    inputs["a"]["encoder"] = "image_cnn"
    with pytest.raises(RecipeError, match="image_cnn does not take what numbers gives"):
        mmreg.build_model(toys.recipe(toys.rows(40), modalities=inputs, fusion=None))


def test_parameters_of_a_task_come_from_the_recipe_s_seed(tmp_path: Path) -> None:
    class Random(Ordinal):
        def _set(self, labels: list[Any]) -> None:
            super()._set(labels)
            self.module = nn.ParameterDict({"cuts": nn.Parameter(torch.randn(len(labels) - 1))})

    registry.register("task", "random", Random)
    target = {"column": "label", "task": "random"}
    cuts = [train(tmp_path / name, target=target).model.state_dict()["task_module.cuts"] for name in "ab"]
    assert torch.equal(*cuts)


def test_how_weights_are_trained_is_said_of_a_component_as_a_whole() -> None:
    inner = {"name": "image_cnn", "freeze": True}
    encoder = {"name": "per_step", "encoder": inner}
    inputs = {"a": {"type": "numbers", "encoder": encoder}}
    with pytest.raises(RecipeError, match=r"a\.encoder\.encoder\.freeze: is no option here"):
        resolve(Recipe(toys.recipe(toys.rows(40), modalities=inputs, fusion=None)))
