"""Predicting many rows that are prepared, beside bare inference over tensors in memory with the same model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import compare
from setups import CPU, TINY_IMAGE, BareImages, image_rows, repeated, set_up

from mmreg.data.batches import Batches
from mmreg.model.inference import predict

ROWS, BATCH = 100_000, 64


@pytest.mark.bench
@pytest.mark.usefixtures("one_thread")
def test_predicting_is_nearly_as_fast_as_bare_inference() -> None:
    small = set_up(image_rows(64, 8), {"image": TINY_IMAGE})
    shape = small.prepared["image"].stored.shape
    values = np.random.default_rng(0).integers(0, 256, (ROWS, *shape), np.uint8)
    setup = repeated(small, "image", values)
    model = setup.experiment.build_model()
    images = torch.from_numpy(values)
    if images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    bare = BareImages().eval()

    def ours() -> None:
        batches = Batches(setup.prepared, setup.train, batch_size=BATCH)
        predict(model, setup.experiment.modalities, batches, CPU)

    @torch.no_grad()
    def theirs() -> None:
        torch.cat([bare(batch.float().div(255).sub(0.5)).softmax(1) for batch in images.split(BATCH)])

    compare(f"predict, {ROWS:,} rows", "bare batched inference", ours, theirs, rounds=5, at_least=0.9)
