"""What the classes of a task are called."""

from __future__ import annotations

from mmreg import Task
from mmreg.messages import shortened

LONGEST = 120
"""Characters of a label that are shown."""


def label_names(task: Task) -> list[str] | None:
    """Each class or label as a text, in the order of the scores; None of a task that has none.

    A task says what it predicts in words of its own, so it is asked for its labels where it has them.
    """
    labels = getattr(task, "labels", None)
    if not isinstance(labels, tuple | list) or len(labels) != task.num_outputs:
        return None
    return [shortened(str(label), LONGEST) for label in labels]
