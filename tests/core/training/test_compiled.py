"""Encoders that torch.compile has compiled: whole ones where torch can, with the draws that they have uncompiled."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmreg

MODALITIES: dict[str, Any] = {
    "image": {"size": 8, "encoder": {"name": "image_cnn", "channels": [4], "features": 6}},
    "audio": {"sample_rate": 1000, "encoder": {"name": "audio_cnn", "channels": [4], "features": 6}},
    "text": {"encoder": {"name": "text_rnn", "embedding_size": 5, "hidden_size": 4, "features": 6}},
}
compiled = torch.compile
pytestmark = pytest.mark.filterwarnings("default")  # torch warns of its own deprecations, in its compiler


def recipe(names: list[str], **training: Any) -> dict[str, Any]:
    draws = np.random.default_rng(0)
    rows = [
        {
            "image": draws.integers(0, 256, (8, 8, 3), dtype=np.uint8),
            "audio": None if row % 5 == 0 else draws.standard_normal(draws.integers(300, 900)).astype(np.float32),
            "text": " ".join(draws.choice(["red", "green", "blue"], draws.integers(1, 9))),
            "label": int(draws.integers(3)),
            "split": "validation" if row >= 20 else "train",
        }
        for row in range(24)
    ]
    return {
        "table": rows,
        "split": "split",
        "target": {"column": "label"},
        "modalities": {name: MODALITIES[name] for name in names},
        "training": {"batch_size": 8, "epochs": 2, "optimizer": {"name": "SGD", "lr": 0.05}, **training},
    }


@pytest.mark.parametrize(("names", "fullgraph"), [(["image", "audio"], True), (["image", "text"], False)])
def test_compiled_encoders_train_alike(
    names: list[str], fullgraph: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def by_eager_backend(module: Any, **options: Any) -> Any:
        assert options == {"options": {"fallback_random": True}}, "draws are those of torch's own generators"
        called.append(module)
        return compiled(module, backend="eager", fullgraph=fullgraph)

    monkeypatch.setattr(torch, "compile", by_eager_backend)
    expected = mmreg.train(recipe(names), tmp_path / "plain")
    assert called == []
    found = mmreg.train(recipe(names, compile=True), tmp_path / "compiled")
    assert len(called) == 2
    copy.deepcopy(found.model)  # nothing of the compiler stays in it
    for one, other in zip(found.model.state_dict().values(), expected.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)  # norms are by masked sums while traced


@pytest.mark.slow
def test_the_compiler_itself_gives_the_same(tmp_path: Path) -> None:
    expected = mmreg.train(recipe(["image", "audio"]), tmp_path / "plain")
    found = mmreg.train(recipe(["image", "audio"], compile=True), tmp_path / "compiled")
    for one, other in zip(found.model.state_dict().values(), expected.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
