"""How a file of delimited text is written: the character between its cells, and its encoding."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
from dataclasses import dataclass
from pathlib import Path

from mmreg.errors import TableError
from mmreg.messages import is_unicode, shown

SAMPLE = 1 << 17
"""Bytes of a file by which its separator is found."""
SEPARATORS = (",", ";", "\t", "|")
"""Those that are found without being named."""
_SPELLED = {"tab": "\t", "\\t": "\t"}
# The longer marks first: UTF-32's begins as UTF-16's does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class TableFile:
    """A table's file, and what is not to be found out about it.

    Args:
        path: the file, or `scheme://...` of a plugin.
        separator: the character between cells of delimited text ("tab" for a tab); found if it is None.
        encoding: of delimited text, as Python calls it; UTF-8, or what the file's mark says, if it is None.

    Raises:
        TableError: the path is not UTF-8, the separator is none, or there is no such encoding.
    """

    path: str | Path
    separator: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if not is_unicode(str(self.path)):
            raise TableError(f"the path {str(self.path)!a} is not UTF-8; rename the file or folder")
        for name, checked in (("separator", checked_separator), ("encoding", checked_encoding)):
            given = getattr(self, name)
            if given is not None:
                try:
                    object.__setattr__(self, name, checked(given))
                except TableError as error:
                    raise TableError(f"{self.path}: the {name} {error}, found {shown(given)}") from error


def checked_separator(text: str) -> str:
    """The character that a text means.

    Raises:
        TableError: it is no single character of ASCII, or one that cannot stand between cells.
    """
    character = _SPELLED.get(text, text)
    if len(character) != 1 or not character.isascii() or character in '"\r\n\0':
        raise TableError('must be one character such as "," or ";", or "tab", and neither a quote nor a line end')
    return character


def checked_encoding(name: str) -> str:
    """An encoding's name, as it is.

    Raises:
        TableError: Python knows no encoding of texts by that name.
    """
    try:
        "".encode(name)
    except (LookupError, ValueError) as error:  # also one of bytes, such as base64
        raise TableError(
            "must be one of texts that Python knows, such as utf-8, cp1252 (Windows) or latin-1"
        ) from error
    return name


def find_encoding(path: Path, given: str | None) -> str:
    """The encoding of a text file, "utf-8-sig" for UTF-8 with or without a mark.

    Raises:
        TableError: the file's mark contradicts what is given, or it is UTF-16 without a mark.
    """
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if given is None:
        if marked is None and start.count(0) > len(start) // 4:  # every other byte, if it is in Latin script
            order = "le" if start[1::2].count(0) > start[::2].count(0) else "be"
            raise TableError(
                f"{path} looks like UTF-16 without a mark; {how_to_say(path, f'utf-16-{order}')}, or save it as UTF-8"
            )
        return marked or "utf-8-sig"
    name = codecs.lookup(given).name
    if marked is not None and not name.startswith(marked.removesuffix("-sig")):
        raise TableError(f"{path} has the mark of {marked.removesuffix('-sig')}, not of {given}; leave encoding out")
    return marked or ("utf-8-sig" if name == "utf-8" else name)


def how_to_say(path: Path, encoding: str) -> str:
    """What to write where an encoding must be named."""
    recipe = f"table: {{path: {path.name}, encoding: {encoding}}}"
    return f"name its encoding by --encoding {encoding}, or in the recipe by {recipe}"


def find_separator(path: Path, encoding: str, usual: str) -> str:
    """The character between a file's cells, by its header and first rows.

    It is the usual one if there are several columns by it, as many in every row, or if that holds of no other one;
    else the one by which there are the most columns.
    """
    with path.open("rb") as file:
        start = file.read(SAMPLE)
        whole = not file.read(1)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start)
    shares = {mark: _even(text, mark, whole) for mark in dict.fromkeys((usual, *SEPARATORS))}
    fitting = {mark: columns for mark, (columns, share) in shares.items() if columns > 1 and share == 1}
    if usual in fitting:
        return usual
    if fitting:
        return max(fitting, key=lambda mark: fitting[mark])
    # Where single rows are wrong, it is they that are to be told of.
    mostly = {mark: share for mark, (columns, share) in shares.items() if columns > 1 and share > 0.5}
    return usual if usual in mostly or not mostly else max(mostly, key=lambda mark: mostly[mark])


def _even(text: str, separator: str, whole: bool) -> tuple[int, float]:
    """The columns of the header by a separator, and the share of further rows that have as many."""
    widths = []
    with contextlib.suppress(csv.Error):  # a cell that is longer than the module allows
        widths = [len(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    if not widths:
        return 0, 0.0
    rows = widths[1:] if whole else widths[1:-1]  # the last one may be cut
    return widths[0], sum(width == widths[0] for width in rows) / len(rows) if rows else 1.0
