"""From a run to a file that was checked against it, with its description beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from mmreg import MmregError, Run
from mmreg.errors import RunError
from mmreg.files import replacing, write_json
from mmreg.messages import one_line
from mmreg_export.arrays import model_arrays, random_inputs
from mmreg_export.checking import check
from mmreg_export.description import described
from mmreg_export.program import Program, readables
from mmreg_export.refusals import refusals
from mmreg_export.writing import axis_names, least_steps, predicting, save_onnx, save_torch, traced

Format = Literal["torch-export", "onnx"]
ENDINGS: dict[Format, str] = {"torch-export": ".pt2", "onnx": ".onnx"}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        file: the model.
        description: the JSON beside it.
        difference: the greatest one between the file's scores and the run's, of the batches that it was checked with.
    """

    file: Path
    description: Path
    difference: float


def export(run: Run, form: Format, out: Path, tell: Callable[[str], None] = lambda text: None) -> Exported:
    """Write a run's whole model, with each modality's transform, as one file.

    Args:
        run: loaded on the CPU, in float32.
        form: of the file.
        out: where to.
        tell: told what is being done.

    Raises:
        RunError: something of the run cannot be exported; or the file predicts something else than the run, and is not
            kept.
    """
    if reasons := refusals(run, form):
        raise RunError(f"{run.folder} cannot be exported as {form}: {'; '.join(reasons)}")
    if run.device.type != "cpu" or run.dtype != torch.float32:
        raise RunError('a run is exported from the CPU in float32: load it with device="cpu", precision="float32"')
    modalities = model_arrays(run)
    program = Program(run, modalities).eval()
    tell("tracing the model")
    try:
        exported = traced(program, modalities)
        least = least_steps(exported, modalities)
    except MmregError:
        raise
    except Exception as error:  # whatever a component does that torch.export cannot follow
        raise RunError(f"{run.folder} cannot be exported: torch.export says: {one_line(error)}") from error
    check(run, modalities, predicting(exported), least, str(out))  # its guards know what an ONNX file would not
    with torch.no_grad():
        outputs = list(program(random_inputs(modalities, 2, 2)))
    tell(f"writing {out.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as unfinished:
        try:
            if form == "onnx":
                predict = save_onnx(exported, unfinished, axis_names(modalities), outputs)
            else:
                predict = save_torch(exported, unfinished)
        except Exception as error:
            raise RunError(f"{run.folder} cannot be exported as {form}: {one_line(error)}") from error
        tell("checking it against the run")
        difference = check(run, modalities, predict, least, str(out))
    beside = out.with_name(out.name + ".json")
    facts = described(run, form, out.name, modalities, outputs, readables(run.task), least, difference)
    write_json(beside, facts)
    return Exported(out, beside, difference)
