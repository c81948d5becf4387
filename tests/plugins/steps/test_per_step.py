"""Every valid step is encoded as it would be alone, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mmreg import Encoder, Features, Signal, Spec, registry
from mmreg.errors import ComponentNotFoundError, OptionError, SpecError
from mmreg.layers import SequencePool
from mmreg.testing import parametrize_checks

VIDEO = Spec("TCHW", (None, 3, 8, 8))
OPTIONS = {"channels": [4, 6], "features": 5, "dropout": 0.0}
SMALL = {"name": "image_cnn", **OPTIONS}
LENGTHS = torch.tensor([3, 1, 4, 2])


class Vectors(Encoder):
    """A linear layer over the vector of a step, which keeps what it is told.

    Args:
        features: the size of the result.
    """

    version: ClassVar[int] = 2
    built: ClassVar[list[bool]] = []

    def __init__(self, spec: Spec, *, features: int = 3, restored: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(spec.shape[0] or 1, features)
        self.out_features = features
        self.unit = "metre"
        self.built.append(restored)

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        return None if spec.axes == "C" and options["features"] < 9 else "it takes vectors, and few features"

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"size": options["features"]}

    @classmethod
    def modality_defaults(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"noise": options["features"] / 10}

    def stages(self) -> list[nn.Module]:
        return [self.linear]

    def forward(self, signal: Signal) -> Features:
        return Features(pooled=self.linear(signal.values), losses={"size": signal.values.square().mean()})

    def state(self) -> dict[str, Any]:
        return {"unit": self.unit}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.unit = state["unit"]

    @classmethod
    def migrate(cls, state: Mapping[str, Any], version: int) -> Mapping[str, Any]:
        return {"unit": f"{state['scale']} of version {version}"}


class TokensAlone(Encoder):
    """It gives no vector."""

    provides = frozenset({"tokens"})

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    def forward(self, signal: Signal) -> Features:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _encoders() -> None:
    registry.register("encoder", "vectors", Vectors)
    registry.register("encoder", "tokens_alone", TokensAlone)


def build(spec: Spec = VIDEO, *, outputs: str = "pooled", **options: Any) -> Any:
    torch.manual_seed(0)
    return registry.build("encoder", "per_step", spec, outputs=outputs, **{"encoder": SMALL, **options})


def batch(lengths: Tensor = LENGTHS, *, more: int = 0, padding: float = 7.0) -> Signal:
    """A batch of videos; what lies beyond a row's length holds the padding."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(len(lengths), 4, 3, 8, 8, generator=generator)
    values = torch.cat([values, torch.zeros(len(lengths), more, 3, 8, 8)], 1)
    for row, length in enumerate(lengths.tolist()):
        values[row, length:] = padding
    return Signal(values, lengths, lengths)


@parametrize_checks("encoder/per_step", specs=[VIDEO])
def test_default_options_conform(check):
    check()


@parametrize_checks(
    "encoder/per_step",
    specs=[VIDEO, Spec("TCHW", (3, 1, 6, 6))],
    options={
        "encoder": {"name": "image_cnn", "channels": [4], "features": 5, "normalization": "group"},
        "pooling": "attention",
    },
)
def test_other_options_conform(check):
    check()


@parametrize_checks(
    "encoder/per_step",
    specs=[Spec("TCHW", (3, 1, 6, None))],
    options={"encoder": {"name": "image_cnn", "channels": [4], "features": 5, "pooling": "masked_global"}},
)
def test_steps_that_vary_in_size_conform(check):
    check()


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_it_is_the_pool_of_each_step_encoded_by_hand(pooling):
    encoder = build(pooling=pooling).eval()
    signal = batch()
    pool: SequencePool = encoder.pool
    for row, length in enumerate(LENGTHS.tolist()):
        steps = encoder.encoder(Signal(signal.values[row, :length])).pooled
        expected = pool(steps[None], None)[0]
        torch.testing.assert_close(encoder(signal).pooled[row], expected)


def test_tokens_are_the_steps_in_their_order():
    encoder = build(outputs="tokens").eval()
    signal = batch()
    features = encoder(signal)
    assert features.pooled is None
    assert features.mask.tolist() == [[step < length for step in range(4)] for length in LENGTHS.tolist()]
    for row, length in enumerate(LENGTHS.tolist()):
        for step in range(length):
            alone = encoder.encoder(Signal(signal.values[row, step : step + 1])).pooled[0]
            torch.testing.assert_close(features.tokens[row, step], alone)
        assert not features.tokens[row, length:].any()


def test_steps_that_are_all_valid_need_no_mask():
    encoder = build(outputs="tokens").eval()
    signal = batch(torch.full((4,), 4))
    features = encoder(signal)
    assert features.mask is None
    fixed = build(Spec("TCHW", (4, 3, 8, 8)), outputs="tokens").eval()
    assert torch.equal(features.tokens, fixed(Signal(signal.values)).tokens)


@pytest.mark.parametrize("padding", [0.0, 1e6, float("nan")])
def test_padding_leaks_into_neither_results_nor_statistics_nor_gradients(padding):
    expected, found = build().train(), build().train()
    wanted = expected(batch()).pooled
    given = found(batch(more=3, padding=padding)).pooled
    torch.testing.assert_close(given, wanted)
    wanted.square().sum().backward()
    given.square().sum().backward()
    for one, two in zip(expected.parameters(), found.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad)
    for one, two in zip(expected.buffers(), found.buffers(), strict=True):
        torch.testing.assert_close(two, one)


