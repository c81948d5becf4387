"""The life of a component that learns: built, saved, and restored under the same or another version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Restorable:
    """What is saved of a component, besides options and weights.

    It is *built* from its options, may read assets then (pretrained weights, a tokenizer), and learns. It is *restored*
    from its options, its state and its weights, and reads nothing else: a constructor that takes the keyword `restored`
    is told by it which of the two it is (False: built), so that it makes its modules without reading assets.

    Attributes:
        version: raised by the author whenever the state or the weights of an earlier release would not fit.
        passed_in: keyword-only parameters that are no options, as the framework passes them in.
    """

    version: ClassVar[int] = 1
    passed_in: ClassVar[frozenset[str]] = frozenset({"restored"})

    def state(self) -> dict[str, Any]:
        """All that restoring needs besides options and weights, as plain JSON data."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; called once, after the constructor, before the weights are loaded."""

    @classmethod
    def migrate(cls, state: Mapping[str, Any], version: int) -> Mapping[str, Any]:
        """The state that an earlier `version` gave, as this one would have given it.

        Raises:
            NotImplementedError: this component cannot tell; then the state is taken as it is.
        """
        raise NotImplementedError


def migrates(cls: type) -> bool:
    """Whether a component can tell what an earlier version's state means."""
    return getattr(cls, "migrate", None) is not None and cls.migrate.__func__ is not Restorable.migrate.__func__  # type: ignore[attr-defined]


def migrated(cls: Any, state: Mapping[str, Any], version: int) -> Mapping[str, Any]:
    """A state that some version of a component gave, as the one here gives it; as it is where that cannot be told."""
    if version < getattr(cls, "version", 1) and migrates(cls):
        earlier: Mapping[str, Any] = cls.migrate(state, version)
        return earlier
    return state
