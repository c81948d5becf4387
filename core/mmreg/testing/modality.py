"""Checks of modalities: loading, fitting, state, and transforming batches.

Axes: B batch, T the ragged axis.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
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
from mmreg.messages import shown
from mmreg.registry.options import describe_options
from mmreg.testing.devices import expect_to_move
from mmreg.testing.expectations import (
    TOLERANCE,
    Tensors,
    expect,
    expect_finite,
    expect_refused,
    expect_same,
    fits,
    json_text,
)
from mmreg.testing.registration import check
from mmreg.testing.subject import Subject
from mmreg.testing.values import hostile_values, values_of

Arrays = list[Any]
"""What `load` gave for some values: an array each, or a dict of named arrays each."""


def fitted(subject: Subject, values: Sequence[Any] = ()) -> tuple[Modality, Arrays]:
    """A modality fitted on raw values (none: those to test it with), and what it made of them."""
    values = values or values_of(subject)
    modality = subject.new()
    modality.fit_values(iter(values))
    arrays = []
    for value in values:
        try:
            arrays.append(modality.load(value))
        except MmregError as error:
            raise AssertionError(f"{shown(value)}, which was given for it, cannot be loaded: {error}") from error
    modality.fit_arrays(iter(copy.deepcopy(arrays)))
    return modality, arrays


def transformed(modality: Modality, arrays: Sequence[Any], training: bool = False, device: str = "cpu") -> Signal[Any]:
    """Stored arrays, gathered to a batch as in training, and transformed; in training always with the same draws."""
    stored = modality.stored
    values, offsets = {}, None
    for name, spec in by_name(stored).items():
        column = [_by_name(array)[name] for array in arrays]
        if spec.ragged_axis is not None:
            offsets = np.cumsum([0, *map(len, column)]).astype(np.int64)
        values[name] = np.stack(column) if spec.ragged_axis is None else np.concatenate(column)
    index = np.arange(len(arrays))
    whole = values[""] if isinstance(stored, Spec) else values
    batch = Prepared(name="it", stored=stored, values=whole, offsets=offsets, index=index).gather(index)
    generator = torch.Generator(device).manual_seed(0) if training else None
    return modality.transform(batch.to(device), training=training, generator=generator)


def _by_name(values: Any) -> Mapping[str, Any]:
    """Arrays or tensors by name; one alone under the empty name."""
    return values if isinstance(values, Mapping) else {"": values}


def tensors_of(signal: Signal[Any]) -> Tensors:
    """A signal as what checks compare."""
    return _values(_by_name(signal.values)) | ({} if signal.lengths is None else {"lengths": signal.lengths})


def _values(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"values of {name!r}" if name else "values": tensor for name, tensor in named.items()}


@check("modality")
def check_declarations(subject: Subject) -> None:
    """Version, file endings, options of `transform` and default encoder are of the right form."""
    cls = subject.cls
    version_fits = isinstance(cls.version, int) and not isinstance(cls.version, bool) and cls.version >= 1
    expect(version_fits, f"version should be a whole number from 1 on, found {cls.version!r}")
    options = {option["name"] for option in describe_options(cls)}
    for attribute in ("transform_options", "unaugmented"):
        unknown = sorted(set(getattr(cls, attribute) or ()) - options)
        expect(not unknown, f"{attribute} names {', '.join(unknown)}, which are no options of it")
    bad = [ending for ending in cls.extensions if not ending.startswith(".") or ending != ending.lower()]
    expect(not bad, f"extensions should be lower-case endings with a dot such as '.png', found {', '.join(bad)}")
    default = cls.default_encoder
    expect(default is None or isinstance(default, str), f"default_encoder should be a name or None, found {default!r}")


@check("modality")
def check_load(subject: Subject) -> None:
    """A value is loaded as the same array every time, in any thread, as `stored` describes it, and left as it was."""
    values = values_of(subject)
    modality, arrays = fitted(subject, values)
    for value, array in zip(values, arrays, strict=True):
        _expect_stored(modality.stored, array)
        before = copy.deepcopy(value)
        again = modality.load(value)
        expect(_equal(again, array), f"{shown(value)} should be loaded as the same array every time")
        expect(_equal(before, value), f"loading {shown(before)} changed it")
    with ThreadPoolExecutor(4) as pool:
        for array, other in zip(arrays * 4, pool.map(modality.load, values * 4), strict=True):
            expect(_equal(array, other), "loading in four threads at once should give the same arrays")
    if subject.cls.takes_bytes:
        _expect_same_of_bytes(modality, values, arrays)


def _expect_same_of_bytes(modality: Modality, values: Sequence[Any], arrays: Arrays) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for value, array in zip(values, arrays, strict=True):
            other: Path | bytes = Path(folder, "file")
            if isinstance(value, Path):
                other = value.read_bytes()
            elif isinstance(value, bytes):
                Path(folder, "file").write_bytes(value)
            else:
                continue
            expect(
                _equal(modality.load(other), array),
                f"{shown(value)} should be loaded as the same array from a path and from bytes, as takes_bytes says",
            )


def _expect_stored(stored: Specs, loaded: Any) -> None:
    arrays, specs, lengths = _by_name(loaded), by_name(stored), set()
    expect(arrays.keys() == specs.keys(), f"load should give {specs_text(stored)}, found {shown(loaded)}")
    for name, spec in specs.items():
        array, what = arrays[name], f"load should give {name}: " if name else "load should give "
        expect(isinstance(array, np.ndarray), f"{what}a NumPy array, found {type(array).__name__}")
        expect(array.dtype == np.dtype(spec.dtype), f"{what}{spec.dtype}, found {array.dtype}")
        expect(fits(array.shape, spec.shape), f"{what}{spec}, found the shape {array.shape}")
        expect(spec.ragged_axis in (None, 0), f"only the first axis of `stored` may vary, found {spec}")
        lengths |= {len(array)} if spec.ragged_axis == 0 else set()
    expect(len(lengths) < 2, f"ragged arrays of one value should be of one length, found {sorted(lengths)}")


@check("modality")
def check_bad_values(subject: Subject) -> None:
    """A value that cannot be loaded raises a `ValueLoadError` that says why, and nothing else; it ends no process."""
    modality, _ = fitted(subject)
    with tempfile.TemporaryDirectory() as folder:
        for what, value in hostile_values(Path(folder)).items():
            try:
                loaded = modality.load(value)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                refused = isinstance(error, ValueLoadError) and str(error).strip()
                expect(refused, f"{what} should be loaded or refused with a ValueLoadError that says why, found {why}")
                continue
            _expect_stored(modality.stored, loaded)
            if isinstance(value, dict):  # of an empty one nothing is known
                continue
            finite = all(np.isfinite(array).all() for array in _by_name(loaded).values() if array.dtype.kind == "f")
            expect(finite, f"{what} was loaded as numbers that are not finite; refuse it")
    for value in subject.bad_values:
        expect_refused(partial(modality.load, value), ValueLoadError, shown(value))


@check("modality")
def check_same_fit_same_state(subject: Subject) -> None:
    """Built and fitted twice on the same rows it has the same state."""
    (first, ours), (second, theirs) = fitted(subject), fitted(subject)
    expect(json_text(first.state()) == json_text(second.state()), "the state differs between two fits on the same rows")
    expect(all(map(_equal, ours, theirs)), "the arrays differ between two fits on the same rows")


@check("modality")
def check_fits_see_training_rows_only(subject: Subject) -> None:
    """What it learns depends on the rows it was fitted on alone: loading or transforming others changes nothing."""
    values = values_of(subject)
    train = values[: len(values) // 2]
    alone, arrays = fitted(subject, train)
    modality = subject.new()
    modality.fit_values(iter(train))
    loaded = [modality.load(value) for value in values]  # all rows are loaded before the arrays are fitted
    modality.fit_arrays(iter(loaded[: len(train)]))
    state = json_text(modality.state())
    expect(state == json_text(alone.state()), "loading other rows changed what was learned from the training rows")
    for training in (False, True):
        transformed(modality, loaded, training)
    expect(json_text(modality.state()) == state, "transforming other rows changed its state")
    transformed(alone, arrays)
    _expect_transformed_alike(modality, alone, loaded, "after other rows were seen, a batch")


@check("modality")
def check_modality_state(subject: Subject) -> None:
    """Its state is plain JSON data from which a new one is rebuilt that loads and transforms the same."""
    values = values_of(subject)
    modality, arrays = fitted(subject, values)
    text = json_text(modality.state())
    rebuilt = subject.new()
    rebuilt.load_state(json.loads(text))
    expect(json_text(rebuilt.state()) == text, "the state of one that loaded a state should be that state")
    json_text(modality.load_state_key(), "load_state_key")
    for name in ("stored", "spec"):
        ours, theirs = getattr(modality, name), getattr(rebuilt, name)
        expect(ours == theirs, f"{name} should be {ours} after a state was loaded, found {theirs}")
    for value, array in zip(values, arrays, strict=True):
        expect(_equal(rebuilt.load(value), array), f"{shown(value)} is loaded otherwise after a state was loaded")
    for training in (False, True):
        _expect_transformed_alike(rebuilt, modality, arrays, "after a state was loaded, a batch", training)


@check("modality")
def check_absent_values(subject: Subject) -> None:
    """A column without training values is fitted, or refused with an error of mmreg's; a batch of one row will do."""
    modality = subject.new()
    try:
        modality.fit_values(iter(()))
        modality.fit_arrays(iter(()))
        json_text(modality.state())
        expect(isinstance(modality.spec, Spec | Mapping), f"spec should be a Spec, found {modality.spec!r}")
    except MmregError:
        pass
    modality, arrays = fitted(subject)
    _expect_promised(modality.spec, transformed(modality, arrays[:1]), 1)


