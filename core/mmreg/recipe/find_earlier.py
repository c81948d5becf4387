"""Finding the encoder of an earlier run that a recipe begins with, and what it needs of its modality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mmreg import registry
from mmreg.contract.interfaces import Modality
from mmreg.contract.markers import AssetMark
from mmreg.errors import MmregError, RunError
from mmreg.messages import listed
from mmreg.recipe.assets import digest, with_absolute_assets
from mmreg.recipe.components import Component
from mmreg.recipe.earlier import EarlierInput, earlier_input
from mmreg.recipe.finder import WEIGHT_KEYS, Finder
from mmreg.recipe.form import EncoderChoice
from mmreg.registry.options import KeyPath, marked, option_names


def find_earlier(finder: Finder, choice: EncoderChoice, name: str) -> tuple[EarlierInput | None, Component | None]:
    """The input of the earlier run that a choice names, and the encoder; None with a problem for what is not there.

    A recipe that has the encoder's name as well, as a run's own does, is not in need of the earlier run to be read.

    Args:
        finder: gathers problems.
        choice: what the recipe says of the encoder.
        name: the input whose it is.
    """
    path: KeyPath = ("modalities", name, "encoder")
    assert choice.run is not None
    folder = ((finder.folder or Path()) / choice.run).absolute()
    if choice.name is not None:
        earlier = EarlierInput(folder, choice.input or name)
        return earlier, finder.component("encoder", choice.name, choice.options, path)
    try:
        earlier = earlier_input(folder, choice.input, name)
        options = earlier.encoder_options(registry.get("encoder", earlier.encoder_name))
    except RunError as error:
        begun = "; a training that has begun goes on by its own recipe: mmreg train OUT/recipe.yaml --out OUT --resume"
        finder.problem((*path, "from"), f"{error}{'' if folder.is_dir() else begun}")
        return None, None
    except MmregError as error:  # the encoder is not installed, or cannot be imported
        finder.problem((*path, "from"), f"the run {folder} cannot be used: {error}")
        return None, None
    extra = [key for key in choice.options if key in options or key not in WEIGHT_KEYS]
    if extra:
        told = f"{listed(extra)}: from takes the encoder as it is; beside it go {', '.join(sorted(WEIGHT_KEYS))}"
        finder.problem(path, told)
        return None, None
    there = Finder(folder)  # which assets are relative to
    encoder = there.component("encoder", earlier.encoder_name, {**options, **choice.options}, path)
    finder.problems += there.problems
    return earlier, encoder


def with_earlier_options(
    finder: Finder, earlier: EarlierInput, given: Mapping[str, Any], modality: str, path: KeyPath
) -> dict[str, Any]:
    """An input's options, completed by those of the earlier run's modality where it is the same one.

    Those that only `transform` reads may be others: they change nothing of what a stored value means.

    Args:
        finder: gathers problems.
        earlier: the run's input.
        given: the options that the recipe gives.
        modality: the input's modality by name.
        path: the input's place in the recipe.
    """
    entry = registry.find("modality", modality)
    if not earlier.has_modality(entry):
        return dict(given)
    before, cls = earlier.modality_options(), cast(type[Modality], registry.load(entry))
    known, files = option_names(cls), marked(cls, AssetMark)
    before = with_absolute_assets(cls, {key: value for key, value in before.items() if key in known}, earlier.folder)
    for key, value in given.items():
        same_file = key in files and isinstance(value, str) and digest(before.get(key, "")) is not None
        if same_file and digest((finder.folder or Path()) / value) == digest(before[key]):
            continue
        if key in before and key not in cls.transform_options and value != before[key]:
            told = f"must be {before[key]!r}, as the encoder of {earlier.folder} was trained with it, found {value!r}"
            finder.problem((*path, key), told)
    return {**before, **given}
