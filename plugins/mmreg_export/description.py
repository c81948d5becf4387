"""What a file takes and gives, as the JSON beside it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from mmreg import Run
from mmreg_export.arrays import ModalityArrays
from mmreg_export.program import SCORES, Readable
from mmreg_export.writing import BATCH, axis_names

HOW = {
    "torch-export": "module = torch.export.load(FILE).module(); outputs = module({name: tensor, ...})",
    "onnx": "session = onnxruntime.InferenceSession(FILE); outputs = session.run(None, {name: array, ...})",
}
SPACES = {
    "log_probabilities": "the logarithms of the classes' probabilities",
    "log_odds": "the log-odds of independent labels",
    "values": "numbers in standardised units",
    "quantiles": "quantiles in standardised units",
    "log_hazards": "the logarithm of a hazard",
    "vectors": "a unit vector of each modality side by side, zeros for one that the row lacks",
    "several": "those of several targets side by side",
}


def described(
    run: Run,
    form: str,
    file: str,
    modalities: Sequence[ModalityArrays],
    outputs: Sequence[str],
    read: Sequence[Readable],
    least: Mapping[str, int],
    difference: float,
) -> dict[str, Any]:
    """The description of a file, as plain data.

    Args:
        run: what is exported.
        form: the format.
        file: the file's name.
        modalities: what each takes part with.
        outputs: the names of what it gives, in order.
        read: those that people read.
        least: the least size of the ragged axis by the name of the modality.
        difference: the greatest one between the file's scores and the run's.
    """
    shapes = axis_names(modalities)
    given = run.recipe["modalities"]
    inputs: list[dict[str, Any]] = []
    for modality in modalities:
        for name, spec in modality.specs.items():
            inputs.append(
                {
                    **{"name": name, "modality": modality.name, "role": "values", "array": modality.keys[name]},
                    **{"dtype": spec.dtype, "shape": shapes[name], "is": _source(modality, name, given)},
                }
            )
            if spec.vocabulary_size is not None:
                inputs[-1]["below"] = spec.vocabulary_size
            if spec.ragged_axis is not None and modality.name in least:
                inputs[-1]["least_steps"] = least[modality.name]
        if modality.lengths:
            what = f"how many steps each row of {modality.name} has, from 1 on; what lies beyond is padding, zeros"
            ragged = next(name for name, spec in modality.specs.items() if spec.ragged_axis is not None)
            role = {
                "name": modality.lengths,
                "modality": modality.name,
                "role": "lengths",
                "array": modality.keys[ragged],
            }
            inputs.append({**role, "dtype": "int64", "shape": [BATCH], "is": what})
    for modality in modalities:
        what = f"which rows have {modality.name}; of those that lack it, the values are zeros and the length is 1"
        role = {"name": modality.present, "modality": modality.name, "role": "present"}
        inputs.append({**role, "dtype": "bool", "shape": [BATCH], "is": what})
    told = {each.output: each for each in read}
    results = []
    for name in outputs:
        entry: dict[str, Any] = {"name": name, "dtype": "float32", "shape": [BATCH]}
        if name == SCORES:
            entry |= {"shape": [BATCH, run.task.num_outputs], "is": SPACES[run.task.space], "told": not read}
        elif name in told:
            entry |= {"shape": [BATCH, len(told[name].names)], "columns": list(told[name].names), "is": told[name].what}
            entry["dtype"] = "float64" if told[name].what == "values" else "float32"
            if told[name].labels:
                entry["labels"] = list(told[name].labels)
        results.append(entry)
    return {
        "file": file,
        "format": form,
        "how": HOW[form].replace("FILE", repr(file)),
        "inputs": inputs,
        "outputs": results,
        "greatest_difference": difference,
        "versions": {"mmreg": version("mmreg"), "torch": torch.__version__},
        "modalities": {each.name: given[each.name] for each in modalities if each.name in given},
    }


def _source(modality: ModalityArrays, name: str, given: Mapping[str, Any]) -> str:
    key = modality.keys[name]
    part = f"the array {key!r} of " if key else ""
    kind = str(given.get(modality.name, {}).get("type", modality.name)).removeprefix("mmreg:")
    return f"{part}what the modality {kind} loads of each row's cell"
