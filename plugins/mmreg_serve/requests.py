"""What a request's body asks for: rows, from JSON or from a form with files."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mmreg.messages import listed, plural, shortened
from mmreg_serve.columns import Column, unknown_column
from mmreg_serve.limits import Limits
from mmreg_serve.refusal import Refused

SHARES = "shares"
ROWS = "rows"


@dataclass(frozen=True)
class Request:
    """Rows to be predicted.

    Attributes:
        rows: each with all columns of the run, None where it has no value.
        kinds: of each column that any row has, which kind of cells it holds (see `Column.value`).
        shares: whether each modality's share is asked for.
    """

    rows: Sequence[Mapping[str, Any]]
    kinds: Mapping[str, str]
    shares: bool = False

    def joins(self, kinds: Mapping[str, str]) -> bool:
        """Whether these rows can stand in one table with others whose columns hold these kinds of cells."""
        return all(kinds.get(name, kind) == kind for name, kind in self.kinds.items())


def of_json(body: bytes, columns: Mapping[str, Column], limits: Limits) -> Request:
    """A request as JSON: `{"rows": [{column: value, ...}, ...], "shares": false}`.

    Raises:
        Refused: it is no such JSON, has too many rows, or holds what no column takes.
    """
    try:
        data = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # UTF-8 that is none included
        raise Refused(422, f"the body is no JSON: {shortened(str(error), 200)}") from error
    if not isinstance(data, dict) or not isinstance(data.get(ROWS), list):
        raise Refused(422, 'the body must be {"rows": [{column: value, ...}, ...]}')
    if strange := set(data) - {ROWS, SHARES}:
        raise Refused(422, f"the body has the keys {listed(map(shortened, sorted(strange)))}; it takes rows and shares")
    if not isinstance(data.get(SHARES, False), bool):
        raise Refused(422, "shares is true or false")
    _check_count(len(data[ROWS]), limits)
    for number, row in enumerate(data[ROWS], 1):
        if not isinstance(row, dict):
            raise Refused(
                422, f"row {number} is a {type(row).__name__}, where a mapping of columns to values is needed"
            )
    return _request(data[ROWS], columns, data.get(SHARES, False))


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


class _InMemory(MultiPartParser):
    """A parser that writes nothing to a disk, as the body is in memory already, and knows whether a form has ended."""

    spool_max_size = 0  # no limit: SpooledTemporaryFile never rolls over
    ended = False

    def on_end(self) -> None:
        """The last boundary was there."""
        self.ended = True

    def close(self) -> None:
        """Let go of all files, those of parts that did not end included."""
        for file in self._files_to_close_on_error:
            file.close()


async def of_form(headers: Headers, body: bytes, columns: Mapping[str, Column], limits: Limits) -> Request:
    """A request as a form: a field for each column, repeated for each row; `shares=true` beside them.

    All fields must be there equally often; an empty one is an absent value.

    Raises:
        Refused: it is no such form, has too many rows, or holds what no column takes.
    """
    most = limits.rows * len(columns) + 1
    parser = _InMemory(headers, _once(body), max_files=most, max_fields=most, max_part_size=limits.bytes)
    given: dict[str, list[Any]] = {}
    shares = False
    try:
        form = await parser.parse()
        if not parser.ended:
            raise Refused(422, "the body is no form: its last boundary is missing")
        for name, value in form.multi_items():
            content = await value.read() if isinstance(value, UploadFile) else value
            if name == SHARES and name not in columns:
                if content not in ("true", "false"):
                    raise Refused(422, "shares is true or false")
                shares = content == "true"
            elif name not in columns:
                raise unknown_column(name, columns)
            else:
                given.setdefault(name, []).append(_decoded(content, columns[name]))
    except (MultiPartException, LookupError, UnicodeError, AssertionError, FormParserError) as error:
        told = error.message if isinstance(error, MultiPartException) else str(error)
        raise Refused(422, f"the body is no form: {shortened(told, 200)}") from error
    finally:
        parser.close()
    counts = {name: len(values) for name, values in given.items()}
    if len(set(counts.values())) > 1:
        told = listed(f"{name!r} {plural(count, 'time')}" for name, count in counts.items())
        raise Refused(422, f"the fields of a form must be there equally often, once for each row; found {told}")
    count = next(iter(counts.values()), 0)
    _check_count(count, limits)
    return _request([{name: values[at] for name, values in given.items()} for at in range(count)], columns, shares)


def _decoded(content: str | bytes, column: Column) -> Any:
    """A field's content; a text that came as a file is a text, and numbers of a list come as their JSON."""
    if isinstance(content, bytes) and not column.files:
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise Refused(422, f"column {column.name!r} holds a file that is no text in UTF-8") from error
    if isinstance(content, str) and column.files and content.lstrip().startswith("["):
        try:
            return json.loads(content, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise Refused(422, f"column {column.name!r} holds a list that is no JSON") from error
    return content


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _check_count(count: int, limits: Limits) -> None:
    if not count:
        raise Refused(422, "there is no row to predict")
    if count > limits.rows:
        raise Refused(413, f"{count:,} rows, where a request may have {limits.rows:,}; send several requests")


def _request(given: Sequence[Mapping[str, Any]], columns: Mapping[str, Column], shares: bool) -> Request:
    kinds: dict[str, str] = {}
    rows = []
    for number, values in enumerate(given, 1):
        row: dict[str, Any] = dict.fromkeys(columns)
        for name, value in values.items():
            if name not in columns:
                raise unknown_column(name, columns)
            try:
                row[name], kind = columns[name].value(value)
            except Refused as error:
                raise Refused(error.status, f"row {number}: {error}") from error
            if kind and kinds.setdefault(name, kind) != kind:
                if {kind, kinds[name]} != {"int", "float"}:
                    told = (
                        f"the rows mix a {kinds[name]} and a {kind} in column {name!r}; values of one kind are needed"
                    )
                    raise Refused(422, told)
                kinds[name] = "float"
        rows.append(row)
    for name, kind in kinds.items():
        if kind == "float":
            for row in rows:
                row[name] = None if row[name] is None else float(row[name])
    return Request(rows, kinds, shares)
