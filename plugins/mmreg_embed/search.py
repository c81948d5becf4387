"""The nearest of many vectors: exactly, a block at a time, or approximately by a graph.

Axes: Q queries, N candidates of which n in a block, D features, K found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from mmreg.errors import ComponentImportError, OptionError

Measure = Literal["cosine", "dot"]
PART = 1 << 22
"""Similarities that are computed at a time: 16 MiB."""
LINKS, BUILDING = 16, 200
"""Of the graph: the links of a vector, and the candidates that are looked at for them (hnswlib's own defaults)."""

Blocks = Iterable[tuple[NDArray[np.int64], Tensor]]
"""Candidates: their numbers (n,), ascending, and their vectors (n, D)."""


@torch.no_grad()
def nearest(
    queries: Tensor,
    candidates: Blocks,
    count: int,
    *,
    measure: Measure = "cosine",
    own: NDArray[np.int64] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most similar candidates of each query, the nearest first; compared with every one of them.

    Memory grows with Q and a block alone.

    Args:
        queries: (Q, D).
        candidates: blocks of them, each read once.
        count: K, how many of each.
        measure: the cosine of the angle between vectors, or their dot product.
        own: (Q,) the number of the candidate that each query is itself, which is left out; -1 for none.
        device: where to compute.

    Returns:
        The candidates' numbers (Q, K), -1 where there are fewer, and the similarities (Q, K).

    Raises:
        OptionError: there is no such measure, or the vectors are of different sizes.
    """
    queries = _ready(queries, measure).to(device)
    best = torch.full((len(queries), count), -torch.inf, device=device)
    found = torch.full((len(queries), count), -1, dtype=torch.int64, device=device)
    for numbers, vectors in candidates:
        if vectors.shape[1] != queries.shape[1]:
            raise OptionError(
                f"vectors of {queries.shape[1]} numbers cannot be compared with those of {vectors.shape[1]}"
            )
        block = _ready(vectors, measure).to(device)
        names = torch.from_numpy(numbers).to(device)
        step = max(1, PART // max(1, len(numbers)))
        for first in range(0, len(queries), step):
            some = slice(first, first + step)
            similar = queries[some] @ block.T
            if own is not None:
                _leave_out(similar, names, torch.from_numpy(own[some]).to(device))
            values, places = similar.topk(min(count, len(numbers)), 1)
            # What was found before comes first, so that of equal ones the earlier candidate stays.
            joined = torch.cat([best[some], values], 1)
            chosen = joined.argsort(dim=1, descending=True, stable=True)[:, :count]
            best[some] = joined.gather(1, chosen)
            found[some] = torch.cat([found[some], names[places]], 1).gather(1, chosen)
    found[best == -torch.inf] = -1
    return found.cpu().numpy(), best.cpu().numpy()


def approximate(
    queries: Tensor,
    candidates: Blocks,
    count: int,
    *,
    size: int,
    measure: Measure = "cosine",
    own: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As `nearest`, by a graph of the candidates (HNSW, Malkov and Yashunin 2018), which misses some.

    Args:
        queries: as there.
        candidates: as there.
        count: as there.
        size: N, how many candidates there are at most.
        measure: as there.
        own: as there.

    Raises:
        ComponentImportError: hnswlib is not installed.
    """
    try:
        import hnswlib
    except ImportError as error:
        raise ComponentImportError(
            "an approximate search needs hnswlib, which is not installed; type: pip install 'mmreg[neighbours]'"
        ) from error
    graph: Any = hnswlib.Index(space="ip", dim=queries.shape[1])
    graph.init_index(max_elements=max(1, size), M=LINKS, ef_construction=BUILDING, random_seed=0)
    for numbers, vectors in candidates:
        graph.add_items(_ready(vectors, measure).numpy(), numbers)
    wanted = min(count + (own is not None), graph.get_current_count())
    found = np.full((len(queries), count), -1, np.int64)
    similar = np.full((len(queries), count), -np.inf, np.float32)
    if not wanted:
        return found, similar
    graph.set_ef(max(50, 2 * wanted))
    labels, distances = graph.knn_query(_ready(queries, measure).numpy(), k=wanted)
    for at, (row, distance) in enumerate(zip(labels.astype(np.int64), distances, strict=True)):
        others = np.ones(wanted, bool) if own is None else row != own[at]
        row, distance = row[others][:count], distance[others][:count]
        found[at, : len(row)], similar[at, : len(row)] = row, 1 - distance
    return found, similar


def _ready(vectors: Tensor, measure: Measure) -> Tensor:
    """Vectors whose dot products are what is measured; zeros stay zeros."""
    if measure not in ("cosine", "dot"):
        raise OptionError(f"measure must be cosine or dot, found {measure!r}")
    return normalize(vectors.float(), dim=1) if measure == "cosine" else vectors.float()


def _leave_out(similar: Tensor, names: Tensor, own: Tensor) -> None:
    """Take out of similarities (q, n) to candidates by their numbers (n,) those of each query (q,) to itself."""
    at = torch.searchsorted(names, own).clamp(max=len(names) - 1)
    itself = torch.nonzero(names[at] == own)[:, 0]
    similar[itself, at[itself]] = -torch.inf
