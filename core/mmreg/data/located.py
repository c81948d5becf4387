"""Where the cells of a table find their files: in a folder, or elsewhere, if they may be fetched from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmreg.data.addresses import (
    beside,
    check_address,
    is_address,
    is_within,
    place_of,
    scheme_of,
)
from mmreg.errors import TableError
from mmreg.messages import listed, shown_address

Fetch = Callable[[str, Sequence[str], Sequence[str]], Sequence[Path | str]]
"""Fetches files: of a scheme, these addresses, and where redirects may lead to; gives each one's copy, or why not."""


@dataclass(frozen=True)
class Unreadable:
    """What stands for a cell that cannot become a value, with the cause."""

    cause: str


@dataclass(frozen=True)
class Elsewhere:
    """What a table's cells may name that is not on this machine.

    Attributes:
        base: the table's own address; empty if it has none, so that relative paths are of a folder.
        allowed: the addresses that, with all below them, may be fetched beside the table's own host or bucket.
        fetch: what fetches.
    """

    base: str = ""
    allowed: tuple[str, ...] = ()
    fetch: Fetch | None = field(default=None, compare=False)
    _copies: dict[str, str | Unreadable] = field(default_factory=dict, compare=False, repr=False)

    @property
    def places(self) -> tuple[str, ...]:
        """All that may be fetched from."""
        return (*([place_of(self.base)] if self.base else []), *self.allowed)

    def located(self, texts: Sequence[str | None], folder: Path) -> list[str | Unreadable | None]:
        """The files that some cells name, fetched if they are elsewhere; None where a cell is empty.

        Args:
            texts: a path or an address each.
            folder: what relative paths are of, if the table is on this machine.
        """
        if not self.base and not any(text and "://" in text for text in texts):
            return [os.path.join(folder, text) if text else None for text in texts]  # noqa: PTH118 (half a million)
        addresses = [self._address(text) if text else None for text in texts]
        wanted = [each for each in dict.fromkeys(addresses) if isinstance(each, str) and each not in self._copies]
        for scheme in dict.fromkeys(scheme_of(each) for each in wanted):
            self._fetch(scheme, [each for each in wanted if scheme_of(each) == scheme])
        found: list[str | Unreadable | None] = []
        for text, address in zip(texts, addresses, strict=True):
            if text and address is None:
                found.append(os.path.join(folder, text))  # noqa: PTH118
            else:
                found.append(self._copies[address] if isinstance(address, str) else address)
        return found

    def _address(self, text: str) -> str | Unreadable | None:
        """What a cell's text names elsewhere; None for a path on this machine."""
        try:
            if not is_address(text):
                if not self.base:
                    return None
                text = beside(self.base, text)
            check_address(text, parameters=True)
        except TableError as error:
            return Unreadable(str(error))
        if is_within(text, self.places):
            return text
        told = (
            f"files are fetched from {listed(self.places)} alone" if self.places else "files elsewhere are not fetched"
        )
        return Unreadable(
            f"{told}, and not from {shown_address(place_of(text))}; where you trust the table, allow it in the recipe: "
            f"remote: [{shown_address(place_of(text))}]"
        )

    def _fetch(self, scheme: str, addresses: list[str]) -> None:
        assert self.fetch is not None  # something is allowed
        for address, copy in zip(addresses, self.fetch(scheme, addresses, self.places), strict=True):
            self._copies[address] = Unreadable(shown_address(copy)) if isinstance(copy, str) else os.fspath(copy)
