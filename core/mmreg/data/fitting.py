"""Whatever a modality raises while it learns from training rows is raised with the modality's name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mmreg.errors import MmregError, TrainingError
from mmreg.messages import one_line


@contextlib.contextmanager
def fitting(modality: str) -> Iterator[None]:
    """Name the modality in the errors of the block.

    Args:
        modality: what messages call it, such as "modality 'text' (column review)".

    Raises:
        MmregError: what was raised, of the same type.
        TrainingError: something else was raised, `sys.exit` and the panic of a library in Rust included.
    """
    try:
        yield
    except MmregError as error:
        raise type(error)(f"{modality}: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise TrainingError(
            f"{modality} cannot learn from the training rows: {one_line(error)}; this is an error in the modality, or "
            "in a library that it uses (--debug shows where)"
        ) from error
