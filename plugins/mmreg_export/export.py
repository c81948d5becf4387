"""From a run to a file that was checked against it, with its description beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from mmreg import MmregError, Run
from mmreg.errors import RunError
from mmreg.files import replacing, write_json
from mmreg.messages import one_line
from mmreg_export.arrays import model_arrays, random_inputs
from mmreg_export.checking import check
from mmreg_export.decoding import decoding, description_of, undecodable, write_runner
from mmreg_export.description import described
from mmreg_export.int8 import measured, write_int8
from mmreg_export.program import Program, readables
from mmreg_export.refusals import refusals
from mmreg_export.writing import axis_names, least_steps, predicting, save_onnx, save_torch, traced

Format = Literal["torch-export", "onnx"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        file: the model.
        description: the JSON beside it.
        difference: the greatest one between the file's scores and the run's, of the batches that it was checked with.
        runner: what predicts with the file; None if it was not asked for.
        int8: the file of 8 bits; None if it was not asked for.
        measured: the sizes of the two files, and what their predictions are worth.
    """

    file: Path
    description: Path
    difference: float
    runner: Path | None = None
    int8: Path | None = None
    measured: Mapping[str, Any] | None = None


def export(
    run: Run,
    form: Format,
    out: Path,
    tell: Callable[[str], None] = lambda text: None,
    *,
    runner: bool = False,
    int8: bool = False,
) -> Exported:
    """Write a run's whole model, with each modality's transform, as one file.

    Args:
        run: loaded on the CPU, in float32.
        form: of the file.
        out: where to.
        tell: told what is being done.
        runner: of ONNX, whether to write what predicts with the file beside it.
        int8: of ONNX, whether to write a smaller file of 8 bits beside it, too.

    Raises:
        RunError: something of the run cannot be exported, or decoded by the runner; or the file predicts something
            else than the run, and is not kept.
    """
    if reasons := refusals(run, form):
        raise RunError(f"{run.folder} cannot be exported as {form}: {'; '.join(reasons)}")
    if runner and (reasons := undecodable(run)):
        raise RunError(f"the runner cannot decode {'; '.join(reasons)}; --no-runner exports without it")
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
    facts = described(run, form, out.name, modalities, outputs, readables(run.task), least, difference)
    if runner:
        facts |= {"key": run.recipe["key"], "missing": run.recipe["missing"], "decoding": decoding(run)}
    written = Exported(out, _describe(out, facts), difference, write_runner(out.parent) if runner else None)
    if not int8:
        return written
    tell("quantising it, and measuring what that costs")
    small = out.with_name(f"{out.stem}.int8{out.suffix}")
    with replacing(small) as unfinished:
        write_int8(out, unfinished)
        figures = measured(run, modalities, outputs, {"float32": out, "int8": unfinished}, least)
    _describe(small, facts | {"file": small.name, "how": facts["how"].replace(out.name, small.name), "int8": figures})
    return replace(written, int8=small, measured=figures)


def _describe(file: Path, facts: Mapping[str, Any]) -> Path:
    """Write the JSON beside a file, with what tells it from others."""
    beside = description_of(file)
    with file.open("rb") as opened:
        write_json(beside, {**facts, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()})
    return beside
