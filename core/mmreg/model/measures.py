"""The metrics by which predictions are measured: a task's own, and those of plugins that fit its scores."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mmreg.contract.task import Metric, Task
from mmreg.errors import ComponentNotFoundError, OptionError
from mmreg.importing import stdout_to_stderr
from mmreg.messages import near, one_line, plural
from mmreg.recipe.components import Component
from mmreg.recipe.find import fitting_metrics
from mmreg.registry import build, find

logger = logging.getLogger("mmreg")


class Measures:
    """Measures predictions of a task.

    Args:
        task: fitted.
        metrics: those that a recipe names beyond the task's own; others are taken from the registry, as they are.
    """

    def __init__(self, task: Task, metrics: Mapping[str, Component] | None = None) -> None:
        self.task = task
        self._targets = task.targets()
        self._named = dict(metrics or {})
        self._built: dict[str, Metric] = {}
        self._told: set[str] = set()

    def metric(self, name: str) -> Metric | None:
        """The metric with a name; None if it is the task's own.

        Raises:
            OptionError: there is none that fits the task.
        """
        if name in self.task.metrics:
            return None
        if name not in self._built:
            target, own = self._of(name)
            reference = "" if name in self._named else self._found(name, target, own)
            outputs = self._targets[target].task.num_outputs
            if reference:
                self._built[name] = build("metric", reference, num_outputs=outputs)
            else:
                self._built[name] = self._named[name].build(num_outputs=outputs)
        return self._built[name]

    def _of(self, name: str) -> tuple[str, str]:
        """The target that a metric is of, and its own name."""
        target, _, own = ("", "", name) if "" in self._targets else name.partition(".")
        return target, own

    def _found(self, name: str, target: str, own: str) -> str:
        fitting = {each: fitting_metrics(type(view.task)) for each, view in self._targets.items()}
        try:
            entry = find("metric", own)
            if entry.spec.name in fitting.get(target, ()):
                return entry.reference
        except ComponentNotFoundError as error:
            if ":" in own or own in fitting.get(target, ()):  # several plugins bring it
                raise OptionError(str(error)) from error
        further = [f"{of}.{each}" if of else each for of, names in fitting.items() for each in names]
        known = [*self.task.metrics, *(each for each in further if each not in self.task.metrics)]
        raise OptionError(f"the task has no metric {name!r}{near(name, known)}; it has {', '.join(known)}")

    def more_is_better(self, name: str) -> bool:
        """A metric's direction. Raises as `metric` does."""
        metric = self.metric(name)
        return self.task.metrics[name] if metric is None else metric.more_is_better

    def evaluate(self, scores: Tensor, targets: Tensor, names: Sequence[str] = ()) -> dict[str, Any]:
        """The task's figures of N rows, and further metrics by name; see `Task.evaluate`. Raises as `metric` does.

        A plugin's metric that fails, or gives no finite number, is told in one line and has no figure.
        """
        metrics = {name: self.metric(name) for name in dict.fromkeys(names)}
        figures = self.task.evaluate(scores, targets, [name for name, metric in metrics.items() if metric is None])
        host = scores.detach().cpu(), targets.cpu()
        for name, metric in metrics.items():
            value = None
            if metric is not None:
                known = self._targets[self._of(name)[0]].known(*host)
                value = self._computed(name, metric, *known) if len(known[1]) else None
            if value is not None:
                figures[name] = value
        return figures

    def figure(self, name: str, scores: Tensor, targets: Tensor) -> float:
        """A metric of N rows; NaN where it is undefined on them. Raises as `metric` does."""
        value = self.evaluate(scores, targets, [name]).get(name)
        return math.nan if value is None else float(value)

    def _computed(self, name: str, metric: Metric, scores: Tensor, targets: Tensor) -> float | None:
        try:
            with stdout_to_stderr:
                value = float(metric.compute(scores, targets))
            problem = "" if math.isfinite(value) else f"gave {value}"
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is, it is not the training's
            value, problem = math.nan, f"raised {one_line(error)}"
        if not problem:
            return value
        if name not in self._told:
            self._told.add(name)
            where = type(metric).__module__.partition(".")[0]
            rows = plural(len(targets), "row")
            logger.warning("mmreg: the metric %s (of %s) %s on %s; it is left out", name, where, problem, rows)
        return None
