"""Checks of modalities: loading, fitting, state, and transforming batches.

Axes: B batch, T the ragged axis.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmreg.contract.interfaces import Modality
from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec, Specs, by_name, specs_text
from mmreg.data.prepared import Prepared
from mmreg.errors import MmregError, ValueLoadError
from mmreg.registry.options import describe_options
from mmreg.testing.cases import Outcome, expect_same
from mmreg.testing.subject import Subject, check, expect, json_text
from mmreg.testing.values import hostile_values, new, values_of

TOLERANCE = 1e-5
"""How far a row's values may be apart alone and in a batch, relative to the greatest (at least 1)."""

Arrays = list[Any]
"""What `load` gave for some values: an array each, or a dict of named arrays each."""


def fitted(subject: Subject, values: Sequence[Any]) -> tuple[Modality, Arrays]:
    """A modality fitted on raw values, and what it made of them."""
    modality = new(subject)
    modality.fit_values(iter(values))
    arrays = []
    for value in values:
        try:
            arrays.append(modality.load(value))
        except MmregError as error:
            raise AssertionError(f"{_short(value)}, which was given for it, cannot be loaded: {error}") from error
    modality.fit_arrays(iter(copy.deepcopy(arrays)))
    return modality, arrays


def gathered(modality: Modality, arrays: Sequence[Any]) -> Signal[Any]:
    """Stored arrays as a batch, gathered as training does it."""
    stored = modality.stored
    values, offsets = {}, None
    for name, spec in by_name(stored).items():
        column = [_by_name(array)[name] for array in arrays]
        if spec.ragged_axis is not None:
            offsets = np.cumsum([0, *map(len, column)]).astype(np.int64)
        values[name] = np.stack(column) if spec.ragged_axis is None else np.concatenate(column)
    index = np.arange(len(arrays))
    whole = values[""] if isinstance(stored, Spec) else values
    return Prepared(name="it", stored=stored, values=whole, offsets=offsets, index=index).gather(index)


def _by_name(values: Any) -> Mapping[str, Any]:
    """Arrays or tensors by name; one alone under the empty name."""
    return values if isinstance(values, Mapping) else {"": values}


def outcome(signal: Signal[Any]) -> Outcome:
    """A signal as what checks compare."""
    rows = {f"values of {name!r}" if name else "values": tensor for name, tensor in _by_name(signal.values).items()}
    return Outcome(rows if signal.lengths is None else {**rows, "lengths": signal.lengths})


@check
def check_declarations(subject: Subject) -> None:
    """Version, file endings, options of `transform` and default encoder are of the right form."""
    cls = subject.cls
    version_fits = isinstance(cls.version, int) and not isinstance(cls.version, bool) and cls.version >= 1
    expect(version_fits, f"version should be a whole number from 1 on, found {cls.version!r}")
    options = {option["name"] for option in describe_options(cls)}
    unknown = sorted(set(cls.transform_options) - options)
    expect(not unknown, f"transform_options names {', '.join(unknown)}, which are no options of it")
    bad = [ending for ending in cls.extensions if not ending.startswith(".") or ending != ending.lower()]
    expect(not bad, f"extensions should be lower-case endings with a dot such as '.png', found {', '.join(bad)}")
    default = cls.default_encoder
    expect(default is None or isinstance(default, str), f"default_encoder should be a name or None, found {default!r}")


@check
def check_load(subject: Subject) -> None:
    """A value is loaded as the same array every time, in any thread, as `stored` describes it, and left as it was."""
    values = values_of(subject)
    modality, arrays = fitted(subject, values)
    for value, array in zip(values, arrays, strict=True):
        _expect_stored(modality.stored, array)
        before = copy.deepcopy(value)
        again = modality.load(value)
        expect(_equal(again, array), f"{_short(value)} should be loaded as the same array every time")
        expect(_equal(before, value), f"loading {_short(before)} changed it")
    with ThreadPoolExecutor(4) as pool:
        for array, other in zip(arrays * 4, pool.map(modality.load, values * 4), strict=True):
            expect(_equal(array, other), "loading in four threads at once should give the same arrays")


def _expect_stored(stored: Specs, loaded: Any) -> None:
    arrays, specs, lengths = _by_name(loaded), by_name(stored), set()
    expect(arrays.keys() == specs.keys(), f"load should give {specs_text(stored)}, found {_short(loaded)}")
    for name, spec in specs.items():
        array, what = arrays[name], f"load should give {name}: " if name else "load should give "
        expect(isinstance(array, np.ndarray), f"{what}a NumPy array, found {type(array).__name__}")
        expect(array.dtype == np.dtype(spec.dtype), f"{what}{spec.dtype}, found {array.dtype}")
        fits = array.ndim == len(spec.shape) and all(
            size in (None, found) for size, found in zip(spec.shape, array.shape, strict=True)
        )
        expect(fits, f"{what}{spec}, found the shape {array.shape}")
        expect(spec.ragged_axis in (None, 0), f"only the first axis of `stored` may vary, found {spec}")
        lengths |= {len(array)} if spec.ragged_axis == 0 else set()
    expect(len(lengths) < 2, f"ragged arrays of one value should be of one length, found {sorted(lengths)}")


