"""How mmreg speaks to people: near matches, counts, lists, values and errors in one short line."""

from __future__ import annotations

import re
import reprlib
import shlex
from collections.abc import Iterable
from typing import Any

from mmreg.errors import MmregError

LONGEST = 500
"""Characters of an error's text that are shown."""


def near(name: str, candidates: Iterable[str]) -> str:
    """A hint that names the nearest of the candidates, such as "; did you mean 'channels'?"; empty if none is near."""
    import difflib  # only a mistake needs it

    matches = difflib.get_close_matches(name, list(candidates), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def plural(count: int, one: str, many: str = "") -> str:
    """A count and what is counted, such as "1 row" or "2,000 rows"; `many` for a plural that is more than an "s"."""
    return f"1 {one}" if count == 1 else f"{count:,} {many or one + 's'}"


def duration(seconds: float) -> str:
    """A time in one unit, with no more digits than an estimate has, such as "40 seconds", "3 minutes" or "2 hours".

    Example:
        >>> duration(38), duration(58), duration(200), duration(5000), duration(10_000)
        ('40 seconds', '1 minute', '3 minutes', '85 minutes', '3 hours')
    """
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    minutes = seconds / 60
    if minutes < 9.5:
        return plural(round(minutes), "minute")
    if minutes < 115:
        return f"{5 * round(minutes / 5)} minutes"
    return plural(round(minutes / 60), "hour")


def byte_size(number: float) -> str:
    """A number of bytes in words, such as "512 B" or "4.0 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def listed(names: Iterable[object], most: int = 10) -> str:
    """Names one after the other, such as "a, b, c and 3 more" of a list that is longer than `most`."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most:,} more" if len(texts) > most else "")


def without_modality(count: int, what: str = "row") -> str:
    """That rows lack every modality, such as "1 test row has no modality at all; it gets the training prior"."""
    they_get = "it gets" if count == 1 else "they get"
    return f"{plural(count, f'{what} has', f'{what}s have')} no modality at all; {they_get} the training prior"


def without_pair(count: int, what: str = "row") -> str:
    """That rows lack all modalities but one, where a task learns from pairs of them."""
    rows, them = plural(count, f"{what} has", f"{what}s have"), "it" if count == 1 else "them"
    return f"{rows} fewer than two modalities, which is no pair: nothing is learned or measured of {them}"


def absent_columns(table: str, read: Iterable[str], there: Iterable[str]) -> str:
    """What is said of a table that lacks columns that are read of it; nothing if it has them all."""
    known = set(there)
    absent = [column for column in dict.fromkeys(read) if column not in known]
    if not absent:
        return ""
    named = listed(map(repr, absent))
    lacks = f"column {named}; it counts" if len(absent) == 1 else f"columns {named}; they count"
    return f"{table} has no {lacks} as absent in every row"


def to_type(*words: object) -> str:
    """Paths and names as words of a command: quoted for a shell, and one that begins with a dash is no option there.

    Example:
        >>> to_type("runs/mine", "my run", "-run")
        "runs/mine 'my run' ./-run"
    """
    texts = [str(word) for word in words]
    return shlex.join([f"./{text}" if text.startswith("-") else text for text in texts])


def one_line(error: BaseException) -> str:
    """An exception's type and text in one printable line, whatever its text is and even if it has none."""
    try:
        text = shortened(str(error), LONGEST)
    except Exception:  # its own __str__ may be what is broken
        text = ""
    if isinstance(error, MmregError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shortened(text: str, most: int = 80) -> str:
    """A text in one printable line, of which no more than the first characters are shown."""
    line = " ".join(text.split())
    return printable(line if len(line) <= most else f"{line[:most]} ...")


def printable(text: str) -> str:
    """A text without what would steer a terminal or cannot be written."""
    return "".join(character if character.isprintable() or character in _JOINERS else "?" for character in text)


_JOINERS = "\u200c\u200d"
"""What keeps letters apart or brings them together, as words of Persian and Hindi and some emoji are written."""


def is_unicode(text: str) -> bool:
    """Whether a text can be written; one that stands for bytes that are not UTF-8, such as a file's name, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """A value as messages show it: short, in one line, without addresses, even if its repr is broken."""
    value = shown_address(value) if isinstance(value, str) else value  # before it is shortened
    return printable(shown_address(re.sub(r" at 0x[0-9a-f]+", "", " ".join(reprlib.repr(value).split()))))


def shown_address(text: str) -> str:
    """A text without what an address in it may hold of a right: user, password and all parameters."""
    if "://" not in text:
        return text
    text = re.sub(r"(://)[^/@\s]*@", r"\1", text)
    return re.sub(r"(https?://[^\s?]*)\?[^\s'\")]*", r"\1?...", text, flags=re.IGNORECASE)


def cell(value: Any) -> str:
    """A value as a table shows it: in one line; None as nothing, and four digits of a number with a fraction."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).splitlines())
