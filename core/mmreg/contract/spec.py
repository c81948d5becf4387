"""What one sample of a modality is: the contract by which modalities and encoders find each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

GRID = "CHW"
"""An image, or a spectrogram (its height is frequency and its width is time)."""
SEQUENCE = "TC"
"""A sequence of vectors: a waveform, sensor readings, word vectors."""
TOKENS = "T"
"""A sequence of token numbers below `Spec.vocabulary_size`."""
VECTOR = "C"
"""One vector."""


@dataclass(frozen=True)
class Spec:
    """What one sample of a modality is, without the batch axis.

    Attributes:
        axes: one letter per axis, such as `GRID` ("CHW"), `SEQUENCE` ("TC"), `TOKENS` ("T") or `VECTOR` ("C").
            A plugin may bring its own ("TCHW" for video).
        shape: the size of each axis; None for the one that varies between samples (the ragged axis), at most one.
        dtype: the name of the torch dtype, such as "float32" or "int64".
        vocabulary_size: for tokens: how many there are, padding (always number 0) included.

    Raises:
        ValueError: when axes and shape differ in length or more than one axis is ragged.

    Example:
        >>> spec = Spec(SEQUENCE, (None, 3))  # any number of steps, of three channels each
        >>> spec.ragged_axis, spec.size("C")
        (0, 3)
        >>> print(Spec(TOKENS, (None,), "int64", vocabulary_size=1000))
        T (any) int64, 1000 tokens
    """

    axes: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.shape):
            raise ValueError(f"a spec with axes {self.axes!r} needs {len(self.axes)} sizes, found {self.shape}")
        if self.shape.count(None) > 1:
            raise ValueError(f"at most one axis of a spec may be ragged, found {self.shape} for axes {self.axes!r}")

    @property
    def ragged_axis(self) -> int | None:
        """The index of the axis that varies between samples, not counting the batch axis; None if none does."""
        return self.shape.index(None) if None in self.shape else None

    def size(self, axis: str) -> int | None:
        """The size of the axis with this letter; None if it is ragged."""
        return self.shape[self.axes.index(axis)]

    def __str__(self) -> str:
        sizes = ", ".join("any" if n is None else str(n) for n in self.shape)
        words = f", {self.vocabulary_size} tokens" if self.vocabulary_size is not None else ""
        return f"{self.axes} ({sizes}) {self.dtype}{words}"

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON data; `from_json` reads it back."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """The spec that `to_json` wrote."""
        return cls(**{**data, "shape": tuple(data["shape"])})


Specs = Spec | Mapping[str, Spec]
"""What one sample of a modality is: one array, or several by name (then all ragged ones are of the same length)."""


def by_name(specs: Specs) -> dict[str, Spec]:
    """The specs of a sample's arrays by their names; of one array alone, under the empty name."""
    return {"": specs} if isinstance(specs, Spec) else dict(specs)


def specs_text(specs: Specs) -> str:
    """What messages call it, such as "C (4) float32", or "numbers: C (4) float32; words: T (any) int64, 9 tokens"."""
    return "; ".join(f"{name}: {spec}" if name else str(spec) for name, spec in by_name(specs).items())


def specs_to_json(specs: Specs) -> dict[str, Any]:
    """The specs as plain JSON data; `specs_from_json` reads them back."""
    return specs.to_json() if isinstance(specs, Spec) else {name: spec.to_json() for name, spec in specs.items()}


def specs_from_json(data: Mapping[str, Any]) -> Specs:
    """The specs that `specs_to_json` wrote."""
    if isinstance(data.get("axes"), str):  # of several arrays, one called "axes" would be a mapping
        return Spec.from_json(data)
    return {name: Spec.from_json(spec) for name, spec in data.items()}
