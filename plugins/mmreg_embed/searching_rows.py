"""The rows that are nearest to others, in the words of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.errors import OptionError, TableError
from mmreg.messages import listed, near, plural
from mmreg_embed.search import Measure, approximate, nearest
from mmreg_embed.vectors import Vectors


def neighbours(
    vectors: Vectors,
    queries: Sequence[Any] | Vectors | None = None,
    *,
    of: str | None = None,
    among: str | None = None,
    count: int = 5,
    measure: Measure = "cosine",
    use_graph: bool = False,
    device: torch.device | str = "cpu",
) -> dict[str, list[Any]]:
    """The rows whose vectors are most similar to those of some rows.

    Args:
        vectors: those of the rows to search.
        queries: the keys of rows of these; or the vectors, by the same run, of other rows; None for every row.
        of: which vectors of the queries; the fused ones if not given.
        among: which vectors of the rows that are searched; as `of` if not given.
        count: how many rows for each query.
        measure: "cosine" or "dot".
        use_graph: whether to search approximately, by hnswlib.
        device: where to compute an exact search.

    Returns:
        Columns: `query`, the key of the query; `rank`, from 1; the key of the row that is near; `similarity`; and the
        columns that were kept beside the vectors. A row is not told as its own neighbour, except among the vectors
        of another modality.

    Raises:
        OptionError: there are no such vectors, or they cannot be compared.
        TableError: no row has such a key, or lacks the vector.
    """
    of = vectors.facts.fused if of is None else of
    among = of if among is None else among
    check_comparable(vectors, of, among)
    asked = queries if isinstance(queries, Vectors) else vectors
    if asked.facts.run != vectors.facts.run:
        raise OptionError("the vectors of the queries were made by another run than those to search")
    if isinstance(queries, Vectors) or queries is None:
        rows, names = np.arange(len(asked)), asked.keys
    else:
        rows, names = rows_of(vectors, queries)
    has, values = asked.at(of, rows)
    if isinstance(queries, Vectors) or queries is None:  # of all rows those that can be asked for
        rows, names, values = rows[has], [names[at] for at in np.flatnonzero(has)], values[torch.from_numpy(has)]
    elif not has.all():
        lacking = [names[at] for at in np.flatnonzero(~has)]
        raise TableError(f"{plural(len(lacking), 'row')} asked for without {of}: {listed(map(repr, lacking), 5)}")
    if not len(rows):
        raise TableError(f"no row that is asked for has {of}")
    # A query is a row of these; its own other modality is something to be found.
    own = rows if asked is vectors and of == among else None
    blocks = vectors.blocks(among)
    if use_graph:
        found, similar = approximate(values, blocks, count, size=len(vectors), measure=measure, own=own)
    else:
        found, similar = nearest(values, blocks, count, measure=measure, own=own, device=device)
    return _columns(vectors, names, found, similar)


def check_comparable(vectors: Vectors, *names: str) -> None:
    """Refuse vectors of several names, of a run that does not bring them together.

    Raises:
        OptionError: there are none of that name, or they mean different things.
    """
    for name in names:
        vectors.width(name)
    if len(set(names)) > 1 and not vectors.facts.comparable:
        raise OptionError(
            f"vectors {' and '.join(map(repr, dict.fromkeys(names)))} of this run cannot be compared: each modality's "
            "are in a space of their own. Train with the task contrastive, which brings them together"
        )


def rows_of(vectors: Vectors, keys: Sequence[Any]) -> tuple[NDArray[np.int64], list[Any]]:
    """The numbers of the rows with these keys, which may be texts of them; and the keys as the rows have them.

    Raises:
        TableError: no row has such a key.
    """
    places: dict[str, list[int]] = {}
    for at, key in enumerate(vectors.keys):
        places.setdefault(str(key), []).append(at)
    rows: list[int] = []
    for key in keys:
        if str(key) not in places:
            some = list(places) if len(places) < 10_000 else []
            raise TableError(f"no row has the {vectors.facts.key} {str(key)!r}{near(str(key), some)}")
        rows += places[str(key)]
    return np.array(rows, np.int64), [vectors.keys[at] for at in rows]


def _columns(
    vectors: Vectors, names: list[Any], found: NDArray[np.int64], similar: NDArray[np.float32]
) -> dict[str, list[Any]]:
    """What was found, a line for each query and rank."""
    there = found >= 0
    query, rank = np.nonzero(there)
    rows = found[there].tolist()
    columns: dict[str, list[Any]] = {
        "query": [names[at] for at in query.tolist()],
        "rank": (rank + 1).tolist(),
        "similarity": [round(value, 6) for value in similar[there].tolist()],
    }
    for name in vectors.columns:
        values = vectors.values(name)
        label = f"{name}_found" if name in ("query", "rank", "similarity") else name
        columns[label] = [values[at] for at in rows]
    return columns
