"""The vectors that a run makes of rows: written to a file, searched, and drawn as a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmreg_embed.api import Vectors, draw, embed, nearest, neighbours, plane

__all__ = ["Vectors", "draw", "embed", "nearest", "neighbours", "plane"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # loaded when first used: every command waits for this package
        from mmreg_embed import api

        return getattr(api, name)
    raise AttributeError(f"module 'mmreg_embed' has no attribute {name!r}")
