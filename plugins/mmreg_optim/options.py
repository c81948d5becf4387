"""Options as annotated fields: a class's constructor and the documentation of its options, each said once."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass, fields
from typing import Annotated, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Le, Lt

T = TypeVar("T")


@dataclass(frozen=True)
class Doc:
    """What an option means, as an annotation of its type."""

    text: str


@dataclass_transform(kw_only_default=True)
def options(cls: type[T]) -> type[T]:
    """Make a class's fields the keyword-only options of its constructor, described by the `Doc` of their types."""
    described = dataclass(kw_only=True, eq=False)(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    lines = [f"    {field.name}: {_text(hints[field.name])}" for field in fields(described)]  # type: ignore[arg-type]
    described.__doc__ = "\n".join([inspect.cleandoc(f"{cls.__doc__}"), "", "Args:", *lines])
    return described


def _text(hint: object) -> str:
    """What the last `Doc` of a type says."""
    return [mark.text for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Doc)][-1]


Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Lt(1)]
Fraction = Annotated[float, Ge(0), Le(1)]

LearningRate = Annotated[NotNegative, Doc("the learning rate.")]
WeightDecay = Annotated[NotNegative, Doc("the weight decay; biases and norms are spared.")]
Decoupled = Annotated[bool, Doc("whether weight decay acts apart from the gradient, as in AdamW.")]
Epsilon = Annotated[NotNegative, Doc("added to denominators, so that none is zero.")]
Betas = Annotated[tuple[Share, Share], Doc("the decay of the running means of the gradient and of its square.")]
Amsgrad = Annotated[bool, Doc("whether the second moment never shrinks (Reddi et al. 2018).")]
Momentum = Annotated[NotNegative, Doc("how much of the last step goes into the next one.")]
Maximize = Annotated[bool, Doc("whether to climb the loss instead of descending it.")]
Foreach = Annotated[bool | None, Doc("whether to step all parameters by joint kernels; null: where that is faster.")]
Fused = Annotated[bool | None, Doc("whether to step by a single kernel; null: torch's choice.")]
Capturable = Annotated[bool, Doc("whether a step can be captured in a CUDA graph.")]
Differentiable = Annotated[bool, Doc("whether gradients flow through the step.")]
