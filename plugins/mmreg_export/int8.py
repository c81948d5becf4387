"""A smaller ONNX file with weights of 8 bits, and what that costs on rows whose targets are known.

Axes: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmreg import Run
from mmreg.errors import RunError
from mmreg.messages import one_line
from mmreg_export.arrays import ModalityArrays
from mmreg_export.checking import padded
from mmreg_export.program import SCORES
from mmreg_export.writing import predicting_onnx, quiet

ROWS = 64
"""How many are predicted at a time."""


def write_int8(file: Path, out: Path) -> None:
    """Quantise the weights of an ONNX file; its activations are quantised as they come (ONNX Runtime's dynamic way).

    Raises:
        RunError: ONNX Runtime cannot, or cannot run what it made.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with quiet():
            # Unsigned, as ONNX Runtime has no convolution of signed weights on the CPU.
            quantize_dynamic(str(file), str(out), weight_type=QuantType.QUInt8)
            predicting_onnx(out, [])
    except Exception as error:  # whatever it lacks for this model
        raise RunError(f"--int8: onnxruntime cannot quantise {file.name}: {one_line(error)}") from error


def measured(
    run: Run,
    modalities: Sequence[ModalityArrays],
    outputs: Sequence[str],
    files: Mapping[str, Path],
    least: Mapping[str, int],
) -> dict[str, Any]:
    """The sizes of some files, and what their predictions are worth on the run's test rows, else validation rows.

    Args:
        run: what was exported; its table must be where it was.
        modalities: what each takes part with.
        outputs: the names of what the files give.
        files: by what they are called; the others are compared with the first one.
        least: the least size of the ragged axis by the name of the modality.

    Raises:
        RunError: the run's table has changed or is gone, or it has no such rows.
    """
    known = _known_rows(run)
    predict = {name: predicting_onnx(file, outputs) for name, file in files.items()}
    scores: dict[str, list[Tensor]] = {name: [] for name in files}
    for inputs in _batches(known, modalities):
        given = padded(inputs, modalities, least)
        for name, one in predict.items():
            scores[name].append(one(given)[SCORES])
    targets = torch.from_numpy(known.targets)
    joined = {name: torch.cat(parts) for name, parts in scores.items()}
    first = next(iter(joined.values()))
    metric = run.task.main_metric
    return {
        "split": known.split,
        "rows": len(known.rows),
        "metric": metric,
        **{
            name: {
                "bytes": files[name].stat().st_size,
                "value": float(run.task.evaluate(own, targets)[metric]),
                "greatest_difference": float((own - first).abs().max()),
            }
            for name, own in joined.items()
        },
    }


def _known_rows(run: Run) -> Any:
    try:
        return run.known_rows(split="test")
    except RunError:
        return run.known_rows(split="validation")


def _batches(known: Any, modalities: Sequence[ModalityArrays]) -> Iterator[dict[str, Tensor]]:
    """The rows as a file takes them, some at a time."""
    for start in range(0, len(known.rows), ROWS):
        rows = known.rows[start : start + ROWS]
        found: dict[str, Tensor] = {}
        for modality in modalities:
            prepared = known.prepared[modality.name]
            present = prepared.present[rows]
            at = torch.from_numpy(np.flatnonzero(present))
            signal = prepared.gather(rows[present]) if len(at) else None
            if modality.lengths:
                lengths = torch.ones(len(rows), dtype=torch.int64)
                found[modality.lengths] = lengths if signal is None else lengths.index_copy(0, at, signal.lengths)
            for name, key in modality.keys.items():
                spec = modality.specs[name]
                own = None if signal is None else signal.values[key] if key else signal.values
                shape = [size or 1 for size in spec.shape] if own is None else own.shape[1:]
                values = torch.zeros(len(rows), *shape, dtype=getattr(torch, spec.dtype))
                found[name] = values if own is None else values.index_copy(0, at, own)
            found[modality.present] = torch.from_numpy(present)
        yield found
