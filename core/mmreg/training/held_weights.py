"""The weights that a run's folder holds while it is trained: of frozen encoders, of the best epoch, of some epochs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmreg import runs
from mmreg.errors import RunError
from mmreg.messages import listed
from mmreg.model.model import MultimodalModel
from mmreg.recipe.resolve import Plan
from mmreg.training.checkpoint import BEST_WEIGHTS, FROZEN_WEIGHTS
from mmreg.training.loop import Trainer
from mmreg.training.progress import Progress
from mmreg.training.soup import Soup, epoch_weights, greedy_soup


class HeldWeights:
    """What a run's folder holds of weights beside the states of a training.

    Args:
        folder: the run's.
        plan: its plan.
        note: told what a person should know.

    Attributes:
        best: the checksum of the best weights that the state gone on with speaks of; "" where there are none.
    """

    def __init__(self, folder: Path, plan: Plan, note: Callable[[str], None]) -> None:
        self._folder, self._plan, self._note = folder, plan, note
        self._keep = plan.recipe.form.training.keep
        self.best = ""

    def keep_frozen(self, model: MultimodalModel) -> None:
        """Write what no state has, if it is not there: a training of an earlier release had it in each."""
        path, frozen = runs.run_file(self._folder, runs.FROZEN), runs.frozen_weights(self._plan, model)
        if frozen and not path.is_file():
            runs.write_weights(path, frozen)

    def loading_all(self, model: MultimodalModel) -> Callable[[dict[str, Any]], None]:
        """What takes the weights of a state over into a model, and those beside it that no state has."""
        path = runs.run_file(self._folder, runs.FROZEN)
        kept = runs.read_weights(path, "train anew with --overwrite") if path.is_file() else {}

        def load(state: dict[str, Any]) -> None:
            if state.get(FROZEN_WEIGHTS, "") not in ("", runs.told_checksum(path)):
                raise RunError(f"{path} is {'of another training' if path.is_file() else 'gone'}")
            weights = {**kept, **state["model"]}  # those of earlier releases had all
            if not weights.keys() >= runs.frozen_weights(self._plan, model).keys():
                raise RunError(f"{path} is gone")
            runs.load_kept_weights(self._plan, model, weights)

        return load

    def find_best(self, progress: Progress, state: Mapping[str, Any]) -> None:
        """Have the best weights that a state speaks of in their place: the last ones, or those before."""
        self.best = str(state.get(BEST_WEIGHTS) or "")
        if progress.best is None or self._keep != "best":
            return
        best, earlier = (runs.run_file(self._folder, name) for name in (runs.BEST, runs.EARLIER_BEST))
        if self.best and runs.told_checksum(best) != self.best and runs.told_checksum(earlier) == self.best:
            earlier.replace(best)
        if not best.is_file() or (self.best and runs.told_checksum(best) not in ("", self.best)):
            there = "is gone" if not best.is_file() else f"is not of epoch {progress.best[1]}"
            if progress.finished and runs.has_ended(self._folder):
                raise RunError(
                    f"{best} {there}, and there is nothing left to train; the run has its weights in "
                    f"{runs.WEIGHTS}, which stay as they are"
                )
            self._note(f"{best} {there}: the best weights are those of the epochs from here on")
            progress.best = None
            return
        runs.read_weights(best, f"remove it to go on without the weights of epoch {progress.best[1]}")

    def settle(self, model: MultimodalModel, trainer: Trainer, has_best: bool) -> Soup | None:
        """Give a trained model the weights that the recipe keeps; the soup, if it is one.

        Args:
            model: which.
            trainer: what trained it.
            has_best: whether it has better weights than those that were held as the best.
        """
        if self._keep == "soup":
            return self._soup(trainer)
        if self._keep == "best" and trainer.progress.best is not None and not has_best:
            runs.load_kept_weights(self._plan, model, runs.read_weights(runs.run_file(self._folder, runs.BEST)))
        return None

    def _soup(self, trainer: Trainer) -> Soup | None:
        """Give the model the mean of the weights of the best epochs; None where there are none of them."""
        best, history = trainer.best_epochs(trainer.progress.history), trainer.progress.history
        trained = runs.trained_weights(self._plan, trainer.model)
        ingredients: list[tuple[int, Mapping[str, Tensor]]] = []
        for number in best:
            if trainer.within_epoch and number == history[-1].number:  # which is kept nowhere else
                ingredients.append((number, copy.deepcopy(trained)))
                continue
            try:
                weights = runs.read_weights(runs.run_file(self._folder, epoch_weights(number)))
            except RunError as error:
                self._note(f"left out of the soup: {error}")
                continue
            # Earlier releases kept those of frozen encoders too.
            ingredients.append((number, {name: weights[name] for name in weights if name in trained}))
        if not ingredients:
            return None
        values = {each.number: each.get("validation", trainer.metric) for each in history}
        value = values[ingredients[0][0]]
        assert value is not None
        better = trainer.measures.more_is_better(trainer.metric)
        soup = greedy_soup(ingredients, value, trainer.measured, more_is_better=better)
        runs.load_kept_weights(self._plan, trainer.model, soup.state)
        plain = listed(list(map(str, soup.epochs)))
        self._note(
            f"the weights are the mean of those of the epochs {plain}"
            if len(soup.epochs) > 1
            else f"the weights are those of epoch {plain}: no other epoch's made them better"
        )
        return soup