@check("modality")
def check_promised_spec(subject: Subject) -> None:
    """What `transform` gives is what `spec` promises, in training and in evaluation: axes, sizes, dtype, vocabulary."""
    modality, arrays = fitted(subject)
    _expect_mixable(modality)
    for training in (False, True):
        _expect_promised(modality.spec, transformed(modality, arrays, training), len(arrays))


def _expect_mixable(modality: Modality) -> None:
    spec, mixes = modality.spec, modality.mixes
    expect(mixes <= {"mixup", "cutmix"}, f"mixes may hold mixup and cutmix, found {', '.join(map(str, mixes))}")
    real = isinstance(spec, Spec) and "float" in spec.dtype
    expect(not mixes or real, f"what can be mixed is one array of real numbers, found {specs_text(spec)}")
    picture = isinstance(spec, Spec) and spec.axes.endswith("HW") and spec.ragged_axis is None
    expect("cutmix" not in mixes or picture, f"cutmix needs pictures (...HW) of one size, found {specs_text(spec)}")


def _expect_promised(promised: Specs, signal: Signal[Any], rows: int) -> None:
    expect(isinstance(promised, Spec | Mapping), f"spec should be a Spec, or several by name, found {promised!r}")
    tensors, specs = _by_name(signal.values), by_name(promised)
    expect(tensors.keys() == specs.keys(), f"it promises {specs_text(promised)}, but gives {shown(signal.values)}")
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
    if host is not None:
        expect_same({"host_lengths": host}, {"host_lengths": lengths.cpu()}, "beside lengths (use Signal.replace)")


