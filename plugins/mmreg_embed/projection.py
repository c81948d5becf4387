"""Vectors in two dimensions.

Axes: N rows, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.errors import ComponentImportError, OptionError, TableError
from mmreg_embed.searching_rows import check_comparable
from mmreg_embed.vectors import Vectors

Method = Literal["pca", "umap"]
OWN = ("vector", "x", "y")
NEIGHBOURS = 15
"""Of each row that UMAP keeps near; its own default."""


def plane(
    vectors: Vectors, names: Sequence[str] = (), *, method: Method = "pca", seed: int = 0
) -> tuple[dict[str, list[Any]], tuple[float, float] | None]:
    """A point for each row that has a vector.

    Args:
        vectors: those of the rows.
        names: which of them; the fused ones if none is named. Several are put into one plane.
        method: "pca", the two directions of greatest variance; or "umap", which keeps near what is near (McInnes et
            al. 2018), and in which distances between groups mean little.
        seed: of UMAP.

    Returns:
        Columns: the key, `vector`, what it is called, `x`, `y`, and the columns that were kept beside the
        vectors; and, of PCA, the share of all variance along x and along y.

    Raises:
        OptionError: there are no such vectors, or they cannot be compared.
        TableError: fewer than two rows have one.
        ComponentImportError: UMAP is asked for, and not installed.
    """
    names = list(dict.fromkeys(names)) or [vectors.facts.fused]
    check_comparable(vectors, *names)
    rows, of = _rows(vectors, names)
    if len(rows) < 2:
        raise TableError(f"a map needs two rows at least that have {' or '.join(names)}; there are {len(rows)}")
    shares: tuple[float, float] | None = None
    if method == "pca":
        points, shares = principal_plane(
            lambda: (part for name in names for _, part in vectors.blocks(name)), vectors.width(names[0])
        )
    elif method == "umap":
        points = _umap(np.concatenate([part.numpy() for name in names for _, part in vectors.blocks(name)]), seed)
    else:
        raise OptionError(f"method must be pca or umap, found {method!r}")
    result: dict[str, list[Any]] = {}
    for name in vectors.columns:
        values = vectors.values(name)
        result[beside(name)] = [values[row] for row in rows]
    key, *kept = result
    return {
        key: result[key],
        "vector": of,
        "x": points[:, 0].tolist(),
        "y": points[:, 1].tolist(),
        **{name: result[name] for name in kept},
    }, shares


def beside(column: str) -> str:
    """What a column that was kept is called beside `plane`'s own."""
    return f"{column}_" if column in OWN else column


def _rows(vectors: Vectors, names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Which row each point is of, and which of its vectors it is."""
    rows: list[int] = []
    of: list[str] = []
    for name in names:
        for places, _ in vectors.blocks(name):
            rows += places.tolist()
            of += [name] * len(places)
    return rows, of


@torch.no_grad()
def principal_plane(
    parts: Callable[[], Iterable[Tensor]], width: int
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The two directions of greatest variance; by the covariance, so that no more than a part is held.

    Args:
        parts: gives the vectors, (n, D) at a time, as often as it is asked.
        width: D.

    Returns:
        Points (N, 2), and the shares of all variance along x and along y.
    """

    def blocks() -> Iterator[Tensor]:
        return (part.double() for part in parts())

    count, total = 0, torch.zeros(width, dtype=torch.float64)
    for part in blocks():
        count, total = count + len(part), total + part.sum(0)
    mean = total / count
    scatter = torch.zeros(width, width, dtype=torch.float64)
    for part in blocks():
        centred = part - mean
        scatter += centred.T @ centred
    variances, directions = torch.linalg.eigh(scatter)
    axes, largest = _upright(directions.flip(1)[:, :2]), variances.flip(0)[:2].clamp(min=0)
    whole = float(variances.clamp(min=0).sum())
    points = torch.cat([(part - mean) @ axes for part in blocks()])
    if width == 1:  # a line
        points, largest = torch.cat([points, torch.zeros_like(points)], 1), torch.cat([largest, largest.new_zeros(1)])
    first, second = ((largest / whole).tolist()) if whole else (0.0, 0.0)
    return points.numpy(), (first, second)


def _upright(axes: Tensor) -> Tensor:
    """Directions (D, 2), each turned so that its greatest part is positive: which of both it is has no meaning."""
    greatest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return axes * torch.where(greatest < 0, -1.0, 1.0)


def _umap(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    try:
        import umap
    except ImportError as error:
        raise ComponentImportError(
            "a map by UMAP needs umap-learn, which is not installed; type: pip install 'mmreg[umap]'"
        ) from error
    if len(vectors) < 4:  # its start needs more rows than dimensions
        raise TableError(f"UMAP needs four rows at least, found {len(vectors)}; use pca")
    # With a seed it runs in one thread, which it warns of unless told.
    near = min(NEIGHBOURS, len(vectors) - 1)
    start = "random" if len(vectors) < 2 * NEIGHBOURS else "spectral"
    made = umap.UMAP(n_components=2, n_neighbors=near, metric="cosine", init=start, random_state=seed, n_jobs=1)
    return np.asarray(made.fit_transform(vectors), np.float64)
