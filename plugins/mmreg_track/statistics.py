"""Statistics of a training: norms of gradients, weights and updates of each component, and how active it is.

Axes: N rows, or valid tokens of all rows, D features.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmreg import Callback, Features, FollowedRun, Fused, Step
from mmreg.files import csv_text, write_text

FILE = "statistics.csv"
COLUMNS = (
    "step",
    "component",
    "gradient_norm",
    "weight_norm",
    "update_norm",
    "activation_mean",
    "activation_std",
    "dead",
)


class Statistics(Callback):
    """Writes `statistics.csv` into the run's folder: a line for each component, of the first step and every so many.

    The norms are Euclidean, over all parameters of a component together: of the gradient before it is clipped, of the
    weights before the step, and of what the step adds to them. `activation_mean` and `activation_std` are of what the
    component gives for the step's rows, and `dead` is the share of its features that are zero in all of them.

    Components are called by where they are in the model, such as "encoders.image". Other steps cost next to nothing;
    the training is neither compiled nor captured, so that each step can be looked into.

    Args:
        every: steps between two that are measured.
    """

    def __init__(self, *, every: Annotated[int, Ge(1)] = 50) -> None:
        self._every = every
        self._model = nn.Module()
        self._path = Path()
        self._hooks: list[RemovableHandle] = []
        self._activations: dict[str, list[Tensor]] = {}
        self._before: dict[str, list[Tensor]] = {}
        self._measured: dict[str, dict[str, Any]] = {}

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """Remember the model; of a training that goes on, take up what was written."""
        self._model = run.model
        self._path = path = run.folder / FILE
        if not facts["resumed_after_step"]:
            path.unlink(missing_ok=True)
        elif path.is_file():
            # A kill may have cut the last line off.
            lines = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0].splitlines()
            rows = [row for row in csv.DictReader(lines) if int(row["step"]) <= facts["resumed_after_step"]]
            write_text(path, csv_text(rows, COLUMNS))
        if self._due(facts["resumed_after_step"] + 1):
            self._watch()

    def on_gradients(self, step: int) -> None:
        """Measure the gradients and the weights, and what the components gave, if it is this step's turn."""
        if not self._due(step):
            return
        self._before = {}
        for component, parameters in _components(self._model).items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            weights = [parameter.detach() for parameter in parameters]
            self._before[component] = [weight.clone() for weight in weights]
            self._measured[component] = {
                "gradient_norm": nn.utils.get_total_norm(gradients) if gradients else None,
                "weight_norm": nn.utils.get_total_norm(weights),
                **_activity(self._activations.get(component, [])),
            }

    def on_step(self, step: Step) -> None:
        """Measure what the step has added to the weights; make ready for the next one if it is its turn."""
        if self._before:
            rows: list[dict[str, Any]] = []
            for component, parameters in _components(self._model).items():
                pairs = zip(parameters, self._before[component], strict=True)
                moved = [parameter.detach() - before for parameter, before in pairs]
                figures = {**self._measured[component], "update_norm": nn.utils.get_total_norm(moved)}
                plain = {name: None if value is None else float(value) for name, value in figures.items()}
                rows.append({"step": step.step, "component": component, **plain})
            self._append(rows)
        self._unwatch()
        if self._due(step.step + 1):
            self._watch()

    def on_end(self, run: FollowedRun, report: Mapping[str, Any]) -> None:
        """Leave the model as it was."""
        self._unwatch()

    def _due(self, step: int) -> bool:
        return step == 1 or step % self._every == 0

    def _append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows, before the step is kept after which a training that is stopped now goes on."""
        text = csv_text(rows, COLUMNS)
        if self._path.is_file():
            text = text.partition("\n")[2]  # without the header
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)

    def _watch(self) -> None:
        """Keep what the components give."""
        modules = dict(self._model.named_modules())
        for component in _components(self._model):
            module = modules.get(component)
            if module is not None:
                self._hooks.append(module.register_forward_hook(self._keep(component)))

    def _keep(self, component: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled():  # not as it is validated
                self._activations.setdefault(component, []).extend(_activations(output))

        return keep

    def _unwatch(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._activations, self._before, self._measured = [], {}, {}, {}


def _components(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters by component: the module of the model, or of one of its modules, that they are in."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(".".join(name.split(".")[:-1][:2]) or "model", []).append(parameter)
    return found


def _activations(output: Any) -> list[Tensor]:
    """What a component gives as vectors (N, D), without padding."""
    given = output
    if isinstance(output, Features):
        given = output.tokens if output.pooled is None else output.pooled
        if output.pooled is None and output.tokens is not None and output.mask is not None:
            given = output.tokens[output.mask]
    elif isinstance(output, Fused):
        given = output.scores
    if not isinstance(given, Tensor) or given.ndim < 2 or not given.is_floating_point():
        return []
    return [given.detach().flatten(0, -2).float()]


def _activity(activations: list[Tensor]) -> dict[str, Tensor]:
    """How active a component is."""
    if not activations:
        return {}
    values = torch.cat(activations)
    return {
        "activation_mean": values.mean(),
        "activation_std": values.std(correction=0),
        "dead": (values == 0).all(0).float().mean(),
    }
