"""An entry of the cache: a folder that appears whole or not at all, and is read only as it was written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mmreg.data.cache import (
    JOURNAL,
    META,
    abandoned,
    entries,
    entries_dir,
    is_begun,
    is_file,
    is_folder,
    last_change,
    listing,
    locked,
    open_regular,
    remainders,
    remove,
)
from mmreg.data.checksums import Checksums, DamagedEntryError, check_bytes
from mmreg.data.journal import Journal
from mmreg.errors import CacheError
from mmreg.files import sync


class NewEntry:
    """An entry under way.

    Args:
        folder: where its files are to be.

    Attributes:
        begun: whether some values of its growing files are done.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun = False
        self._sizes: dict[str, int] = {}
        self._checksums: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def growing(self, files: Mapping[str, str], code: str) -> Iterator[Journal]:
        """Files of the entry that grow chunk by chunk, with what is there of them by now; see `Journal`.

        They are on the disk when the block ends.
        """
        with Journal(self.folder, files, code) as journal:
            try:
                yield journal
            finally:
                self.begun = len(journal.sizes) > 0
        for name, checksums in journal.checksums.items():
            self._record(files[name], checksums)

    def write_array(self, name: str, array: NDArray[Any]) -> None:
        """Write a file of one array's numbers."""
        data, checksums = array.reshape(-1).view(np.uint8).data, Checksums()
        checksums.add(data)
        (self.folder / name).write_bytes(data)
        self._record(name, checksums)

    def _record(self, name: str, checksums: Checksums) -> None:
        sync(self.folder / name)
        self._sizes[name], self._checksums[name] = (self.folder / name).stat().st_size, checksums.checksums()

    def complete(self, meta: Mapping[str, Any]) -> None:
        """Write what is known of the entry beside its arrays, with the sizes and checksums of its files."""
        facts = {**meta, "files": self._sizes, "checksums": self._checksums}
        (self.folder / META).write_text(json.dumps({**facts, "digest": _digest(facts)}), encoding="utf-8")
        sync(self.folder / META)
        sync(self.folder)


@contextlib.contextmanager
def new_entry(root: Path, key: str) -> Iterator[NewEntry]:
    """An entry to write; it gets its name when the block ends, and is removed if the block raises.

    Where a process was killed, or stopped by Ctrl-C, its folder stays, and the next one for the same key gets it.
    Another process may make the same entry at the same time: the first one wins, and both are equal.

    Raises:
        CacheError: the folder cannot be made or renamed, or the block raises an OSError.
    """
    parent = entries_dir(root)
    lock: IO[str] | None = None
    folder, keep = parent, False
    new: NewEntry | None = None
    try:
        with _writing_to(root):
            parent.mkdir(parents=True, exist_ok=True)
            folder, lock = _left(root, key) or _fresh(parent / f"{key}-{secrets.token_hex(4)}.tmp")
            folder.mkdir(exist_ok=True)
            new = NewEntry(folder)
            yield new
            _publish(folder, parent / key, root)
            sync(parent)
            remove(parent / key / JOURNAL)  # only now: a process that is killed before leaves what the next one needs
    except Exception:
        raise
    except BaseException:
        keep = new is not None and new.begun
        raise
    finally:
        if lock is not None:
            if not keep:
                remove(folder)
            lock.close()
            if not keep:
                remove(Path(lock.name))


def _fresh(folder: Path) -> tuple[Path, IO[str]]:
    return folder, locked(folder.with_suffix(".lock"))


def _left(root: Path, key: str) -> tuple[Path, IO[str]] | None:
    """What a killed process left of an entry, and its lock, so that nobody else goes on with it; None if nobody did."""
    for folder in sorted(remainders(root), key=last_change, reverse=True):
        if not folder.name.startswith(key):
            continue
        lock = None
        with contextlib.suppress(OSError):  # it is another user's
            lock = abandoned(folder)
        if lock is not None:
            if is_begun(folder):  # nobody was faster
                for path in listing(folder):
                    if not is_file(path):  # it is opened for writing otherwise
                        remove(path)
                return folder, lock
            remove(Path(lock.name))
            lock.close()
    return None


