"""Tables of WebDataset's tar shards: an Arrow file in the cache, written some samples at a time, mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmreg.errors import TableError
from mmreg.files import cache_dir, irregular, replacing
from mmreg.messages import listed, near
from mmreg_remote.braces import expand
from mmreg_remote.fetching import address_of
from mmreg_remote.tar import KEY, MOST_COLUMNS, NUMBERS, TEXTS, Sample, read_samples

BATCH = 64 << 20
"""About how many bytes of samples are in memory at a time."""
VERSION = 1
"""Of what the Arrow file holds."""


def read(name: str) -> pa.Table:
    """The table of some shards, a row for each sample.

    `__key__` is the sample's name, and each ending a column: cls, cls2, id, index and inx of whole numbers, txt, text
    and transcript of texts, others of bytes. A json member is a column of texts, and each of its fields that holds
    texts, numbers or truth values a further one, as json.FIELD.

    Args:
        name: a path, in which `{000..009}` and `{a,b}` name several shards.

    Raises:
        TableError: a shard is missing or damaged, or no sample is in them.
    """
    shards = [_file(shard) for shard in expand(name)]
    digest = hashlib.blake2b(f"shards {VERSION}".encode(), digest_size=20)
    for shard in shards:
        status = shard.stat()
        digest.update(f"\0{shard.absolute()}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogatepass"))
    key = digest.hexdigest()
    place = cache_dir() / "fetched" / key[:2] / f"{key}.arrow"
    if not place.is_file():
        try:
            _write(shards, place)
        except TableError as error:
            raise TableError(_told_by_address(str(error), shards)) from error
    with pa.memory_map(os.fspath(place)) as file:
        return pa.ipc.open_file(file).read_all()


def _file(shard: str) -> Path:
    """A shard's file, which is there."""
    path = Path(shard)
    what = irregular(path)
    if what:
        raise TableError(f"{path} is {what}, where a shard is needed")
    if not path.is_file():
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise TableError(f"there is no shard {path}{near(path.name, siblings)}")
    return path


def _told_by_address(text: str, shards: Sequence[Path]) -> str:
    """A message with the addresses of shards in the place of those of their copies."""
    for shard in shards:
        text = text.replace(str(shard), address_of(shard))
    return text


def _write(shards: Sequence[Path], place: Path) -> None:
    """Write the Arrow file."""
    schema = _schema(shards)
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as new, pa.OSFile(os.fspath(new), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        rows: list[dict[str, Any]] = []
        size = 0
        for sample in (sample for shard in shards for sample in read_samples(shard)):
            rows.append(_row(sample))
            size += sum(map(len, sample.values())) + 100
            if size > BATCH:
                writer.write_batch(_batch(rows, schema))
                rows, size = [], 0
        writer.write_batch(_batch(rows, schema))


def _batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        cells = [row.get(field.name) for row in rows]
        if pa.types.is_large_string(field.type):
            cells = [None if cell is None else _text(cell) for cell in cells]
        columns.append(pa.array(cells, field.type))
    return pa.record_batch(columns, schema=schema)


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def _row(sample: Sample) -> dict[str, Any]:
    """A sample's cells by column."""
    row: dict[str, Any] = {KEY: sample.key}
    for ending, content in sample.items():
        if ending == KEY:
            raise TableError(f"the sample {sample.key!r} has a member called {KEY}, which its own name is called")
        if ending in NUMBERS or ending in TEXTS or ending == "json":
            text = _decoded(sample.key, ending, content)
            row[ending] = _number(text) if ending in NUMBERS else text
            if ending == "json":
                row |= {f"json.{name}": value for name, value in _fields(sample.key, text).items()}
        else:
            row[ending] = content
    return row


def _decoded(key: str, ending: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise TableError(f"{key}.{ending} is not UTF-8 ({error})") from error


def _number(text: str) -> int | str:
    """A whole number, if it is one that fits."""
    return int(text) if re.fullmatch(r"\s*-?\d{1,18}\s*", text, re.ASCII) else text


def _fields(key: str, text: str) -> dict[str, Any]:
    """The fields of a JSON object that are texts, numbers or truth values."""
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise TableError(f"{key}.json is no JSON: {error}") from error
    fields = data.items() if isinstance(data, dict) else ()
    return {name: value for name, value in fields if _kind(value) is not None}


def _kind(value: Any) -> pa.DataType | None:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64() if -(2**63) <= value < 2**63 else pa.large_string()
    return pa.float64() if isinstance(value, float) else pa.large_string() if isinstance(value, str) else None


def _schema(shards: Sequence[Path]) -> pa.Schema:
    """The columns of all shards with their types, which texts, numbers and JSON say; other members are passed over."""
    kinds: dict[str, pa.DataType] = {KEY: pa.large_string()}
    count = 0
    for sample in (sample for shard in shards for sample in read_samples(shard, contents=False)):
        count += 1
        for column, value in _row(sample).items():
            kind = pa.large_binary() if isinstance(value, bytes) else _kind(value)
            kinds[column] = _joined(kinds.get(column, kind), kind)
        if len(kinds) > MOST_COLUMNS:
            raise TableError(f"the shards' members have more than {MOST_COLUMNS:,} endings and fields")
    if not count:
        raise TableError(f"there are no samples in {listed(shards, 3)}: members named as in 000001.jpg, 000001.cls")
    return pa.schema(kinds)


def _joined(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """The type that has room for both."""
    if first == second:
        return first
    return pa.float64() if {first, second} == {pa.int64(), pa.float64()} else pa.large_string()
