"""Any encoder, applied to every step of a sequence, such as the pictures of a video.

Axes: B batch, T time, S valid steps of all rows, D features.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from mmreg import ComponentOf, Encoder, Features, Outputs, Signal, Spec, registry
from mmreg.errors import SpecError
from mmreg.layers import Pooling, SequencePool, length_mask


class PerStep(Encoder):
    """Encodes every step of a sequence by another encoder, then pools the steps, or gives them as tokens.

    It takes what has the time for its first axis ("TCHW", "TC", ...) and the other encoder takes without it. Valid
    steps alone are encoded, all rows' at once: padding has no part in batch statistics either.

    Args:
        encoder: the encoder of a step, by name, or a mapping of `name` and its options.
        pooling: what becomes of the steps: the `last` valid one, their `mean`, their `max`, or learned `attention`.
            Not used when tokens are asked for.

    Raises:
        SpecError: from a spec that `accepts` refuses.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        encoder: Annotated[dict[str, Any] | str, ComponentOf("encoder")] = "image_cnn",
        pooling: Pooling = "mean",
        outputs: Outputs = "pooled",
        restored: bool = False,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {"encoder": encoder}):
            raise SpecError(f"per_step does not take {spec}: {reason}")
        name, options = _named(encoder)
        self.encoder = _build(name, _step(spec), options, restored)
        self.out_features = self.encoder.out_features
        self.ragged_axis = spec.ragged_axis
        self.pool = SequencePool(self.out_features, pooling) if outputs == "pooled" else None

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes what begins with time, if the encoder of a step takes the rest."""
        if not (spec.axes.startswith("T") and len(spec.axes) > 1):
            return "it takes axes that begin with T (time) and go on with those of a step, such as TCHW"
        name, step_options = _named(options.get("encoder", "image_cnn"))
        step = _step(spec)
        encoder: type[Encoder] = registry.get("encoder", name)
        if "pooled" not in encoder.provides:
            return f"the encoder of a step has to give one vector, which {name} does not"
        reason = encoder.accepts(step, step_options)
        return f"encoder {name} does not take a step of it, {step}: {reason}" if reason else None

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the encoder of a step needs of its modality."""
        name, step_options = _named(options.get("encoder", "image_cnn"))
        encoder: type[Encoder] = registry.get("encoder", name)
        return encoder.modality_options(step_options)

    @classmethod
    def modality_defaults(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """What suits the encoder of a step best."""
        name, step_options = _named(options.get("encoder", "image_cnn"))
        encoder: type[Encoder] = registry.get("encoder", name)
        return encoder.modality_defaults(step_options)

    def forward(self, signal: Signal) -> Features:
        """Encode (B, T, ...) to pooled (B, D), or to tokens (B, T, D) with a mask if rows differ in length."""
        rows, size = signal.values.shape[:2]
        steps = signal.values.flatten(0, 1)
        exported = torch.compiler.is_exporting()  # then all steps are encoded, as their number may be any
        valid = None if exported else self._valid(signal)
        if valid is not None:
            steps = steps.index_select(0, valid)
        encoded = self.encoder(self._steps_signal(steps, signal))
        vectors: Tensor = encoded.pooled
        mask = None
        if valid is not None:
            assert signal.lengths is not None
            vectors = vectors.new_zeros(rows * size, self.out_features).index_copy(0, valid, vectors)
            mask = length_mask(signal.lengths, size)
        elif exported and signal.lengths is not None and self.ragged_axis == 0:
            mask = length_mask(signal.lengths, size)
        tokens = vectors.view(rows, size, self.out_features)
        if self.pool is None:
            return Features(tokens=tokens, mask=mask, losses=encoded.losses)
        return Features(pooled=self.pool(tokens, mask), losses=encoded.losses)

    def _valid(self, signal: Signal) -> Tensor | None:
        """The numbers (S,) of the valid steps among all B T; None if all are. No device is waited for."""
        lengths = signal.lengths_on_host() if self.ragged_axis == 0 else None
        size = signal.values.shape[1]
        if lengths is None or bool((lengths == size).all()):
            return None
        valid = length_mask(lengths, size).flatten().nonzero()[:, 0]
        return valid.to(signal.values.device, non_blocking=True)

    def _steps_signal(self, steps: Tensor, signal: Signal) -> Signal:
        """The steps as the batch of the other encoder; where it is they that vary in size, all of a row do alike."""
        if self.ragged_axis in (None, 0):
            return Signal(steps)
        size = signal.values.shape[1]
        lengths, host = (
            None if each is None else each.repeat_interleave(size) for each in (signal.lengths, signal.host_lengths)
        )
        return Signal(steps, lengths, host)

    def stages(self) -> Sequence[nn.Module]:
        """The stages of the encoder of a step."""
        return self.encoder.stages()

    def state(self) -> dict[str, Any]:
        """The state of the encoder of a step, with its version."""
        return {"version": self.encoder.version, "state": self.encoder.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, migrated if it is of another version of the encoder of a step."""
        inner = state["state"]
        if state["version"] != self.encoder.version:
            with contextlib.suppress(NotImplementedError):  # then it is taken as it is, as for any component
                inner = self.encoder.migrate(inner, state["version"])
        self.encoder.load_state(inner)


def _named(encoder: Mapping[str, Any] | str) -> tuple[str, dict[str, Any]]:
    """The name of a component and its options, those that are not given by their defaults."""
    given = {"name": encoder} if isinstance(encoder, str) else dict(encoder)
    name = given.pop("name")
    described = registry.describe("encoder", name)["options"]
    return name, {each["name"]: each["default"] for each in described if not each["required"]} | given


def _step(spec: Spec) -> Spec:
    """What one step of a sequence is."""
    return Spec(spec.axes[1:], spec.shape[1:], spec.dtype, spec.vocabulary_size)


def _build(name: str, spec: Spec, options: Mapping[str, Any], restored: bool) -> Encoder:
    """The encoder of a step, told what it asks for of what it is built for."""
    passed_in: dict[str, Any] = {"outputs": "pooled", "restored": restored}
    asked_for = inspect.signature(registry.get("encoder", name)).parameters
    passed_in = {key: value for key, value in passed_in.items() if key in asked_for}
    built: Encoder = registry.build("encoder", name, spec, **passed_in, **options)
    return built
