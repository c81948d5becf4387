"""One modality's values in the cache: found there or loaded into it, and loaded anew where they are damaged."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.spec import Spec, Specs, by_name
from mmreg.data.cache import entries_dir, remove_leftovers
from mmreg.data.checksums import DamagedEntryError
from mmreg.data.entry import NewEntry, discard_entry, new_entry, read_array, read_meta
from mmreg.data.holding import Held, hold
from mmreg.data.mapped import MappedArray
from mmreg.data.upkeep import prune, size_limit
from mmreg.errors import CacheError

logger = logging.getLogger("mmreg")


@dataclass(frozen=True)
class OpenedEntry:
    """What an entry holds.

    Attributes:
        meta: what was written beside the arrays.
        arrays: by name.
        offsets: (V + 1,) int64, where each ragged value begins and the last one ends; None if none is ragged.
        index: (N,) int64, which value each row has; -1 where it has none.
        held: what keeps others from pruning the entry; None if it vanished just now.
    """

    meta: Mapping[str, Any]
    arrays: Mapping[str, MappedArray]
    offsets: NDArray[np.int64] | None
    index: NDArray[np.int64]
    held: Held | None


class CachedValues:
    """An entry of the cache that is there when this returns, and mended when it turns out to be damaged.

    Args:
        root: the cache folder.
        key: the entry's.
        name: the modality's name, for messages.
        stored: what one value is.
        fill: writes the entry's files; its second argument says whether to show progress.
        key_now: what the key is by now, as files may have changed.
        to_the_bit: whether `fill` gives the same bits each time, as what is computed on a GPU need not.

    Raises:
        CacheError: the cache folder cannot be written.
        OptionError: the limit of the cache's size is no size.
    """

    def __init__(
        self,
        root: Path,
        key: str,
        name: str,
        stored: Specs,
        fill: Callable[[NewEntry, bool], None],
        key_now: Callable[[], str],
        to_the_bit: bool = True,
    ) -> None:
        self._root, self._key, self._name, self._stored = root, key, name, stored
        self._fill, self._key_now, self._to_the_bit = fill, key_now, to_the_bit
        self._mending = threading.Lock()
        limit = size_limit()
        remove_leftovers(root)
        opened = self._found()
        self.entry = opened or self._made(show=True)
        if opened is None and limit is not None:
            prune(root, max_bytes=limit, unusable=False)

    @property
    def contents(self) -> str:
        """A hash of everything that the entry holds."""
        return hashlib.blake2b(json.dumps(self.entry.meta["checksums"]).encode(), digest_size=16).hexdigest()

    def array(self, name: str, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """An array in which these values, by their numbers (B,), are as they were written.

        Raises:
            CacheError: it is damaged and cannot be loaded anew.
        """
        mapped = self.entry.arrays[name]
        return self._mended(name, wanted) if mapped.damage(wanted) else mapped.array

    def _mended(self, name: str, wanted: NDArray[np.int64]) -> NDArray[Any]:
        with self._mending:
            damage = self.entry.arrays[name].damage(wanted)
            if damage:  # no other thread was faster
                self.entry = self._made_again(damage)
                damage = self.entry.arrays[name].damage(wanted)
            if damage:
                raise CacheError(
                    f"{self._where()} are damaged again ({damage}) as soon as they were loaded anew: the disk or the "
                    "memory is faulty; let MMREG_CACHE_DIR name a folder on another disk"
                )
            return self.entry.arrays[name].array

    def _made_again(self, damage: str) -> OpenedEntry:
        """The entry made anew in the midst of its use, where it must not turn into another."""
        if self._key_now() != self._key:
            raise CacheError(
                f"{self._where()} are damaged ({damage}), and the files that they were loaded from have changed or are "
                "gone since; start again with the files as they are, or bring them back"
            )
        self._discard(damage)
        before, made = self.entry.meta, self._made(show=False)
        if self._to_the_bit and made.meta["checksums"] != before["checksums"]:
            raise CacheError(
                f"{self._where()} were damaged ({damage}), and what was loaded in their place is something else, as "
                "files or the code that loads them have changed; start again, with the new values from the beginning"
            )
        return made

    def _found(self) -> OpenedEntry | None:
        try:
            return self._opened()
        except DamagedEntryError as error:
            self._discard(str(error))
            return None

    def _discard(self, damage: str) -> None:
        logger.warning("mmreg: %s are damaged (%s) and loaded anew", self._where(), damage)
        discard_entry(self._root, self._key)

    def _made(self, show: bool) -> OpenedEntry:
        for _ in range(3):
            with new_entry(self._root, self._key) as new:
                self._fill(new, show)
            made = self._found()
            if made is not None:
                return made
        raise CacheError(
            f"{self._where()} vanish or are damaged as soon as they are written, three times over: another process "
            "clears the cache, or the disk is faulty; let MMREG_CACHE_DIR name another folder"
        )

    def _opened(self) -> OpenedEntry | None:
        folder, specs = entries_dir(self._root) / self._key, by_name(self._stored)
        held = hold(folder)
        meta = read_meta(self._root, self._key)
        if meta is None:
            return None
        ragged = any(spec.ragged_axis is not None for spec in specs.values())
        index = read_array(folder, "index.bin", meta)
        offsets = read_array(folder, "offsets.bin", meta) if ragged else None
        count = int(index.max(initial=-1)) + 1
        arrays, files = {}, files_of(self._stored)
        for name, spec in specs.items():
            file, own_offsets = files[name], offsets if spec.ragged_axis is not None else None
            size, checksums = meta["files"][file], meta["checksums"][file]
            try:
                arrays[name] = MappedArray(folder / file, spec, count, own_offsets, size, checksums)
            except (OSError, ValueError) as error:  # it was cut between two looks at it
                raise DamagedEntryError(f"{file} cannot be mapped into memory: {error}") from error
        return OpenedEntry(meta, arrays, offsets, index, held)

    def _where(self) -> str:
        return f"the values of {self._name} in the cache ({entries_dir(self._root) / self._key})"


def files_of(stored: Specs) -> dict[str, str]:
    """The file of each array in an entry; numbers stand for names, which may be no names of files."""
    if isinstance(stored, Spec):
        return {"": "values.bin"}
    return {name: f"values.{number}.bin" for number, name in enumerate(sorted(stored))}
