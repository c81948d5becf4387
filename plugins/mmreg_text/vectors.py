"""Word vectors from a local text file in the format of GloVe or fastText, read through torchtext."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import ssl
import tempfile
import warnings
import zlib
from collections.abc import Callable, Collection, Generator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import OptionError
from mmreg.files import irregular
from mmreg.messages import plural

LONGEST_LINE = 1_000_000
"""In bytes; a word and 1000 values take some 10,000."""
FEWEST = 3
"""Values of a word: torchtext takes shorter lines for headers."""


def vector_size(path: Path) -> int:
    """D, the number of values a word has in this file; only its first lines are read.

    Raises:
        OptionError: there is no such file, it is damaged, or it holds no word vectors.
    """
    return _shape(path)[0]


def read_vectors(
    path: Path, words: Collection[str], more: int, usable: Callable[[str], bool]
) -> tuple[list[str], NDArray[np.float32]]:
    """The vectors of some words and of the file's first others.

    Args:
        path: a text file, plain or with the ending ".gz"; a line is a word and its values, separated by spaces.
        words: the words wanted, as far as the file has them.
        more: how many others to take, from the file's begin (such files start with the most frequent words).
        usable: which of the others to take.

    Returns:
        N words, the wanted ones first and in their order, and their vectors (N, D).

    Raises:
        OptionError: the file is missing, is no such file, is damaged (names the line), or has none of the words.
    """
    size, promised = _shape(path)
    wanted = set(words)
    with tempfile.TemporaryDirectory(prefix="mmreg-vectors-") as folder:
        # torchtext keeps the whole file in memory and writes a second one beside it: we give it the lines we need,
        # in a place of our own.
        selection = Path(folder, "vectors.txt")
        number = 0
        with selection.open("wb") as target:
            for number, line in _lines(path):
                try:
                    word = line.rstrip().split(b" ", 1)[0].decode()
                except UnicodeDecodeError:  # no text holds such a word
                    continue
                extra = word not in wanted
                if not word or (number == 1 and promised) or (extra and (more <= 0 or not usable(word))):
                    continue
                values = line.rstrip().split(b" ")[1:]
                if len(values) > size:
                    continue  # a word that holds spaces (GloVe 840B has some), which is no token
                _check(values, size, path, number)
                target.write(line)
                more -= extra
        if promised and number - 1 < promised:
            raise OptionError(
                f"vectors: {path} is cut short: its first line promises {promised:,} words, and {number - 1:,} are "
                "there; get it anew"
            )
        if selection.stat().st_size == 0:
            raise _no_word(path, wanted)
        found = _load(selection, path)
    order = [word for word in words if word in found] + [word for word in found if word not in wanted]
    if not wanted.intersection(found):
        raise _no_word(path, wanted)
    return order, np.stack([found[word] for word in order])


def _shape(path: Path) -> tuple[int, int]:
    """The number of values of a word, and the number of words that a header promises; 0 without one."""
    lines = _lines(path)
    entries = next(lines, (1, b""))[1].split()
    header = entries if len(entries) == 2 else []  # of word2vec and fastText: how many words, how many values
    if header:
        entries = next(lines, (2, b""))[1].split()
    lines.close()
    if len(entries) <= FEWEST:
        raise OptionError(
            f"vectors: {path} holds no word vectors: its first line should be a word and at least {FEWEST} numbers, "
            f"separated by spaces (GloVe's or fastText's text format), found {len(entries)} entries"
        )
    size, promised = len(entries) - 1, header[0] if header else b"0"
    if header and (not promised.isdigit() or len(promised) > 12 or header[1] != b"%d" % size):
        text = b" ".join(header)[:80].decode("utf-8", "replace")
        raise OptionError(
            f"vectors: {path}, line 1: {text!r} should tell how many words there are and how many values each has; "
            f"line 2 has {size}"
        )
    return size, int(promised)


def _check(values: list[bytes], size: int, path: Path, number: int) -> None:
    """Refuse a word's line that has too few values, or one that is no finite number."""
    if len(values) < size:
        raise OptionError(f"vectors: {path}, line {number:,}: {plural(len(values), 'value')}, where others have {size}")
    for value in values:
        try:
            finite = math.isfinite(float(value))
        except ValueError:
            finite = False
        if not finite:
            text = value[:40].decode("utf-8", "replace")
            raise OptionError(f"vectors: {path}, line {number:,}: {text!r}, where a finite number is needed")


def _lines(path: Path) -> Generator[tuple[int, bytes]]:
    """The lines of a file with their numbers, from 1."""
    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise OptionError(
                        f"vectors: {path}, line {number:,}: more than {LONGEST_LINE:,} bytes, which is no word and "
                        "its vector"
                    )
                yield number, line
    except (EOFError, OSError, zlib.error) as error:  # a compressed file that is cut short, or is none
        raise OptionError(f"vectors: {path} cannot be read beyond line {number:,}: {error}") from error


def _open(path: Path) -> IO[bytes]:
    if what := irregular(path):
        raise OptionError(f"vectors: {path} is {what}; give the path of a GloVe or fastText text file")
    if not path.is_file():
        raise OptionError(
            f"vectors: no file {path} (looked in {Path.cwd()}); give the path of a GloVe or fastText text file, "
            "absolute or relative to the working directory"
        )
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _no_word(path: Path, words: Collection[str]) -> OptionError:
    return OptionError(
        f"vectors: {path} has a vector for none of the {len(words)} words of the training texts; "
        "it may be of another language, or of lower-case words only (then set lower: true)"
    )


def _load(selection: Path, source: Path) -> dict[str, NDArray[np.float32]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchtext 0.6 is older than the Python and the torch it runs on
        from torchtext.vocab import Vectors

    certificate_checks = ssl._create_default_https_context
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            vectors = Vectors(selection.name, cache=str(selection.parent))
    except (RuntimeError, ValueError) as error:
        raise OptionError(f"vectors: {source} cannot be read: {error}") from error
    finally:
        ssl._create_default_https_context = certificate_checks  # torchtext turns them off for the whole process
    found: dict[str, NDArray[np.float32]] = {}
    for word, values in zip(vectors.itos, vectors.vectors.numpy(), strict=True):
        found.setdefault(word, values)  # of a word given twice, the first line counts
    return found
