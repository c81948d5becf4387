"""What within a modality counts: words, columns, numbers, or regions of a picture or a sound.

Axes: B versions of one row, P parts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg import Run, Signal, Spec
from mmreg.errors import OptionError, ValueLoadError
from mmreg.messages import listed, near
from mmreg_explain import captum_methods, parts
from mmreg_explain.answer import Answer, answer_of
from mmreg_explain.choosing import chosen_rows

logger = logging.getLogger("mmreg")

Method = Literal["integrated_gradients", "occlusion"]


@dataclass(frozen=True)
class Attribution:
    """What counts within one modality of one row.

    Attributes:
        modality: its name.
        key_name: what the rows' key is called.
        key: the row's.
        output: the class, label or number that is explained.
        value: what the model predicts.
        base: what it predicts with zeros (for words and columns, nothing at all) in the modality's place.
        kind: what the parts are: words, columns, numbers or regions.
        method: how it was found.
        names: (P) the parts in their order.
        shares: (P,) what each adds. Those of integrated gradients add up to `value` less `base`, but for the error of
            the numerical integration; those of occlusion need not, as parts may do the same or need each other.
        array: of a signal, each number's share in the signal's shape; None for words and columns.
    """

    modality: str
    key_name: str
    key: Any
    output: str
    value: float
    base: float
    kind: str
    method: Method
    names: Sequence[str]
    shares: NDArray[np.float64]
    array: NDArray[np.float64] | None = field(default=None, repr=False)

    def to_data(self) -> dict[str, Any]:
        """It as plain data, without `array`."""
        named = [{"part": name, "share": share} for name, share in zip(self.names, self.shares.tolist(), strict=True)]
        return {
            "modality": self.modality,
            self.key_name: self.key,
            "output": self.output,
            "value": self.value,
            "base": self.base,
            "kind": self.kind,
            "method": self.method,
            "parts": named,
        }


def explain_within(
    run: Run,
    table: Any,
    modality: str,
    *,
    rows: Iterable[int] | None = None,
    method: Method | None = None,
    of: str | None = None,
    target: str | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> list[Attribution]:
    """What counts within a modality of each row that has it, all its other modalities staying as they are.

    Words of a text are removed, and cells of a modality of several columns emptied, one at a time (occlusion). Of a
    signal of numbers, such as a picture, a spectrogram or a vector, integrated gradients go from zeros to the values as
    the encoder takes them: zeros are the mean of the training rows where the modality normalises, else black or
    silence. Occlusion puts zeros in the place of a region.

    Args:
        run: as `mmreg.load` gives it.
        table: rows, as `Run.predict` takes them.
        modality: its name in the recipe.
        rows: the numbers of those that are explained, from 1; None for all.
        method: "integrated_gradients" or "occlusion"; None for what suits it.
        of: what is explained; see `mmreg_explain.explain`.
        target: which of several targets.
        progress: told of rows: how many are done, their number, and what is done.

    Raises:
        OptionError: there is no such modality, or the method does not fit it.
        MissingPackageError: Captum is not installed.
    """
    if modality not in run.inputs:
        raise OptionError(
            f"the run has no modality {modality!r}{near(modality, run.inputs)}; it has {listed(run.inputs)}"
        )
    if method not in (None, *get_args(Method)):
        raise OptionError(f"method: there is no {method!r}; there are {listed(get_args(Method))}")
    captum_methods.require_captum()
    answer = answer_of(run.task, of, target)
    given = run.prepare(chosen_rows(run, table, rows), progress=progress)
    key_name, keys = given.keys()
    inputs = run.inputs[modality]
    found: list[tuple[int, Attribution]] = []
    for done, row in enumerate(run.row_inputs(given, 1)):
        if all(row.present[name][0] for name in inputs):
            place = int(row.index[0])
            one = _Row(run, row, answer, inputs, modality, given.value(inputs[0], place), method)
            found.append((place, one.explain((key_name, keys[place]))))
        if progress is not None:
            progress(done + 1, len(given), f"explaining {modality}")
    if 0 < len(found) < len(given):
        logger.warning(
            "note: %d of %d rows lack %s, and are not explained", len(given) - len(found), len(given), modality
        )
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


class _Row:
    """One row and what is asked of it."""

    def __init__(
        self,
        run: Run,
        row: Any,
        answer: Answer,
        inputs: Sequence[str],
        modality: str,
        value: Any,
        method: Method | None,
    ) -> None:
        self.run, self.row, self.answer = run, row, answer
        self.inputs, self.modality, self.value, self.method = inputs, modality, value, method
        whole = row.scores()
        self.chosen, (self.output,) = answer.choose(whole)
        self.whole = float(answer.worth(whole, self.chosen)[0])

    def explain(self, key: tuple[str, Any]) -> Attribution:
        """What counts within it."""
        if any(name in self.row.several for name in self.inputs):
            raise OptionError(
                f"the modality {self.modality!r} has any number of values a row (many), which are not taken apart; "
                "explain it without --within, or another modality"
            )
        if isinstance(self.value, dict) and self.run.modalities[self.inputs[0]].multiple_columns:
            return self._left_out(key, "columns", parts.columns(self.value))
        if isinstance(self.value, str):
            return self._left_out(key, "words", parts.words(self.value))
        return self._signal(key)

    def _left_out(self, key: tuple[str, Any], kind: str, versions: Sequence[tuple[str, Any]]) -> Attribution:
        """By what the prediction changes when one part of the value is left out."""
        if self.method == "integrated_gradients":
            raise OptionError(
                f"{kind} of {self.modality!r} are there or not, so there is no gradient to integrate; use method "
                "occlusion"
            )
        base = float(self.answer.worth(self.row.scores(absent=self.inputs), self.chosen)[0])
        names, values = [name for name, _ in versions], [value for _, value in versions]

        def ask(kept: Tensor) -> Tensor:
            answers = []
            for line in kept:
                lost = (line == 0).nonzero()[:, 0].tolist()
                answers.append(self._without(values[lost[0]]) if lost else self.whole)
            return torch.tensor(answers, dtype=torch.float64)

        shares = captum_methods.left_out(ask, len(names)).double().numpy() if names else np.zeros(0)
        return self._attribution(key, base, kind, "occlusion", names, shares)

    def _without(self, value: Any) -> float:
        """The prediction with another value; with none at all where nothing is left of it."""
        empty = not value or (isinstance(value, dict) and all(cell is None for cell in value.values()))
        try:
            changed = {} if empty else {name: self.row.loaded(name, [value]) for name in self.inputs}
        except ValueLoadError:
            empty, changed = True, {}
        scores = self.row.scores(absent=self.inputs if empty else (), changed=changed)
        return float(self.answer.worth(scores, self.chosen)[0])

    def _signal(self, key: tuple[str, Any]) -> Attribution:
        """What each region of a signal adds."""
        name, spec = self.inputs[0], self.run.modalities[self.inputs[0]].spec
        if len(self.inputs) > 1:
            raise OptionError(
                f"the modality {self.modality!r} is an input of {len(self.inputs)} fused runs, each of which sees it "
                "in its own way; explain it within each of them"
            )
        if not isinstance(spec, Spec) or not spec.dtype.startswith("float"):
            raise OptionError(
                f"the modality {self.modality!r} gives {spec}, which has no numbers that could become zeros; only "
                "texts, columns, and signals of plain numbers are taken apart"
            )
        signal = self.row.signals[name]
        divided = parts.regions(spec, signal)
        zeros = self._asked(torch.zeros_like(signal.values), signal)
        base = float(self.answer.worth(zeros, self.chosen)[0])
        method = self.method or "integrated_gradients"
        if method == "occlusion":

            def ask(values: Tensor) -> Tensor:
                scores = self._asked(values, signal)
                return torch.from_numpy(self.answer.worth(scores, self.chosen.repeat(len(values))))

            each = captum_methods.occluded(ask, signal.values, divided.mask)[0].cpu().double().numpy()
            _, first = np.unique(divided.mask.cpu().numpy(), return_index=True)
            shares = each.reshape(-1)[first]
        else:
            slope = lambda values: self.answer.slope(self._asked(values, signal), self.chosen.repeat(len(values)))  # noqa: E731
            each = captum_methods.integrated_gradients(slope, signal.values)[0].cpu().double().numpy()
            each = each * self._unit(zeros)
            shares = np.bincount(divided.mask.cpu().numpy().reshape(-1), each.reshape(-1), len(divided.names))
        kind = "numbers" if spec.axes == "C" else "regions"
        return self._attribution(key, base, kind, method, divided.names, shares, each)

    def _asked(self, values: Tensor, signal: Signal) -> Tensor:
        """The scores (B, K) with these values (B, ...) in the signal's place."""
        count = len(values)
        lengths, host = (None if each is None else each.repeat(count) for each in (signal.lengths, signal.host_lengths))
        row = self.row if count == 1 else self.row.repeated(count)
        scores: Tensor = row.scores(changed={self.inputs[0]: Signal(values, lengths, host)})
        return scores

    def _unit(self, zeros: Tensor) -> float:
        """What one of the model's own units is in those of the answer, between zeros and the row."""
        scores = torch.cat([zeros, self.row.scores()])
        own = self.answer.slope(scores, self.chosen.repeat(2)).double().cpu().numpy()
        told = self.answer.worth(scores, self.chosen.repeat(2))
        return float((told[1] - told[0]) / (own[1] - own[0])) if abs(own[1] - own[0]) > 1e-12 else 1.0

    def _attribution(
        self,
        key: tuple[str, Any],
        base: float,
        kind: str,
        method: Method,
        names: Sequence[str],
        shares: NDArray[np.float64],
        array: NDArray[np.float64] | None = None,
    ) -> Attribution:
        name, own = key
        told = (self.modality, name, own, self.output, self.whole, base, kind, method)
        return Attribution(*told, names, shares, array)
