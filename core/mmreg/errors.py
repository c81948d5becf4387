"""The errors that mmreg raises: each a `MmregError` and the built-in a reader would expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class MmregError(Exception):
    """The base of every error that mmreg raises on purpose.

    The message says what was asked, what was found and what to do. `exit_code` is the command line's: 2 where the
    user can mend it, 1 where something else failed.
    """

    exit_code = 2


class OptionError(MmregError, ValueError):
    """An option that is unknown, of the wrong type or out of its bounds."""


class ArgumentError(MmregError, TypeError):
    """An argument of another type than a function takes."""


class RecipeError(MmregError, ValueError):
    """A recipe that cannot be read or contradicts itself; its message lists every problem found.

    Args:
        message: what is said.
        problems: the problems one by one, each in a line, where the message lists some.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ComponentNotFoundError(MmregError, LookupError):
    """No component of that kind and name, or more than one."""


class ComponentImportError(MmregError, ImportError):
    """A component that is declared but cannot be imported, as a package it needs is missing or broken."""


class MissingPackageError(MmregError, ImportError):
    """A package that what was asked for needs, and that is not installed; the message says what to type."""


class PluginError(MmregError, ImportError):
    """A plugin that cannot be loaded; raised only in strict mode, recorded otherwise."""

    exit_code = 1


class RegistrationError(MmregError, ValueError):
    """A component that cannot be registered under that kind and name."""


class SpecError(MmregError, ValueError):
    """Two components that do not fit together: one cannot take what the other gives."""


class MemoryLimitError(MmregError, MemoryError):
    """A component that asks for more memory than there is."""


class TableError(MmregError, ValueError):
    """A table that is missing, unreadable or lacks what the recipe asks of it."""


class ValidationRowsError(TableError):
    """Too few validation rows for an operator that needs them."""


class ValueLoadError(MmregError, ValueError):
    """One raw value (a path, a text, some bytes) that a modality cannot load; says why, not where."""


class DataError(MmregError, ValueError):
    """Cells that could not be loaded; its message names table, row, column, path and cause of the first ones."""


class CacheError(MmregError, OSError):
    """The cache folder cannot be written, its disk is full, or what is damaged in it cannot be loaded anew."""

    exit_code = 1


class TargetError(MmregError, ValueError):
    """A target column that does not fit its task."""


class RunError(MmregError, ValueError):
    """A run folder that is missing, incomplete, in the way, or needs something that is not there."""


class ComponentRestoreError(MmregError, RuntimeError):
    """A component that cannot be restored from what a run says of it.

    Attributes:
        role: which one, such as "encoder/image".
        reason: why.
    """

    def __init__(self, role: str, reason: str) -> None:
        super().__init__(f"{role} cannot be restored: {reason}")
        self.role, self.reason = role, reason


class TrainingError(MmregError, RuntimeError):
    """A training that cannot go on, such as one whose loss is no longer finite, or whose modality fails to learn."""

    exit_code = 1


class PeerLostError(TrainingError):
    """Another of the processes that train or predict together has ended before this one; why, that one says.

    Its exit code, which no other end has, keeps what is a consequence apart from what is the cause.
    """

    exit_code = 69


class EngineError(MmregError, RuntimeError):
    """The workers of an engine cannot be reached, or fail."""

    exit_code = 1


class DeviceError(MmregError, RuntimeError):
    """A device or precision that this machine does not have."""
