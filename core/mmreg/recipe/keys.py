"""What the keys of a recipe have in common: mappings that are closed, or open to a component's options."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Lt
from pydantic import BaseModel, ConfigDict

Share = Annotated[float, Ge(0), Lt(1)]
Weight = Annotated[float, Ge(0)]


def named(value: Any) -> Any:
    """A bare name stands for a component without options."""
    return {"name": value} if isinstance(value, str) else value


class Closed(BaseModel):
    """No keys but its fields."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Open(BaseModel):
    """Keys that are not fields are the options of the component that it names."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @property
    def options(self) -> dict[str, Any]:
        """The component's options."""
        return self.model_extra or {}

    @classmethod
    def own_keys(cls) -> list[str]:
        """The keys that are not a component's options."""
        return [info.alias or name for name, info in cls.model_fields.items()]


class Chosen(Open):
    """A component by name, with its options beside the name."""

    name: str
    """The component's name."""
