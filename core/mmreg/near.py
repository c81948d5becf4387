"""The nearest of several names, for messages."""

from __future__ import annotations

from collections.abc import Iterable


def near(name: str, candidates: Iterable[str]) -> str:
    """A hint that names the nearest of the candidates, such as "; did you mean 'channels'?"; empty if none is near."""
    import difflib  # only a mistake needs it

    found = difflib.get_close_matches(name, list(candidates), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(match) for match in found)}?" if found else ""
