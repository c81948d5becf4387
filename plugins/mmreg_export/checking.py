"""Whether an exported file predicts what the run itself does, for numbers of rows and steps that it was not made with.

Axes: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmreg import Run, Signal
from mmreg.errors import RunError
from mmreg.messages import one_line
from mmreg_export.arrays import ModalityArrays, present_rows, random_inputs
from mmreg_export.program import SCORES, Inputs

SIZES = ((1, 3), (2, 17), (5, 29), (4, 40))
"""Rows, and steps of the longest one, that files are checked with; they are made with none of these."""
TOLERANCE = 1e-4


@torch.no_grad()
def run_scores(run: Run, modalities: Sequence[ModalityArrays], inputs: Mapping[str, Tensor]) -> Tensor:
    """The scores (B, K) of the run itself, which encodes none but the rows that are present."""
    present = present_rows(modalities, inputs)
    signals, rows = {}, {}
    for column, modality in enumerate(modalities):
        having = present[:, column].nonzero()[:, 0]
        if not len(having):
            continue
        signal = modality.signal({name: values[having] for name, values in inputs.items()})
        signal = _cut(modality, signal)
        signals[modality.name] = run.modalities[modality.name].transform(signal, training=False)
        rows[modality.name] = having
    scores: Tensor = run.model(Inputs(present, signals=signals, rows=rows)).scores
    return scores


def check(
    run: Run,
    modalities: Sequence[ModalityArrays],
    predict: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    least: Mapping[str, int],
    what: str,
) -> float:
    """Compare a file's scores with the run's.

    Args:
        run: on the CPU, in float32.
        modalities: what each takes part with.
        predict: the file's outputs by name, given its inputs.
        least: the least size of the ragged axis by the name of the modality, to which inputs are padded.
        what: what the file is called in messages.

    Returns:
        The greatest difference.

    Raises:
        RunError: it is above 1e-4.
    """
    worst = 0.0
    for number, (rows, steps) in enumerate(SIZES):
        inputs = random_inputs(list(modalities), rows, steps, seed=number)
        try:
            scores = predict(padded(inputs, modalities, least))[SCORES]
        except Exception as error:  # such as what a guard on a size raises
            raise RunError(
                f"{what} was not written: it holds for some sizes alone, not for {rows} rows of up to {steps} steps "
                f"({one_line(error)})"
            ) from error
        wanted = run_scores(run, modalities, inputs)
        apart = float((scores - wanted).abs().max()) if scores.shape == wanted.shape else float("inf")
        if not apart <= TOLERANCE:  # NaN is not
            raise RunError(
                f"{what} was not written: for {rows} rows of up to {steps} steps its scores are {apart:.2g} off the "
                f"run's, more than {TOLERANCE:g}"
            )
        worst = max(worst, apart)
    return worst


def padded(
    inputs: Mapping[str, Tensor], modalities: Sequence[ModalityArrays], least: Mapping[str, int]
) -> dict[str, Tensor]:
    """Inputs whose ragged axes have at least the sizes that a file takes, with zeros at the end; lengths stay."""
    found = dict(inputs)
    for modality in modalities:
        for name, spec in modality.specs.items():
            short = least.get(modality.name, 0) - inputs[name].shape[1] if spec.ragged_axis is not None else 0
            if short > 0:
                widths = [0, 0] * (inputs[name].dim() - 2) + [0, short]
                found[name] = torch.nn.functional.pad(inputs[name], widths)
    return found


def _cut(modality: ModalityArrays, signal: Signal[Any]) -> Signal[Any]:
    """A signal without the steps that none of its rows has, with its lengths in host memory, as batches are."""
    if signal.lengths is None:
        return signal
    longest = int(signal.lengths.max())
    specs = {key: modality.specs[name] for name, key in modality.keys.items()}

    def cut(values: Tensor, key: str) -> Tensor:
        return values[:, :longest] if specs[key].ragged_axis is not None else values

    values = signal.values
    kept = cut(values, "") if isinstance(values, Tensor) else {key: cut(each, key) for key, each in values.items()}
    return Signal(kept, signal.lengths, signal.lengths)
