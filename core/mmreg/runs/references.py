"""Frozen weights: those that a run refers to, as their file gives them again, and those that training keeps once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmreg.errors import RunError
from mmreg.model.model import MultimodalModel
from mmreg.pretrained import weights_folder
from mmreg.recipe.assets import digest
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import Plan
from mmreg.run_files.weights import weights_checksum


def referenced(plan: Plan) -> list[str]:
    """The inputs whose encoder's weights are not kept in the run."""
    return [name for name, given in plan.inputs.items() if given.encoder.weights.in_run == "reference"]


def kept_weights(plan: Plan, model: MultimodalModel) -> dict[str, Tensor]:
    """The weights that a run keeps, by name."""
    return _without(model, referenced(plan))


def trained_weights(plan: Plan, model: MultimodalModel) -> dict[str, Tensor]:
    """Those of them that a training's states keep: all but those of encoders that stay as they are."""
    return _without(model, [*referenced(plan), *_frozen(plan)])


def frozen_weights(plan: Plan, model: MultimodalModel) -> dict[str, Tensor]:
    """The others of them, which a training keeps once."""
    trained = trained_weights(plan, model)
    return {name: tensor for name, tensor in kept_weights(plan, model).items() if name not in trained}


def load_kept_weights(plan: Plan, model: MultimodalModel, weights: Mapping[str, Tensor]) -> None:
    """Put what `kept_weights` or `trained_weights` gave into a model, which has the others already.

    Raises:
        RuntimeError: they do not fit.
    """
    trained = trained_weights(plan, model)
    others = {name: own for name, own in model.state_dict().items() if name not in trained}
    model.load_state_dict({**others, **weights} if others else weights)


def _frozen(plan: Plan) -> list[str]:
    """The inputs whose encoder stays as it is."""
    return [name for name, given in plan.inputs.items() if given.is_frozen]


def _without(model: MultimodalModel, inputs: Sequence[str]) -> dict[str, Tensor]:
    """A model's weights but for those of some inputs' encoders."""
    state: dict[str, Tensor] = model.state_dict()  # with what it knows besides its keys
    prefixes = tuple(f"encoders.{name}." for name in inputs)
    for name in [name for name in state if name.startswith(prefixes)]:
        del state[name]
    return state


def references(plan: Plan, model: MultimodalModel) -> dict[str, Any]:
    """What is kept of the others: for each input the files' hashes by path, and the weights' checksum."""
    facts = {}
    for name in referenced(plan):
        if name not in model.shares:
            files = {path: digest(path) for path in sorted(plan.inputs[name].encoder.uncopied)}
            facts[name] = {"files": files, "checksum": _checksum(model, name)}
    return facts


def with_files_at_hand(recipe: Recipe, folder: Path, facts: Mapping[str, Any]) -> Recipe:
    """A run's recipe, with the files that the run refers to where they are now.

    Raises:
        RunError: one is neither there nor in the folder of weights at hand.
    """
    moved: dict[str, str] = {}
    for name, reference in facts.get("references", {}).items():
        for path, content in reference["files"].items():
            if digest(path) == content:
                continue
            at_hand = weights_folder() / Path(path).name
            if digest(at_hand) != content:
                what = "has changed" if digest(path) else "is gone"
                if digest(at_hand):
                    what += f", and {at_hand} in the folder of weights at hand is another one"
                raise RunError(
                    f"the run {folder} refers to the weights of {name} in {path}, which {what}; bring the file back, "
                    f"or put it into {weights_folder()}"
                )
            moved[path] = str(at_hand)
    return recipe.replace({"modalities": _moved(recipe.data["modalities"], moved)}) if moved else recipe


def _moved(data: Any, paths: Mapping[str, str]) -> Any:
    if isinstance(data, Mapping):
        return {key: _moved(value, paths) for key, value in data.items()}
    return paths.get(data, data) if isinstance(data, str) else data


def check_references(folder: Path, facts: Mapping[str, Any], model: MultimodalModel) -> None:
    """Refuse encoders that were built again and became others.

    Raises:
        RunError: names them.
    """
    for name, reference in facts.get("references", {}).items():
        if _checksum(model, name) != reference["checksum"]:
            raise RunError(
                f"the encoder of {name} in the run {folder} was built again from its weights' file, but is not what it "
                "was: another release of a package builds it otherwise; install that one, or train again"
            )


def _checksum(model: MultimodalModel, name: str) -> str:
    return weights_checksum({key: tensor.cpu() for key, tensor in model.encoder_of(name).state_dict().items()})
