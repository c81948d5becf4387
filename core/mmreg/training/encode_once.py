"""Which inputs of a training are encoded before it begins, and their features.

Axes: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.data.cache import cache_dir
from mmreg.data.features import FeatureValues
from mmreg.data.prepared import Prepared
from mmreg.messages import byte_size, listed, plural, shown
from mmreg.model.model import MultimodalModel
from mmreg.recipe.assets import digest
from mmreg.recipe.components import InputPlan
from mmreg.recipe.resolve import Plan
from mmreg.runs import Run
from mmreg.training.encoding import FrozenInput, NotEncodedError, Versions
from mmreg.training.given import Copies, Given
from mmreg.training.kept_features import KeptFeatures


def encode_once(
    plan: Plan,
    model: MultimodalModel,
    modalities: Mapping[str, Modality],
    prepared: Mapping[str, Prepared],
    train: NDArray[np.int64],
    device: torch.device,
    dtype: torch.dtype,
    cache: Path | None,
    progress: Callable[[int, int, str], object] | None = None,
    tell: Callable[[str], object] = lambda text: None,
    always: bool = False,
) -> Given:
    """The features of all inputs whose encoders stay as they are and whose modalities do not augment.

    Args:
        plan: the resolved recipe.
        model: on its device, with the weights that its frozen encoders keep.
        modalities: by name, fitted.
        prepared: their values.
        train: numbers of the training rows.
        device: where to compute.
        dtype: the precision of the forward pass.
        cache: the cache folder; None to keep the features in memory.
        progress: told the values done, their number, and what they are.
        tell: told what is encoded once, and what is not although its encoder is frozen.
        always: whether to do so also for a training that sees fewer rows than there are values.

    Raises:
        CacheError: the cache folder cannot be written.
    """
    training = plan.recipe.form.training
    plain: dict[str, FeatureValues] = {}
    copies: dict[str, Copies] = {}
    for name, given in plan.inputs.items():
        if not given.is_frozen or not prepared[name].present.any():
            continue
        report = None
        if progress is not None:
            report = lambda done, total, name=name: progress(done, total, f"features of {name}")  # noqa: E731
        try:
            _expect_unaugmented(plan, given)
            encoder = model.encoder_of(name)
            source = FrozenInput(
                name,
                values_alone(prepared[name]),
                modalities[name],
                encoder,
                model.outputs[name],
                device,
                dtype,
                training.batch_rows,
            )
            parts = {"modality": given.modality, "encoder": given.encoder}
            options = {kind: part.options_with(lambda path: digest(path) or path) for kind, part in parts.items()}
            kept = KeptFeatures(source, options, cache, report)
            values = Versions(np.arange(len(source.row_of)))
            seen = (training.max_steps or np.inf) * training.batch_rows * training.accumulate
            if not (always or given.augmented_copies or seen >= values.count or kept.are_there(values)):
                continue
            features, size = kept.get(values)
            numbers, bounds = prepared[name].shown(), prepared[name].bounds
            own = np.unique(numbers[prepared[name].places(train)])
            own = own[own >= 0]
            if given.augmented_copies and len(own):
                versions = Versions(own, given.augmented_copies, training.seed)
                augmented, more = kept.get(versions)
                size += more
                ranks = np.full(len(source.row_of) + 1, -1)  # the last one is that of rows without a value
                ranks[own] = np.arange(len(own))
                index = ranks[numbers]
                copies[name] = Copies(augmented(index, bounds), index, len(own), versions.copies, training.seed)
            plain[name] = features(numbers, bounds)
        except NotEncodedError as error:
            tell(f"{name}: its frozen encoder computes in every step, as {error}")
            continue
        times = (
            f" (and {plural(given.augmented_copies, 'augmented copy', 'augmented copies')})" if name in copies else ""
        )
        what = f"{plural(values.count, 'value')}{times} x {encoder.out_features:,} features"
        tell(f"{name}: encoded once, {what}, {byte_size(size)}")
    return Given(plain, copies)


def with_features(run: Run, prepared: Mapping[str, Prepared]) -> dict[str, Prepared]:
    """Prepared values to predict by a saved run, those whose encoders stay as they are by the features in the cache.

    Meant for values that a training has had: the features of others are computed, for all of their rows.

    Raises:
        CacheError: the cache folder cannot be written.
    """
    nobody = np.empty(0, np.int64)  # learns from them, so that no augmented copies are wanted
    given = encode_once(run.plan, run.model, run.modalities, prepared, nobody, run.device, run.dtype, cache_dir())
    return given.in_place(prepared)


def values_alone(prepared: Prepared) -> Prepared:
    """The same values, each in a row of its own, those of rows that are made to lack them included."""
    return prepared.grouped(prepared.index, None)


def _expect_unaugmented(plan: Plan, given: InputPlan) -> None:
    """Refuse values that are others in each epoch.

    Raises:
        NotEncodedError: says why they are, and what to do.
    """
    training = plan.recipe.form.training
    if training.mixup is not None or training.cutmix is not None:
        raise NotEncodedError("mixup and cutmix mix rows before they are encoded")
    if given.is_unaugmented or given.augmented_copies:
        return
    if given.is_unaugmented is None:
        raise NotEncodedError(f"the modality {given.modality.name} does not say whether it augments")
    options = listed(f"{key}: {shown(value)}" for key, value in given.modality.cls.unaugmented.items())
    raise NotEncodedError(f"{given.modality.name} augments; to encode once, set {options}, or augmented_copies: 4")