def _publish(folder: Path, target: Path, root: Path) -> None:
    for _ in range(3):
        try:
            folder.rename(target)
        except OSError:
            if not target.is_symlink() and not target.exists():
                raise
            try:
                if read_meta(root, target.name) is not None:
                    return  # another process was faster
            except DamagedEntryError:
                discard_entry(root, target.name)
        else:
            return
    raise OSError(f"{target} is in the way")


def discard_entry(root: Path, key: str) -> None:
    """Remove an entry, or what is in its place, at once: nobody finds half of it.

    Raises:
        CacheError: it cannot be renamed.
    """
    path = entries_dir(root) / key
    aside = path.with_name(f"{key}-{secrets.token_hex(4)}.tmp")  # a leftover, if this process is killed now
    with _writing_to(root), contextlib.suppress(FileNotFoundError):  # another process was faster
        remove(path / JOURNAL)  # so that nobody goes on with it
        path.rename(aside)
        remove(aside)


@contextlib.contextmanager
def _writing_to(root: Path) -> Iterator[None]:
    try:
        yield
    except CacheError:
        raise
    except OSError as error:
        raise CacheError(
            f"the cache in {root} cannot be written: {error.strerror or error}; free some space there "
            "(mmreg cache prune), or let MMREG_CACHE_DIR name another folder"
        ) from error


def read_meta(root: Path, key: str) -> dict[str, Any] | None:
    """What an entry's `complete` was told, with "files" and "checksums"; None if there is no such entry.

    Raises:
        DamagedEntryError: it is not as it was written, or a file is missing or has another size.
    """
    folder = entries_dir(root) / key
    try:
        folder.lstat()
        if not is_folder(folder):
            raise DamagedEntryError("it is no folder")
        with open_file(folder / META) as file:
            meta: dict[str, Any] = json.loads(file.read())
        if meta.pop("digest") != _digest(meta):
            raise DamagedEntryError(f"{META} is not as it was written")
        for name, size in meta["files"].items():
            with open_file(folder / name) as file:
                found = file.seek(0, 2)
            if found != size:
                raise DamagedEntryError(f"{name} has {found:,} bytes instead of {size:,}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedEntryError(f"it cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedEntryError(f"{META} cannot be read") from error
    return meta


def open_file(path: Path) -> IO[bytes]:
    """A file of an entry to read.

    Raises:
        DamagedEntryError: it is missing, a link, or something that must not be opened, such as a FIFO.
    """
    try:
        return open_regular(path, "rb")
    except FileNotFoundError:
        raise DamagedEntryError(f"{path.name} is missing") from None
    except OSError as error:
        if is_file(path):
            raise
        raise DamagedEntryError(f"{path.name} is no file") from error


def read_array(folder: Path, name: str, meta: Mapping[str, Any]) -> NDArray[np.int64]:
    """All numbers of one of an entry's small files, compared with their checksums.

    Raises:
        DamagedEntryError: they are not as they were written.
    """
    with open_file(folder / name) as file:
        data = file.read()
    check_bytes(name, memoryview(data), meta["checksums"][name])
    return np.frombuffer(data, np.int64)


def count_unusable(root: Path) -> int:
    """How many entries are damaged, or of a release that took no checksums."""
    count = 0
    for path in entries(root):
        try:
            read_meta(root, path.name)
        except DamagedEntryError:
            count += 1
    return count


def _digest(meta: Mapping[str, Any]) -> str:
    """What tells whether the facts of an entry are those that were written; it does not protect from malice."""
    return hashlib.blake2b(json.dumps(meta, sort_keys=True).encode(), digest_size=16).hexdigest()
