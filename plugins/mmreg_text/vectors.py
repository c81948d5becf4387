"""Word vectors from a local text file in the format of GloVe or fastText, read through torchtext."""

from __future__ import annotations

import contextlib
import gzip
import io
import ssl
import tempfile
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import OptionError


def vector_size(path: Path) -> int:
    """D, the number of values a word has in this file; only its first lines are read.

    Raises:
        OptionError: there is no such file, or it holds no word vectors.
    """
    with _open(path) as file:
        entries = file.readline().split()
        if len(entries) == 2:  # the header of word2vec and fastText: how many words, how many values
            entries = file.readline().split()
    if len(entries) < 4:  # torchtext takes shorter lines for headers
        raise OptionError(
            f"vectors: {path} holds no word vectors: its first line should be a word and at least 3 numbers, "
            f"separated by spaces (GloVe's or fastText's text format), found {len(entries)} entries"
        )
    return len(entries) - 1


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
        OptionError: the file is missing, is no such file, or has none of the words.
    """
    size = vector_size(path)
    wanted = set(words)
    with tempfile.TemporaryDirectory(prefix="mmreg-vectors-") as folder:
        # torchtext keeps the whole file in memory and writes a second one beside it: we give it the lines we need,
        # in a place of our own.
        selection = Path(folder, "vectors.txt")
        with _open(path) as file, selection.open("wb") as target:
            for line in file:
                word = line.split(b" ", 1)[0].decode("utf-8", "replace")
                extra = word not in wanted
                if extra and (more <= 0 or not usable(word)):
                    continue
                values = line.rstrip().count(b" ")
                if values > size or values < 2:
                    continue  # a word that holds spaces (GloVe 840B has some), which is no token; or the header
                target.write(line)
                more -= extra
        if selection.stat().st_size == 0:
            raise _no_word(path, wanted)
        found = _load(selection, path)
    order = [word for word in words if word in found] + [word for word in found if word not in wanted]
    if not wanted.intersection(found):
        raise _no_word(path, wanted)
    return order, np.stack([found[word] for word in order])


def _open(path: Path) -> IO[bytes]:
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
