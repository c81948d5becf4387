"""Recipes as texts: damaged ones, made-up ones, and what stands after `--set` and `--value`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import yaml

from fuzzing.actions import DamagedFiles, in_place, restored
from fuzzing.cases import BLOCK, Case, Kind
from fuzzing.oracle import command
from fuzzing.strategies import drawn, recipes, settings, values
from fuzzing.texts import YAML
from fuzzing.trees import damaged_tree

RECIPE = "recipe.yaml"
ONE_STEP = ("--set", "training.max_steps=1", "--set", "training.epochs=1")


def yaml_damage(random: Random, data: bytes) -> bytes:
    """A recipe with nodes changed."""
    text = yaml.safe_dump(damaged_tree(random, yaml.safe_load(data)), allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")


def _try(recipe: bytes, folder: Path) -> None:
    """Check a recipe; if it is right, take one step of a training."""
    with in_place(folder / RECIPE, recipe), restored(folder, "trained"):
        command(["validate", RECIPE])
        command(["train", RECIPE, "--out", "trained", "-q", *ONE_STEP])


class DamagedRecipes(DamagedFiles):
    """The recipe, byte by byte and node by node."""

    def act(self, case: Case, folder: Path) -> None:
        _try(case.data, folder)


class MadeTexts(Kind):
    """Texts that Hypothesis makes up, a block at a time.

    Args:
        name: see `Kind`.
        share: see `Kind`.
        strategy: makes what to draw from; called when it is needed.
        use: what is done with a text.
    """

    def __init__(self, name: str, share: int, strategy: Callable[[], object], use: Callable[[str, Path], None]) -> None:
        self.name, self.share, self.strategy, self.use = name, share, strategy, use

    def ready(self) -> None:
        drawn(self.strategy(), 1, 0)

    def cases(self, numbers: range, seed: int) -> Iterator[Case]:
        texts: list[str] = []
        for number in numbers:
            block, place = divmod(number, BLOCK)
            if not texts:
                texts = drawn(self.strategy(), BLOCK, self.random(block, seed).getrandbits(32))
            yield Case(self.name, number, "", texts[place % len(texts)].encode("utf-8", "surrogateescape"))

    def act(self, case: Case, folder: Path) -> None:
        self.use(case.data.decode("utf-8", "surrogateescape"), folder)


def _made(text: str, folder: Path) -> None:
    _try(text.encode("utf-8", "surrogateescape"), folder)


def _set(text: str, folder: Path) -> None:
    settings = [word for part in json.loads(text) for word in ("--set", part)]
    command(["validate", RECIPE, *settings])
    with restored(folder, "trained"):
        command(["train", RECIPE, "--out", "trained", "-q", *settings, *ONE_STEP])


def _value(text: str, folder: Path) -> None:
    command(["predict", "run", "-q", *(word for part in json.loads(text) for word in ("--value", part))])


KINDS: list[Kind] = [
    DamagedRecipes("recipe-damaged", 130, [RECIPE], YAML, [yaml_damage]),
    MadeTexts("recipe-made", 60, functools.cache(recipes), _made),
    MadeTexts("set", 50, functools.cache(settings), _set),
    MadeTexts("value", 30, functools.cache(values), _value),
]
