"""Reads tar shards as WebDataset lays them out: samples, each of the members in a row that share a name."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mmreg.errors import TableError
from mmreg.messages import one_line

MOST_COLUMNS = 1000
"""Endings that the members of shards may have."""
KEY = "__key__"
"""The column of samples' names."""


class Sample(dict[str, bytes]):
    """The contents of a sample by ending.

    Attributes:
        key: its name, which is never used as that of a file.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


def read_samples(path: Path, contents: bool = True) -> Iterator[Sample]:
    """The samples of a shard, in order; no member is written anywhere, and nothing but regular members is looked at.

    Args:
        path: the shard.
        contents: whether members that are no texts or numbers are read; they are empty if not.

    Raises:
        TableError: it is no tar file, or a damaged one.
    """
    size = path.stat().st_size
    sample = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                if not member.isreg() or member.issparse():  # links, devices; a sparse one may claim any size
                    continue
                key, ending = split_name(member.name)
                if not ending:
                    continue
                if member.offset_data + member.size > size:
                    raise TableError(f"{path} is cut: its member {key}.{ending} does not end within it")
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = Sample(key)
                if ending in sample:
                    raise TableError(f"{path} holds {key}.{ending} twice")
                file = tar.extractfile(member) if contents or ending in PLAIN else None
                sample[ending] = file.read() if file is not None else b""
            check_end(path, tar.offset)
    except (tarfile.TarError, OSError, ValueError, LookupError, OverflowError, RecursionError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{path} cannot be read as tar: {one_line(error)}") from error
    if sample is not None:
        yield sample


def check_end(path: Path, offset: int) -> None:
    """See to it that a shard ends where reading it did: tarfile stops in silence at whatever names no member.

    Args:
        path: the shard.
        offset: what is behind the last member that was read.

    Raises:
        TableError: there is no mark of the end, a block of zeros, or another archive is behind it.
    """
    with path.open("rb") as file:
        file.seek(offset)
        mark = file.read(tarfile.BLOCKSIZE)
        if len(mark) < tarfile.BLOCKSIZE:
            raise TableError(
                f"{path} is cut: nothing marks its end behind byte {offset:,}, so samples may be missing; write or "
                "copy it again (`tar rf SHARD -T /dev/null` adds the mark to one that is whole)"
            )
        if any(mark):
            raise TableError(
                f"{path} is damaged: what begins at byte {offset:,} names no member; write or copy it again"
            )
        while block := file.read(tarfile.BLOCKSIZE):
            if any(block):
                break
    with contextlib.suppress(tarfile.HeaderError):  # what names no member means nothing, and may be there
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        raise TableError(
            f"{path} goes on behind its end at byte {offset:,}; of archives put together by `cat` only the first would "
            "be read: use them as shards, or `tar --concatenate`"
        )


NUMBERS = frozenset({"cls", "cls2", "index", "inx", "id"})
"""Endings of members that hold a whole number."""
TEXTS = frozenset({"txt", "text", "transcript"})
PLAIN = NUMBERS | TEXTS | {"json"}
"""Endings of members that are no bytes to the table."""


def split_name(name: str) -> tuple[str, str]:
    """A member's sample and ending: what is before and behind the first dot of its last part.

    Without an ending it belongs to no sample; so do hidden files and the shard's own remarks (`__name__`).
    """
    folder, slash, last = name.encode("utf-8", "replace").decode().rpartition("/")
    stem, _, ending = last.partition(".")
    if not stem or (stem.startswith("__") and stem.endswith("__")):
        return name, ""
    return f"{folder}{slash}{stem}", ending.lower()
