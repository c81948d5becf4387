"""A recipe as an estimator of scikit-learn: fit, predict, clone, cross_val_score, pickle."""

from __future__ import annotations

import copy
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, _num_samples, check_is_fitted, validate_data

import mmreg
from mmreg.errors import DataError, RecipeError, TargetError
from mmreg.messages import one_line, plural
from mmreg_sklearn.rows import as_table, columns_of

TARGET, WEIGHT = "target", "sample_weight"
"""The columns of y and of the weights, where a recipe names none."""
FEWEST = 50
"""Rows below which none is set aside for validation by itself."""
VALIDATION = 0.1
"""The share of rows that is, where the recipe says nothing."""


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What the estimators share; their arguments are told with `MultimodalClassifier`."""

    def __init__(
        self,
        recipe: Mapping[str, Any] | str | Path | None = None,
        *,
        folder: str | Path | None = None,
        device: str | None = None,
        random_state: int | None = None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.device = device
        self.random_state = random_state

    def _fit(self, data: Any, targets: Sequence[Any], weights: Any, task: str) -> Self:
        """Train on rows and what they are to give."""
        further: dict[str, Sequence[Any]] = {TARGET: targets}
        target: dict[str, Any] = {"column": TARGET, "task": task}
        if weights is not None:
            further[WEIGHT] = np.asarray(weights, np.float64).tolist()
            target["weight"] = WEIGHT
        keys, given_in = self._keys(data)
        given = keys.pop("target", None)
        if isinstance(given, Mapping):
            target = {**given, **target}
        training = dict(keys.pop("training", None) or {})
        if self.random_state is not None:
            training["seed"] = _seed(self.random_state)
        split = {"validation": VALIDATION if len(targets) >= FEWEST else 0.0, "test": 0.0}
        keys = {"split": split, **keys, "target": target, "training": training, "table": as_table(data, further)}
        folder = _folder_of(self) if self.folder is None else Path(self.folder)
        recipe = mmreg.Recipe(keys, folder=given_in)
        self.run_ = mmreg.train(recipe, folder, overwrite=True, device=self.device, callback=mmreg.Callback())
        return self

    def _keys(self, data: Any) -> tuple[dict[str, Any], Path | None]:
        """The recipe's keys, as far as they are given, and the folder that its paths are relative to."""
        if self.recipe is None:
            features = {"type": "tabular", "columns": columns_of(data.shape[1])}
            return {"modalities": {"features": features}, "training": {"epochs": 60, "batch_size": 32}}, None
        if isinstance(self.recipe, Mapping):
            return copy.deepcopy(dict(self.recipe)), None
        path = Path(self.recipe)
        try:
            keys = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeError, yaml.YAMLError) as error:
            raise RecipeError(f"the recipe {str(path)!r} cannot be read: {one_line(error)}") from error
        if not isinstance(keys, dict):
            raise RecipeError(f"{str(path)!r} is no recipe: it holds no keys")
        return keys, path.parent

    def _inputs(self, data: Any, targets: Any, weights: Any, **options: Any) -> tuple[Any, NDArray[Any], Any]:
        """X, y and weights that go together."""
        if targets is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        if self.recipe is None:
            with _told():
                data, targets = validate_data(self, data, targets, dtype=np.float64, ensure_min_samples=2, **options)
        targets = column_or_1d(targets, warn=True)
        check_consistent_length(data, targets)
        if weights is not None:
            weights = _check_sample_weight(weights, targets, dtype=np.float64, ensure_non_negative=True)
            counts = np.flatnonzero(weights)  # a row that weighs nothing is none
            if len(counts) < len(weights):
                data, targets, weights = (_safe_indexing(each, counts) for each in (data, targets, weights))
        return data, targets, weights

    def _checked(self, data: Any, **options: Any) -> Any:
        """Arrays as scikit-learn wants them checked; tables as they are, as mmreg itself says what is wrong there."""
        if self.recipe is None:
            with _told():
                return validate_data(self, data, dtype=np.float64, **options)
        return data

    def _predicted(self, data: Any) -> dict[str, list[Any]]:
        """What the run predicts for rows, by column."""
        check_is_fitted(self, "run_")
        data = self._checked(data, reset=False)
        columns: dict[str, list[Any]] = self.run_.predict_columns(as_table(data, {}))
        found, wanted = len(next(iter(columns.values()))), _num_samples(data)
        if found != wanted:
            rows = f"{wanted - found} of {plural(wanted, 'row has', 'rows have')}"
            raise DataError(f"{rows} a value that cannot be read; look at on_bad")
        return columns

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "run_" in state:
            folder = state.pop("run_").folder
            state["_files"] = {
                str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            folder = _folder_of(self)
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            self.run_ = mmreg.load(folder, self.device)


class MultimodalClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A classifier of rows of pictures, texts, sounds and numbers.

    Args:
        recipe: a recipe's keys as a dict, or the path of a YAML file, with or without `table` and `target`, which
            X and y take the place of. None for arrays of numbers: a `tabular` modality of all columns.
        folder: where the run is written to, replacing one that is there; None for a temporary folder that lives as
            long as the estimator.
        device: where to compute; the best one there is if it is not given.
        random_state: the seed; the recipe's if it is not given.

    Attributes:
        run_: the trained run; `run_.folder` holds all of it.
        classes_: (K,) the classes.

    Example:
        >>> from mmreg_sklearn import MultimodalClassifier
        >>> model = MultimodalClassifier({"modalities": {"name": {"type": "text"}}, "training": {"epochs": 1}})
        >>> rows, kinds = [{"name": "red"}, {"name": "blue"}] * 8, ["warm", "cold"] * 8
        >>> model.fit(rows, kinds).predict(rows).shape
        (16,)
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Args:
            X: (R, D) an array, a data frame, or a list of dicts, with the columns that the recipe names.
            y: (R,) the classes.
            sample_weight: (R,) weights of the rows' losses.
        """
        X, y, sample_weight = self._inputs(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise TargetError(f"y has 1 class, {self.classes_[0]!r}; a classifier needs two classes or more")
        names = _names(self.classes_)
        return self._fit(X, [names[code] for code in codes], sample_weight, "classification")

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(R, K) the probability of each class."""
        columns = self._predicted(X)
        none = [0.0] * len(columns["label"])  # of a class whose rows were all set aside
        return np.asarray([columns.get(f"probability_{name}", none) for name in _names(self.classes_)], np.float64).T

    def predict(self, X: Any) -> NDArray[Any]:
        """(R,) the most probable class of each row."""
        check_is_fitted(self, "run_")
        return self.classes_[self.predict_proba(X).argmax(1)]  # type: ignore[no-any-return]


class MultimodalRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A regressor of rows of pictures, texts, sounds and numbers.

    Args:
        recipe: as for `MultimodalClassifier`.
        folder: likewise.
        device: likewise.
        random_state: likewise.

    Attributes:
        run_: the trained run; `run_.folder` holds all of it.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Args:
            X: (R, D) an array, a data frame, or a list of dicts, with the columns that the recipe names.
            y: (R,) numbers.
            sample_weight: (R,) weights of the rows' losses.
        """
        X, y, sample_weight = self._inputs(X, y, sample_weight, y_numeric=True)
        return self._fit(X, np.asarray(y, np.float64).tolist(), sample_weight, "regression")

    def predict(self, X: Any) -> NDArray[np.float64]:
        """(R,) what is predicted for each row."""
        return np.asarray(self._predicted(X)["value"], np.float64)


def _folder_of(estimator: _Estimator) -> Path:
    """A temporary folder for a run, which goes with the estimator."""
    folder = tempfile.mkdtemp(prefix="mmreg-")
    weakref.finalize(estimator, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder) / "run"


@contextmanager
def _told() -> Iterator[None]:
    """Let scikit-learn check an array of numbers; what is none is told what it takes."""
    try:
        yield
    except ValueError as error:
        if "could not convert" in str(error):
            raise RecipeError(
                f"without a recipe X has to be numbers ({error}); say which columns are pictures, texts, sounds or "
                "numbers by recipe={'modalities': {...}}, or give the path of a recipe that mmreg init wrote"
            ) from error
        raise


def _names(classes: NDArray[Any]) -> list[str | int]:
    """What the run calls classes: texts and whole numbers as they are."""
    values = classes.tolist()
    return [each if isinstance(each, str | int) and not isinstance(each, bool) else str(each) for each in values]


def _seed(state: Any) -> int:
    """A seed of what scikit-learn calls a random state."""
    return int(state) if isinstance(state, int | np.integer) else int(check_random_state(state).randint(2**31 - 1))
