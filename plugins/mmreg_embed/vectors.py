"""Vectors of rows, in memory or in the file of `mmreg embed`, read a part at a time.

Axes: N rows, D features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.errors import OptionError, TableError
from mmreg.files import irregular
from mmreg.messages import near, one_line

KEY = b"mmreg_embed"
"""Under which the facts stand in the schema."""
FORMAT = 1


@dataclass(frozen=True)
class Facts:
    """What is known of the vectors besides their numbers.

    Attributes:
        run: what identifies the run that made them.
        key: the column of the rows' keys.
        fused: the name of the vectors that are made of all modalities.
        inputs: the names of the modalities, each of which has vectors of its own.
        comparable: whether vectors of different names can be compared.
        format: of these facts.
    """

    run: str
    key: str
    fused: str
    inputs: tuple[str, ...]
    comparable: bool
    format: int = FORMAT

    @property
    def names(self) -> tuple[str, ...]:
        """What the vectors are called."""
        return (self.fused, *self.inputs)

    @property
    def vector_columns(self) -> dict[str, str]:
        """By these names the columns that hold them, such as "image_vector": a table has often one named "image"."""
        return {name: f"{name}_vector" for name in self.names}

    def added_to(self, schema: pa.Schema) -> pa.Schema:
        """A schema that carries them."""
        return schema.with_metadata({KEY: json.dumps(asdict(self)).encode()})

    @classmethod
    def of(cls, schema: pa.Schema) -> Facts | None:
        """Those of a schema; None where there are none that can be read."""
        try:
            data = json.loads((schema.metadata or {})[KEY])
            facts = cls(**{**data, "inputs": tuple(data["inputs"])})
        except (KeyError, ValueError, TypeError, RecursionError):
            return None
        columns = facts.vector_columns.values()
        there = facts.format == FORMAT and {facts.key, *columns} <= set(schema.names)
        return facts if there and all(_holds_vectors(schema.field(name).type) for name in columns) else None


def _holds_vectors(type_: pa.DataType) -> bool:
    """Whether a column's type is of lists of as many numbers, one or more."""
    return bool(pa.types.is_fixed_size_list(type_) and type_.list_size > 0 and pa.types.is_floating(type_.value_type))


class Vectors:
    """The vectors of N rows: of each of some names one a row, or none where the row lacks what it would be made of.

    Args:
        source: where they are; `Vectors.read` opens a file.
        facts: what is known of them.

    Attributes:
        facts: as given; `facts.names` are what the vectors are called.
    """

    def __init__(self, source: pq.ParquetFile | pa.Table, facts: Facts) -> None:
        self._source, self.facts = source, facts
        self._schema: pa.Schema = source.schema_arrow if isinstance(source, pq.ParquetFile) else source.schema

    @classmethod
    def read(cls, path: str | Path) -> Vectors:
        """Open what `mmreg embed` wrote; nothing but its facts is read yet.

        Raises:
            TableError: it is no such file.
        """
        path = Path(path)
        what = irregular(path)
        if what or not path.is_file():
            raise TableError(f"{str(path)!r} is {what or 'not there'}; name a file that mmreg embed wrote")
        try:
            source = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{str(path)!r} cannot be read as parquet: {one_line(error)}") from error
        facts = Facts.of(source.schema_arrow)
        if facts is None:
            raise TableError(f"{str(path)!r} holds no vectors that mmreg embed wrote; write them by mmreg embed")
        return cls(source, facts)

    def __len__(self) -> int:
        of_file = isinstance(self._source, pq.ParquetFile)
        return int(self._source.metadata.num_rows if of_file else self._source.num_rows)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """The vectors of one name as an array (N, D), NaN where a row has no vector."""
        result = np.full((len(self), self.width(name)), np.nan, np.float32)
        for places, vectors in self.blocks(name):
            result[places] = vectors.numpy()
        return result

    @property
    def columns(self) -> list[str]:
        """The columns besides vectors: the key, and those that were kept of the table."""
        return [name for name in self._schema.names if name not in self.facts.vector_columns.values()]

    @cached_property
    def keys(self) -> list[Any]:
        """What the rows are called."""
        keys: list[Any] = self.values(self.facts.key)
        return keys

    def values(self, column: str) -> list[Any]:
        """All values of a column that holds no vectors.

        Raises:
            OptionError: there is none of that name.
        """
        if column not in self.columns:
            raise OptionError(
                f"there is no column {column!r} beside the vectors{near(column, self.columns)}; there are "
                f"{', '.join(self.columns)} (mmreg embed --keep COLUMN adds one of the table's)"
            )
        return list(self._read([column]).column(column).to_pylist())

    def width(self, name: str) -> int:
        """The size D of the vectors of a name.

        Raises:
            OptionError: there are none of that name.
        """
        if name not in self.facts.names:
            raise OptionError(
                f"there are no vectors {name!r}{near(name, self.facts.names)}; there are {', '.join(self.facts.names)}"
            )
        return int(self._schema.field(self.facts.vector_columns[name]).type.list_size)

    def blocks(self, name: str) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """The vectors of a name a part at a time: the numbers (n,) of rows that have one, in order, and theirs (n, D).

        Raises:
            OptionError: there are none of that name.
            TableError: they are damaged.
        """
        width, first = self.width(name), 0
        for part in self._parts(self.facts.vector_columns[name]):
            there = np.asarray(part.is_valid())
            flat = part.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)  # those that are there alone
            if not np.isfinite(flat).all():
                raise TableError(f"some vectors {name!r} are no finite numbers; write them anew by mmreg embed")
            if there.any():
                yield first + np.flatnonzero(there), torch.from_numpy(flat.astype(np.float32))
            first += len(part)

    def at(self, name: str, rows: Sequence[int] | NDArray[np.int64]) -> tuple[NDArray[np.bool_], Tensor]:
        """The vectors of some rows, (n, D), and which of these have one, (n,); of the others zeros."""
        wanted = np.asarray(rows, np.int64)
        has, found = np.zeros(len(wanted), bool), torch.zeros(len(wanted), self.width(name))
        for places, vectors in self.blocks(name):
            at = np.searchsorted(places, wanted)
            hit = (at < len(places)) & (places[np.minimum(at, len(places) - 1)] == wanted)
            found[torch.from_numpy(hit)] = vectors[torch.from_numpy(at[hit])]
            has |= hit
        return has, found

    def _parts(self, column: str) -> Iterator[Any]:
        if isinstance(self._source, pq.ParquetFile):
            with _damage_told():
                for batch in self._source.iter_batches(columns=[column]):
                    yield batch.column(0)
        else:
            yield from self._source.column(column).chunks

    def _read(self, columns: list[str]) -> pa.Table:
        with _damage_told():
            of_file = isinstance(self._source, pq.ParquetFile)
            return self._source.read(columns) if of_file else self._source.select(columns)


@contextmanager
def _damage_told() -> Iterator[None]:
    """Let a file whose pages do not fit their checksums, or cannot be read, be told as that."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"the vectors are damaged ({one_line(error)}); write them anew by mmreg embed") from error