def test_batch_statistics_are_those_of_the_valid_steps():
    encoder = build().train()
    encoder(batch())
    alone = registry.build("encoder", "image_cnn", Spec("CHW", (3, 8, 8)), **OPTIONS)
    alone.load_state_dict(build().encoder.state_dict())
    signal = batch()
    valid = torch.cat([signal.values[row, :length] for row, length in enumerate(LENGTHS.tolist())])
    alone.train()(Signal(valid))
    for one, two in zip(encoder.encoder.buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(two, one)


def test_every_parameter_gets_a_gradient_of_every_valid_step():
    encoder = build(pooling="attention").train()
    signal = batch()
    signal.values.requires_grad_()
    encoder(signal).pooled.square().sum().backward()
    assert all(parameter.grad.any() for name, parameter in encoder.named_parameters() if "bias" not in name)
    reached = signal.values.grad.flatten(2).any(2)
    assert reached.tolist() == [[step < length for step in range(4)] for length in LENGTHS.tolist()]


def test_lengths_that_are_on_the_device_alone_will_do():
    encoder = build().eval()
    signal = batch()
    assert torch.equal(encoder(Signal(signal.values, signal.lengths)).pooled, encoder(signal).pooled)


@pytest.mark.parametrize("outputs", ["pooled", "tokens"])
def test_it_may_be_an_encoder_of_vectors_whose_losses_go_on(outputs):
    encoder = build(Spec("TC", (None, 2)), encoder="vectors", outputs=outputs)
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [9.0, 9.0]]])
    features = encoder(Signal(values, torch.tensor([2, 1])))
    found = features.pooled[1] if outputs == "pooled" else features.tokens[1, 0]
    torch.testing.assert_close(found, encoder.encoder.linear(values[1, 0]))
    valid = torch.tensor([1.0, 2, 3, 4, 5, 6])
    torch.testing.assert_close(features.losses["size"], valid.square().mean())


def test_sequences_of_sequences_are_encoded_by_itself():
    inner = {"name": "per_step", "encoder": SMALL}
    encoder = build(Spec("TTCHW", (2, 3, 3, 8, 8)), encoder=inner, pooling="last").eval()
    values = torch.randn(2, 2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = encoder.encoder.encoder(Signal(values[:, 1].flatten(0, 1))).pooled.view(2, 3, -1).mean(1)
    torch.testing.assert_close(encoder(Signal(values)).pooled, expected)


@pytest.mark.parametrize(
    ("spec", "encoder", "reason"),
    [
        (Spec("CHW", (3, 8, 8)), "image_cnn", "it takes axes that begin with T"),
        (Spec("T", (None,), "int64", 9), "image_cnn", "it takes axes that begin with T"),
        (Spec("TC", (None, 4)), "image_cnn", "encoder image_cnn does not take a step of it, C .* it takes axes CHW"),
        (Spec("TCHW", (3, 1, 6, None)), "image_cnn", "needs pooling 'masked_global', found 'flatten'"),
        (Spec("TC", (None, 4)), {"name": "vectors", "features": 9}, "it takes vectors, and few features"),
        (Spec("TC", (None, 4)), "tokens_alone", "has to give one vector, which tokens_alone does not"),
    ],
)
def test_what_it_does_not_take_is_refused_with_the_reason(spec, encoder, reason):
    accepted = registry.get("encoder", "per_step").accepts(spec, {"encoder": encoder, "pooling": "mean"})
    with pytest.raises(SpecError, match=reason) as caught:
        build(spec, encoder=encoder)
    assert str(caught.value) == f"per_step does not take {spec}: {accepted}"


def test_what_is_wrong_with_the_other_encoder_is_told():
    with pytest.raises(ComponentNotFoundError, match="there is no encoder 'image_cn'; did you mean 'image_cnn'"):
        build(encoder="image_cn")
    with pytest.raises(OptionError, match="chanels: is no option here; did you mean 'channels'"):
        build(encoder={"name": "image_cnn", "chanels": [3]})


def test_it_asks_of_its_modality_what_the_other_encoder_asks_for():
    cls = registry.get("encoder", "per_step")
    assert cls.modality_options({"encoder": {"name": "vectors", "features": 4}}) == {"size": 4}
    assert cls.modality_defaults({"encoder": {"name": "vectors", "features": 4}}) == {"noise": 0.4}


def test_its_stages_are_those_of_the_other_encoder():
    built = registry.build("encoder", "per_step", Spec("TC", (None, 2)), encoder="vectors")
    assert built.stages() == [built.encoder.linear]


def test_the_other_encoder_is_told_whether_it_is_restored():
    Vectors.built.clear()
    for given in ({}, {"restored": True}):
        registry.build("encoder", "per_step", Spec("TC", (None, 2)), encoder="vectors", **given)
    assert Vectors.built == [False, True]


@pytest.mark.parametrize(
    ("state", "unit"),
    [
        ({"version": 2, "state": {"unit": "foot"}}, "foot"),
        ({"version": 1, "state": {"scale": "mile"}}, "mile of version 1"),
    ],
)
def test_state_is_that_of_the_other_encoder_migrated_if_it_is_older(state, unit):
    encoder = registry.build("encoder", "per_step", Spec("TC", (None, 2)), encoder="vectors", restored=True)
    assert encoder.state() == {"version": 2, "state": {"unit": "metre"}}
    encoder.load_state(state)
    assert encoder.encoder.unit == unit


def test_state_of_another_version_that_cannot_be_migrated_is_taken_as_it_is(monkeypatch):
    monkeypatch.delattr(Vectors, "migrate")
    encoder = registry.build("encoder", "per_step", Spec("TC", (None, 2)), encoder="vectors")
    encoder.load_state({"version": 1, "state": {"unit": "yard"}})
    assert encoder.encoder.unit == "yard"
