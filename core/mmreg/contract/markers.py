"""Marks on an option's type that tell the framework more of it than its type does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class AssetMark:
    """The option is the path of a file that is read when the component is built; see `Asset`.

    Attributes:
        copied: whether a run keeps a copy; else it keeps a hash alone.
        named: whether a text that is no path may be a name that the component knows; see `WeightsAsset`.
    """

    copied: bool = True
    named: bool = False


Asset = Annotated[str, AssetMark()]
"""The type of an option that is the path of a file, such as pretrained weights, a tokenizer or word vectors.

A recipe's path is relative to the recipe. The component gets an absolute path. The file is part of the cache's key by
its contents, is copied into the run, and is needed for building alone: what restores a component must not read it.
"""

WeightsAsset = Annotated[str, AssetMark(copied=False, named=True)]
"""The type of an option that says where pretrained weights come from: the path of a file or folder, or a name.

A text that ends in .safetensors, .pt, .pth, .bin or .ckpt, that begins with /, ./, ../ or ~, or that leads to something
from the recipe's folder is a path, which the component gets as an absolute one. Any other text is a name, which the
component gets as it is. A run keeps a hash of the file but no copy, as it has the weights themselves.
"""


@dataclass(frozen=True)
class ComponentOf:
    """The option is itself a component: `backbone: Annotated[dict[str, Any], ComponentOf("encoder")]`.

    A recipe gives its name, or a mapping of name and options. The component gets a mapping of its full name and all of
    its options, and builds it by `registry.build("encoder", backbone, spec)`.

    Attributes:
        kind: what kind of component.
    """

    kind: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        """A mark, in the place of which `recipe_schema` puts the schema of this kind."""
        return {"component": self.kind}