def _expect_values(spec: Spec, values: Tensor, rows: int) -> None:
    expect(str(values.dtype) == f"torch.{spec.dtype}", f"it promises {spec}, but gives {values.dtype}")
    shape = tuple(values.shape)
    expect(fits(shape, (rows, *spec.shape)), f"it promises {spec}, but gives {shape} for {rows} rows")
    expect_finite({"what it gives": values}, "whatever it loaded")
    if spec.vocabulary_size is not None and values.numel():
        low, high, count = int(values.min()), int(values.max()), spec.vocabulary_size
        expect(low >= 0 and high < count, f"it promises tokens below {count}, but gives {low} to {high}")


@check("modality")
def check_transform_rows(subject: Subject) -> None:
    """A row is transformed to the same alone and in a batch, whatever padding it gets there."""
    modality, arrays = fitted(subject)
    together = transformed(modality, arrays)
    for row, array in enumerate(arrays):
        found, expected = _row(transformed(modality, [array]), 0, modality), _row(together, row, modality)
        expect_same(found, expected, "a row alone and in a batch", TOLERANCE[torch.float32])


def _row(signal: Signal[Any], row: int, modality: Modality) -> Tensors:
    """One row's values without its padding."""
    found = {}
    for name, spec in by_name(modality.spec).items():
        found[name] = _by_name(signal.values)[name][row]
        if spec.ragged_axis is not None and signal.lengths is not None:
            found[name] = found[name].narrow(spec.ragged_axis, 0, int(signal.lengths[row]))
    return _values(found)


@check("modality")
def check_transform_randomness(subject: Subject) -> None:
    """In training all random draws come from the given generator; otherwise there are none."""
    modality, arrays = fitted(subject)
    before = torch.random.get_rng_state()
    first = transformed(modality, arrays, training=True)
    expect(torch.equal(before, torch.random.get_rng_state()), "transform drew from torch's global random state")
    torch.manual_seed(123)
    np.random.seed(5)  # what a component must not draw from
    again = transformed(modality, arrays, training=True)
    expect_same(tensors_of(again), tensors_of(first), "in training, with the same generator again")
    _expect_transformed_alike(modality, modality, arrays, "in evaluation, again")


@check("modality")
def check_unaugmented(subject: Subject) -> None:
    """With the options that its `unaugmented` names, if it does, `transform` gives in training what it gives in use."""
    plain = subject.cls.unaugmented
    if plain is None:
        return
    modality, arrays = fitted(replace(subject, options={**subject.options, **plain}))
    found, expected = (tensors_of(transformed(modality, arrays, training)) for training in (True, False))
    expect_same(found, expected, f"in training and in use, with the options {shown(dict(plain))}")


@check("modality")
def check_transform_devices(subject: Subject) -> None:
    """On a GPU, where training transforms, a batch stays there and becomes the same; without one, nothing is mixed."""
    modality, arrays = fitted(subject)
    expect_to_move(lambda device: tensors_of(transformed(modality, arrays, device=device)))
    for name, values in tensors_of(transformed(modality, arrays, training=True, device="cuda")).items():
        expect(values.is_cuda, f"in training, {name} should be on the GPU, where the batch is, found {values.device}")


def _expect_transformed_alike(
    ours: Modality, theirs: Modality, arrays: Sequence[Any], what: str, training: bool = False
) -> None:
    """Raise an `AssertionError` unless two modalities transform arrays to the same, bit for bit."""
    found, expected = (tensors_of(transformed(modality, arrays, training)) for modality in (ours, theirs))
    expect_same(found, expected, what)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    return left is right or bool(left == right)  # NaN is not equal to itself
