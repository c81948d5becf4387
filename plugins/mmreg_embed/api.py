"""What the commands do, from Python."""

from mmreg_embed.drawing import draw
from mmreg_embed.embedding import embed
from mmreg_embed.projection import plane
from mmreg_embed.search import nearest
from mmreg_embed.searching_rows import neighbours
from mmreg_embed.vectors import Vectors

__all__ = ["Vectors", "draw", "embed", "nearest", "neighbours", "plane"]
