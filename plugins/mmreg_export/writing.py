"""A program traced for any number of rows and steps, and the two kinds of files that are made of it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmreg_export.arrays import ModalityArrays, random_inputs
from mmreg_export.program import Program

ROWS, STEPS = 3, 23
"""The size of the example that is traced."""
BATCH = "batch"
Predict = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def traced(program: Program, modalities: Sequence[ModalityArrays]) -> torch.export.ExportedProgram:
    """The program for any number of rows and steps."""
    example = random_inputs(list(modalities), ROWS, STEPS)
    axes = axis_names(modalities)
    dynamic, static = torch.export.Dim.DYNAMIC, torch.export.Dim.STATIC
    shapes = {name: tuple(dynamic if isinstance(axis, str) else static for axis in axes[name]) for name in example}
    with torch.no_grad(), quiet():
        return torch.export.export(program, (example,), dynamic_shapes=(shapes,), strict=False)


def axis_names(modalities: Sequence[ModalityArrays]) -> dict[str, list[int | str]]:
    """The shape of each input, with names for the axes that vary, in the order of the inputs."""
    found: dict[str, list[int | str]] = {}
    for modality in modalities:
        steps = f"time_{modality.name}"
        for name, spec in modality.specs.items():
            found[name] = [BATCH, *(steps if size is None else size for size in spec.shape)]
        if modality.lengths:
            found[modality.lengths] = [BATCH]
    return {**found, **{modality.present: [BATCH] for modality in modalities}}


def least_steps(exported: torch.export.ExportedProgram, modalities: Sequence[ModalityArrays]) -> dict[str, int]:
    """By modality, the least size of the ragged axis that a traced program takes, where it is above one.

    Where a layer takes other steps for a short sequence, only those of a longer one are traced, and shorter ones
    are padded.
    """
    module, example = exported.module(), random_inputs(list(modalities), ROWS, STEPS)
    found = {}
    for modality in modalities:
        longest = STEPS * modality.scale
        least = 1
        while modality.lengths and least < longest and not _takes(module, modality, example, least):
            least += max(1, modality.scale // 2)
        if least > 1:
            found[modality.name] = min(least, longest)
    return found


def _takes(module: Any, modality: ModalityArrays, example: Mapping[str, Tensor], steps: int) -> bool:
    """Whether a traced program runs with so many steps of a modality."""
    cut = {name: example[name][:, :steps] for name, spec in modality.specs.items() if spec.ragged_axis is not None}
    lengths = {modality.lengths: example[modality.lengths].clamp(max=steps)}
    try:
        with torch.no_grad(), quiet():
            module({**example, **cut, **lengths})
    except (AssertionError, RuntimeError):  # what guards and operators raise
        return False
    return True


def predicting(exported: torch.export.ExportedProgram) -> Predict:
    """What a traced program predicts; it refuses sizes for which it was not traced."""
    module = exported.module()

    def predict(inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        with torch.no_grad():
            outputs: Mapping[str, Tensor] = module(dict(inputs))
        return outputs

    return predict


def save_torch(exported: torch.export.ExportedProgram, path: Path) -> Predict:
    """Write a .pt2 file; gives what the file itself predicts."""
    with quiet():
        with path.open("wb") as file:  # of a path, torch would look at the ending
            torch.export.save(exported, file)
        with path.open("rb") as written:
            return predicting(torch.export.load(written))


def save_onnx(
    exported: torch.export.ExportedProgram,
    path: Path,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
) -> Predict:
    """Write an .onnx file; gives what ONNX Runtime predicts with it."""
    with quiet():
        program = torch.onnx.export(
            exported, dynamo=True, input_names=list(inputs), output_names=list(outputs), verbose=False
        )
        assert program is not None
        _name_axes(program.model.graph, inputs)
        program.save(str(path))
    return predicting_onnx(path, outputs)


def _name_axes(graph: Any, inputs: Mapping[str, Sequence[int | str]]) -> None:
    """Give the axes that vary the names that they have in `inputs`, in the place of torch's own."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        axes = zip(value.shape, inputs[value.name], strict=True)
        names |= {str(size): name for size, name in axes if isinstance(name, str)}
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if str(size) in names:
                value.shape[axis] = names[str(size)]


def predicting_onnx(path: Path, outputs: Sequence[str]) -> Predict:
    """What ONNX Runtime predicts with a file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def predict(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        values = session.run(list(outputs), {name: given[name].numpy() for name in names})
        return {name: torch.from_numpy(value) for name, value in zip(outputs, values, strict=True)}

    return predict


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch says of its own insides while it exports."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
