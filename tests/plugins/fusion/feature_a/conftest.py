"""What the tests of the elementary, gated, bilinear and tensor families share: cases, batches, row-wise references."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mmreg.contract.signals import Features
from mmreg_fusion.plugin import FEATURE

FAMILIES = ("elementary", "gated", "bilinear", "tensor")

# Small widths, and every option that changes the formula. The sizes of chunks and ranks differ, to tell axes apart.
CASES: dict[str, list[dict[str, Any]]] = {
    "concat": [{}, {"project": 3, "hidden": [5, 4]}],
    "sum": [{"features": 4}],
    "average": [{"features": 4}],
    "maximum": [{"features": 4}],
    "multiply": [{"features": 4}],
    "attention": [{"features": 4}],
    "deepset": [{"features": 4, "hidden": 5}],
    "gmu": [{"features": 4}],
    "film": [{"features": 4}],
    "highway": [{"features": 2, "num_layers": 2}],
    "bilinear": [{"features": 4}, {"features": 4, "project": 3}],
    "mcb": [{"features": 16}, {"features": 7}],
    "mlb": [{"features": 4, "rank": 5}],
    "mfb": [{"features": 4, "rank": 3, "dropout": 0.0}],
    "mfh": [{"features": 4, "rank": 3, "order": 3, "dropout": 0.0}],
    "mutan": [{"features": 4, "width": 5, "rank": 2}],
    "block": [{"features": 4, "width": 6, "chunks": 2, "rank": 4}],
    "tensor": [{}, {"features": 4, "project": 2}],
    "low_rank": [{"features": 4, "rank": 3}],
    "multiplicative": [{"features": 4, "form": form} for form in ("matrix", "vector", "scalar")],
}


def operator(name: str) -> type[nn.Module]:
    """The class of an operator, by the plugin's table."""
    for family in FAMILIES:
        if name in FEATURE[family]:
            found: type[nn.Module] = getattr(
                import_module(f"mmreg_fusion.feature_level.{family}"), FEATURE[family][name][0]
            )
            return found
    raise LookupError(name)


def build(name: str, sizes: list[int], seed: int = 0, **options: Any) -> Any:
    """An operator in double precision for modalities m0, m1, ... of these sizes."""
    torch.manual_seed(seed)
    return operator(name)({f"m{index}": size for index, size in enumerate(sizes)}, **options).double()


def batch(sizes: list[int], rows: int, seed: int = 0, scale: float = 1.0) -> list[torch.Tensor]:
    """Standard normal vectors (rows, D) of each modality."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, size, generator=generator, dtype=torch.float64) * scale for size in sizes]


def patterns(count: int) -> torch.Tensor:
    """All subsets of modalities, (2^count, count) bool, the empty one first."""
    return torch.tensor([[bool(row >> index & 1) for index in range(count)] for row in range(2**count)])


def fuse(fusion: Any, vectors: list[torch.Tensor], present: torch.Tensor | None = None) -> torch.Tensor:
    """The operator's fused vectors."""
    if present is None:
        present = torch.ones(len(vectors[0]), len(vectors), dtype=torch.bool)
    features = {f"m{index}": Features(vector) for index, vector in enumerate(vectors)}
    fused: torch.Tensor = fusion(features, present).pooled
    return fused


def weights(fusion: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers as NumPy arrays."""
    return {key: value.numpy() for key, value in fusion.state_dict().items()}


def affine(state: dict[str, np.ndarray], prefix: str, vector: np.ndarray) -> np.ndarray:
    """A linear layer by its name, of one vector."""
    result = state[f"{prefix}.weight"] @ vector
    return result + state[f"{prefix}.bias"] if f"{prefix}.bias" in state else result


def check(name: str, reference: Any, counts: range = range(1, 6), **options: Any) -> None:
    """Compare an operator with a reference on every pattern of absence, for several numbers and sizes of modalities.

    The reference gets the weights and one row, a list of vectors or None (absent), and gives the fused vector.
    """
    for count in counts:
        sizes = [3, 1, 2, 4, 3][:count]
        fusion = build(name, sizes, seed=count, **options).eval()
        present = patterns(count)
        vectors = batch(sizes, len(present), seed=count)
        found = fuse(fusion, vectors, present).detach().numpy()
        assert found.shape == (len(present), fusion.out_features)
        for row, there in enumerate(present.tolist()):
            values = [
                vector[row].numpy() if is_there else None for vector, is_there in zip(vectors, there, strict=True)
            ]
            wanted = reference(weights(fusion), values, sizes)
            np.testing.assert_allclose(found[row], wanted, rtol=1e-9, atol=1e-10, err_msg=f"{name}, present: {there}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that take `case` run on every operator of the four families, with each of its sets of options."""
    if "case" in metafunc.fixturenames:
        names = [name for family in FAMILIES for name in FEATURE[family]]
        cases = [(name, options) for name in names for options in CASES[name]]
        ids = [f"{name}-{index}" for name in names for index in range(len(CASES[name]))]
        metafunc.parametrize("case", cases, ids=ids)


@pytest.fixture
def kit() -> SimpleNamespace:
    """The functions above."""
    return SimpleNamespace(
        affine=affine, batch=batch, build=build, check=check, fuse=fuse, patterns=patterns, weights=weights
    )
