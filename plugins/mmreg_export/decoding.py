"""What the runner has to know of each modality to decode its cells as the run does, and which it cannot decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmreg.files import write_text
from mmreg.messages import listed

if TYPE_CHECKING:  # which the command does without
    from mmreg import Run

RUNNER = "runner.py"
RUNTIME = Path(__file__).with_name("runtime.py")
BUNDLED = "mmreg:"
"""What a recipe that spells everything out has before the names of bundled components."""
OPTIONS: Mapping[str, Sequence[str]] = {
    "image": ("size", "channels", "resize", "interpolation"),
    "audio": ("sample_rate", "channels", "source_rate", "max_seconds"),
    "text": ("lower", "max_tokens", "special_tokens", "word_ngrams", "char_ngrams", "weighting"),
    "vector": (),
    "series": ("max_steps",),
    "tabular": ("bad_cells",),
}
"""The bundled modalities that the runner decodes, with those of their options that say how."""
LEARNED: Mapping[str, Sequence[str]] = {
    "text": ("words", "tokenizer", "ngrams"),
    "vector": ("size", "sequence"),
    "series": ("size",),
}
"""What else it takes of their states."""


def undecodable(run: Run) -> list[str]:
    """Each reason why the runner cannot decode a modality of a run; none if it can decode all."""
    reasons = []
    for name in run.model.modalities:
        given = run.recipe["modalities"][name]
        kind = _kind(given)
        if kind not in OPTIONS:
            reasons.append(f"modality {name}: {kind} is none that it decodes, which are {listed(OPTIONS)}")
        elif kind == "series" and (given.get("time") or run.modalities[name].state().get("names")):
            reasons.append(f"modality {name}: its series are table files, and it takes lists and .npy files")
    return reasons


def decoding(run: Run) -> list[dict[str, Any]]:
    """How the runner decodes each modality, as plain data."""
    found = []
    for name in run.model.modalities:
        given, state = run.recipe["modalities"][name], run.modalities[name].state()
        kind = _kind(given)
        facts: dict[str, Any] = {
            "modality": name,
            "kind": kind,
            "columns": list(run.plan.inputs[name].columns),
            "paths": run.modalities[name].paths,
            "on_bad": given["on_bad"],
        }
        facts |= {option: given[option] for option in OPTIONS[kind]}
        facts |= {key: state[key] for key in LEARNED.get(kind, ()) if key in state}
        if kind == "text":
            facts["method"] = given["tokenizer"] or "basic_english"
        if kind == "tabular":
            facts["fitted"] = state["columns"]
        found.append(facts)
    return found


def description_of(file: Path) -> Path:
    """The JSON beside an exported file, which says what it takes and gives."""
    return file.with_name(file.name + ".json")


def write_runner(folder: Path) -> Path:
    """Copy the runner into a folder."""
    path = folder / RUNNER
    write_text(path, RUNTIME.read_text("utf-8"))
    return path


def others_runner(folder: Path) -> bool:
    """Whether a folder has another file where the runner would be written."""
    path = folder / RUNNER
    return path.exists() and not (path.is_file() and path.read_bytes() == RUNTIME.read_bytes())


def _kind(given: Mapping[str, Any]) -> str:
    return str(given["type"]).removeprefix(BUNDLED)
