"""Whatever reading a model's folder raises becomes a message that names the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from mmreg.errors import MmregError, OptionError
from mmreg.messages import one_line
from mmreg_hf.folders import CONFIG

Given = ParamSpec("Given")
Found = TypeVar("Found")


@contextmanager
def reading(source: object) -> Iterator[None]:
    """Tell of settings that nothing can be made of, whatever their values lead to.

    Args:
        source: the file or folder that they are from.

    Raises:
        OptionError: names it, in place of any error but this project's own and a lack of memory.
    """
    try:
        yield
    except (MmregError, MemoryError):
        raise
    except Exception as error:  # what values of a wrong type or size raise can be anything
        kind = type(error).__name__
        raise OptionError(f"model: nothing can be made of {source}: {kind}: {one_line(error)}") from error


def reads_folder(method: Callable[Concatenate[Any, Given], Found]) -> Callable[Concatenate[Any, Given], Found]:
    """A method that reads what a model's folder says, and tells of what it cannot be."""

    @wraps(method)
    def told(owner: Any, /, *given: Given.args, **named: Given.kwargs) -> Found:
        options = next((each for each in given if isinstance(each, Mapping) and "model" in each), {})
        folder = next((str(each) for each in (options.get("model"), *given[:1]) if each is not None), "the model")
        with reading(f"the settings in {folder} ({CONFIG} and what is beside it)"):
            return method(owner, *given, **named)

    return told
