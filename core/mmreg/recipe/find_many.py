"""What a recipe cannot ask of cells that hold any number of values."""

from __future__ import annotations

from collections.abc import Mapping

from mmreg.recipe.components import FusionPlan, InputPlan
from mmreg.recipe.finder import Finder
from mmreg.recipe.training_form import Training


def check_many(finder: Finder, inputs: Mapping[str, InputPlan], fusion: FusionPlan | None, training: Training) -> None:
    """Note what does not go with inputs of any number of values a cell.

    Args:
        finder: whom problems are told.
        inputs: by name.
        fusion: what joins them.
        training: how they are trained.
    """
    above = {part: node for node in (fusion.nodes() if fusion else ()) for part in node.of if isinstance(part, str)}
    mixed = [key for key in ("mixup", "cutmix") if getattr(training, key) is not None]
    for name, given in inputs.items():
        if given.many is None:
            continue
        path = ("modalities", name, "many")
        if given.modality.cls.multiple_columns:
            told = f"{given.modality.name} reads several columns together, of which a cell is a part of one value"
            finder.problem(path, f"{told}; leave many out")
        if mixed:
            told = f"a row has any number of values then, which {' and '.join(mixed)} cannot blend in pairs"
            finder.problem(path, f"{told}; leave {' and '.join(mixed)} out")
        node = above.get(name)
        if given.many.pooling == "tokens" and not (node is not None and node.takes_tokens):
            what = "there is no operator" if node is None else f"{node.fusion.name} takes one vector a row"
            told = f"tokens are for an operator that takes them, but {what}; set many: mean, max or attention"
            finder.problem(path, told)
