"""Marks on an option's type that tell the framework more of it than its type does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class AssetMark:
    """The option is the path of a file that is read when the component is built; see `Asset`."""


Asset = Annotated[str, AssetMark()]
"""The type of an option that is the path of a file, such as pretrained weights, a tokenizer or word vectors.

A recipe's path is relative to the recipe. The component gets an absolute path. The file is part of the cache's key by
its contents, is copied into the run, and is needed for building alone: what restores a component must not read it.
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
