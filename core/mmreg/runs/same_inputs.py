"""Which inputs of a combined run are one modality: those of its runs that read the same in the same way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from mmreg.recipe.assets import digest
from mmreg.recipe.components import InputPlan
from mmreg.recipe.resolve import Plan


def same_inputs(plan: Plan, called: Mapping[str, str]) -> dict[str, list[str]]:
    """The inputs by modality, in order.

    They are one where the runs call them the same, and they have the same columns, modality and options; options that
    only `transform` reads may differ. Where a name means several modalities in the runs, each keeps that of its input.

    Args:
        plan: the combination's.
        called: what its inputs are called in their runs.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, given in plan.inputs.items():
        groups.setdefault((called[name], _reads(given)), []).append(name)
    names = [name for name, _ in groups]
    return {name if names.count(name) == 1 else of[0]: of for (name, _), of in groups.items()}


def modality_texts(modalities: Iterable[str], rows: Iterable[Sequence[bool]]) -> list[str]:
    """What tables of predictions say of the modalities that rows had."""
    names = list(modalities)
    return ["+".join(name for name, there in zip(names, row, strict=True) if there) for row in rows]


def _reads(given: InputPlan) -> str:
    """What an input reads and how it is stored; a file by what is in it, as each run has a copy."""
    options = given.modality.options_with(lambda path: digest(path) or path)
    kept = {key: value for key, value in options.items() if key not in given.modality.cls.transform_options}
    parted = [] if given.many is None else [["many", given.many.separator]]
    return json.dumps([given.modality.entry.reference, given.columns, kept, *parted], sort_keys=True, default=str)