@check
def check_bad_values(subject: Subject) -> None:
    """A value that cannot be loaded raises a `ValueLoadError` that says why, and nothing else; it ends no process."""
    modality, _ = fitted(subject, values_of(subject))
    with tempfile.TemporaryDirectory() as folder:
        tried = [(what, value, False) for what, value in hostile_values(Path(folder)).items()]
        tried += [(_short(value), value, True) for value in subject.bad_values]
        for what, value, must_refuse in tried:
            try:
                loaded = modality.load(value)
            except ValueLoadError as error:
                expect(str(error).strip(), f"the error about {what} should say why it cannot be loaded")
                continue
            except Exception as error:
                raise AssertionError(
                    f"{what} should be loaded or refused with a ValueLoadError, found {type(error).__name__}: {error}"
                ) from error
            expect(not must_refuse, f"{what} should be refused with a ValueLoadError, but it was loaded")
            _expect_stored(modality.stored, loaded)
            finite = all(np.isfinite(array).all() for array in _by_name(loaded).values() if array.dtype.kind == "f")
            expect(finite, f"{what} was loaded as numbers that are not finite; refuse it")


@check
def check_fits_see_training_rows_only(subject: Subject) -> None:
    """What it learns depends on the rows it was fitted on alone: loading or transforming others changes nothing."""
    values = values_of(subject)
    train = values[: len(values) // 2]
    alone, arrays = fitted(subject, train)
    modality = new(subject)
    modality.fit_values(iter(train))
    loaded = [modality.load(value) for value in values]  # all rows are loaded before the arrays are fitted
    modality.fit_arrays(iter(loaded[: len(train)]))
    state = json_text(modality.state())
    expect(state == json_text(alone.state()), "loading other rows changed what was learned from the training rows")
    for training in (False, True):
        modality.transform(gathered(modality, loaded), training=training, generator=torch.Generator().manual_seed(0))
    expect(json_text(modality.state()) == state, "transforming other rows changed its state")
    alone.transform(gathered(alone, arrays), training=False)
    found, expected = _rows(modality, loaded), _rows(alone, loaded)
    expect_same(found, expected, "after other rows were seen, a batch")


@check
def check_modality_state(subject: Subject) -> None:
    """Its state is plain JSON data from which a new one is rebuilt that loads and transforms the same."""
    values = values_of(subject)
    modality, arrays = fitted(subject, values)
    text = json_text(modality.state())
    rebuilt = new(subject)
    rebuilt.load_state(json.loads(text))
    expect(json_text(rebuilt.state()) == text, "the state of one that loaded a state should be that state")
    json_text(modality.load_state_key())
    for name in ("stored", "spec"):
        ours, theirs = getattr(modality, name), getattr(rebuilt, name)
        expect(ours == theirs, f"{name} should be {ours} after a state was loaded, found {theirs}")
    for value, array in zip(values, arrays, strict=True):
        expect(_equal(rebuilt.load(value), array), f"{_short(value)} is loaded otherwise after a state was loaded")
    expect_same(_rows(rebuilt, arrays), _rows(modality, arrays), "after a state was loaded, a batch")
    expect_same(_rows(rebuilt, arrays, True), _rows(modality, arrays, True), "after a state was loaded, in training")


@check
def check_same_fit_same_state(subject: Subject) -> None:
    """Built and fitted twice on the same rows it has the same state."""
    values = values_of(subject)
    (first, ours), (second, theirs) = fitted(subject, values), fitted(subject, values)
    expect(json_text(first.state()) == json_text(second.state()), "the state differs between two fits on the same rows")
    expect(all(map(_equal, ours, theirs)), "the arrays differ between two fits on the same rows")


@check
def check_absent_values(subject: Subject) -> None:
    """A column without training values is fitted, or refused with an error of mmreg's; a batch of one row will do."""
    modality = new(subject)
    try:
        modality.fit_values(iter(()))
        modality.fit_arrays(iter(()))
        json_text(modality.state())
        expect(isinstance(modality.spec, Spec | Mapping), f"spec should be a Spec, found {modality.spec!r}")
    except MmregError:
        pass
    modality, arrays = fitted(subject, values_of(subject))
    signal = modality.transform(gathered(modality, arrays[:1]), training=False)
    _expect_promised(modality.spec, signal, 1)


@check
def check_transform_rows(subject: Subject) -> None:
    """A row is transformed to the same alone and in a batch, whatever padding it gets there."""
    modality, arrays = fitted(subject, values_of(subject))
    together = modality.transform(gathered(modality, arrays), training=False)
    for row, array in enumerate(arrays):
        alone = modality.transform(gathered(modality, [array]), training=False)
        found, expected = _valid(alone, 0, modality.spec), _valid(together, row, modality.spec)
        expect_same(Outcome(found), Outcome(expected), "a row alone and in a batch", TOLERANCE)


@check
def check_transform_randomness(subject: Subject) -> None:
    """In training all random draws come from the given generator; otherwise there are none."""
    modality, arrays = fitted(subject, values_of(subject))
    before = torch.random.get_rng_state()
    first = _rows(modality, arrays, True)
    expect(torch.equal(before, torch.random.get_rng_state()), "transform drew from torch's global random state")
    torch.manual_seed(123)
    np.random.seed(5)  # what a component must not draw from
    expect_same(_rows(modality, arrays, True), first, "in training, with the same generator again")
    expect_same(_rows(modality, arrays), _rows(modality, arrays), "in evaluation, again")


@check
def check_promised_spec(subject: Subject) -> None:
    """What `transform` gives is what `spec` promises, in training and in evaluation: axes, sizes, dtype, vocabulary."""
    modality, arrays = fitted(subject, values_of(subject))
    for training in (False, True):
        generator = torch.Generator().manual_seed(0) if training else None
        signal = modality.transform(gathered(modality, arrays), training=training, generator=generator)
        _expect_promised(modality.spec, signal, len(arrays))


def _expect_promised(promised: Specs, signal: Signal[Any], rows: int) -> None:
    expect(isinstance(promised, Spec | Mapping), f"spec should be a Spec, or several by name, found {promised!r}")
    tensors, specs = _by_name(signal.values), by_name(promised)
    expect(tensors.keys() == specs.keys(), f"it promises {specs_text(promised)}, but gives {_short(signal.values)}")
    for name, spec in specs.items():
        _expect_values(spec, tensors[name], rows)
    ragged = {name: spec.ragged_axis for name, spec in specs.items() if spec.ragged_axis is not None}
    lengths, host = signal.lengths, signal.host_lengths
    if not ragged:
        expect(lengths is None, f"it promises {specs_text(promised)}, in which nothing varies, but gives lengths")
        return
    expect(lengths is not None, f"it promises {specs_text(promised)}, but gives no lengths of the axis that varies")
    assert lengths is not None
    size = min(tensors[name].shape[axis + 1] for name, axis in ragged.items())
    expect(lengths.shape == (rows,) and lengths.dtype == torch.int64, f"lengths should be ({rows},) int64")
    inside = bool((lengths >= 1).all() and (lengths <= size).all())
    expect(inside, f"lengths should be from 1 to {size}, found {lengths.tolist()}")
    same = host is None or torch.equal(host, lengths.cpu())
    expect(same, "host_lengths should be the same numbers as lengths; use Signal.replace")


def _expect_values(spec: Spec, values: Tensor, rows: int) -> None:
    expect(str(values.dtype) == f"torch.{spec.dtype}", f"it promises {spec}, but gives {values.dtype}")
    fits = values.dim() == len(spec.shape) + 1 and all(
        size in (None, found) for size, found in zip((rows, *spec.shape), values.shape, strict=True)
    )
    expect(fits, f"it promises {spec}, but gives {tuple(values.shape)} for {rows} rows")
    if values.is_floating_point():
        expect(values.isfinite().all(), "it gives numbers that are not finite")
    if spec.vocabulary_size is not None:
        low, high = int(values.min()), int(values.max())
        expect(
            low >= 0 and high < spec.vocabulary_size,
            f"it promises tokens below {spec.vocabulary_size}, but gives {low} to {high}",
        )


def _rows(modality: Modality, arrays: Sequence[Any], training: bool = False) -> Outcome:
    """Transformed arrays, and their lengths."""
    generator = torch.Generator().manual_seed(0) if training else None
    return outcome(modality.transform(gathered(modality, arrays), training=training, generator=generator))


def _valid(signal: Signal[Any], row: int, specs: Specs) -> dict[str, Tensor]:
    """One row's values without its padding."""
    found = {}
    for name, spec in by_name(specs).items():
        values: Tensor = _by_name(signal.values)[name][row]
        if spec.ragged_axis is not None and signal.lengths is not None:
            values = values.narrow(spec.ragged_axis, 0, int(signal.lengths[row]))
        found[f"values of {name!r}" if name else "values"] = values
    return found


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    return bool(left == right)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
