"""Every bundled component passes every check, with its default options and with some others."""

from __future__ import annotations

import wave
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_references import CLASSIFICATION, CONTRASTIVE, MULTILABEL, ORDINAL, SURVIVAL, quantiles, regression
from PIL import Image

from mmreg import Spec, registry
from mmreg.registry.plugins import BUNDLED
from mmreg.testing import Subject, make_subject, parametrize_checks, run_checks

OTHER_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "balance/ogm_ge": [{"alpha": 100.0, "noise": False}],
    "balance/agm": [{"alpha": 5.0}],
    "balance/own_losses": [{"weight": 0.0}],
    "balance/mla": [{"alpha": 1e-6}],
    "balance/reconboost": [{"strength": 1.0, "turn": 3, "rectification": 0}],
    "balance/opm": [{"base": 1.0, "strength": 100.0, "momentum": 0.0}],
    "encoder/audio_cnn": [{"channels": [4, 6], "features": 5, "pooling": "attention"}],
    "encoder/image_cnn": [
        {"channels": [4, 6], "features": 5, "normalization": "group", "pooling": "masked_global", "residual": True},
        {"channels": [4, 6], "features": 5, "normalization": "batch", "pooling": "masked_global", "stride": 2},
        {"channels": [4], "features": 5, "normalization": "none", "pooling": "global"},
    ],
    "encoder/text_cnn": [{"features": 4, "embedding_size": 6, "filters": 5, "widths": [1, 2, 9]}],
    "encoder/transformer": [{"features": 4, "hidden_size": 8, "num_heads": 2, "pooling": "attention"}],
    "encoder/series_cnn": [{"features": 4, "channels": 6, "num_blocks": 3, "kernel": 3, "pooling": "max"}],
    "encoder/patch_transformer": [{"features": 4, "patch": 2, "hidden_size": 8, "num_heads": 2}],
    "task/survival": [{"times": [2.0, 8.0]}],
    "encoder/rnn": [{"hidden_size": 6, "features": 4, "pooling": "last", "cell": "gru"}],
    "encoder/text_rnn": [
        {"hidden_size": 6, "embedding_size": 5, "features": 4, "pooling": "last", "cell": "gru"},
        {"hidden_size": 6, "features": 4, "pooling": "attention", "bidirectional": False, "cell": "rnn"},
    ],
    "fusion/concat": [{"project": 8, "hidden": [16, 8], "dropout": 0.2}],
    "fusion/multiplicative": [{"form": "vector"}, {"form": "scalar"}],
    "fusion/bilinear": [{"project": 8, "features": 8}],
    "fusion/tensor": [{"project": 2, "features": 8}],
    "fusion/transformer": [{"features": 8, "num_heads": 2, "absent_token": True}],
    "fusion/late_transformer": [
        {"features": 8, "num_heads": 2, "absent_token": True, "feedforward": 6},
        {"features": 8, "num_heads": 2, "single_token": True},
    ],
    "fusion/hypernetwork": [{"features": 8, "rank": 0}],
    "fusion/canonical": [{"features": 4, "hidden": [8]}],
    "fusion/mixture_of_experts": [{"features": 8, "hidden": [8]}],
    "fusion/vote": [{"voting": "soft"}],
    "encoder/tabular_mlp": [{"features": 5, "hidden_size": 6, "embedding_size": 3, "numbers": "linear"}],
    "modality/tabular": [{"scaling": "standard", "category_dropout": 0.5, "min_frequency": 2}],
    "modality/text": [{"tokenizer": "char", "max_tokens": 6, "token_dropout": 0.3}],
    "modality/audio": [
        {"features": "waveform", "normalize": "global", "time_shift": 0.2, "noise": 0.1},
        {"features": "mfcc", "n_mels": 20, "n_mfcc": 8, "time_shift": 0.2},
    ],
    "modality/image": [
        {"size": [12, 20], "channels": 1, "resize": "pad", "normalize": "none", "augment": ["flip", "color"]},
        {"size": 16, "augment": "trivial"},
    ],
    "task/classification": [{"class_weights": "balanced"}],
    "task/contrastive": [{"features": 20, "temperature": 0.5, "between": [["text", "image"]]}],
    "task/multilabel": [{"class_weights": "balanced"}],
    "task/regression": [{"loss": "huber"}, {"loss": "l1"}],
}


NUMBERS = [1.5, -2.0, 0.25, 3.0, -0.5, 7.0, 2.0, 1.0, 0.0, -4.5, 2.5, 6.0]

ROW = {
    "numbers": Spec("C", (3,)),
    "missing": Spec("C", (3,)),
    "categories": Spec("C", (2,), "int64", 9),
}
OTHER_MATERIAL: dict[str, dict[str, Any]] = {
    "encoder/tabular_mlp": {"specs": [ROW, {"numbers": ROW["numbers"]}, {"categories": ROW["categories"]}]},
    "encoder/ft_transformer": {"specs": [ROW, {"categories": ROW["categories"]}]},
    "encoder/tabm": {"specs": [ROW, {"numbers": ROW["numbers"], "missing": ROW["missing"]}]},
    "modality/tabular": {
        "values": [
            {"age": age, "kind": kind, "sold": sold, "new": new}
            for age, kind, sold, new in [
                (31, "a", date(2024, 1, 31), True),
                (None, "b", date(2023, 7, 1), False),
                (7.5, None, None, True),
                (40, "a", date(2022, 2, 28), None),
                (12, "c", date(2024, 12, 24), False),
                (31, "b", date(2021, 5, 5), True),
            ]
        ]
    },
    "task/classification": {"references": CLASSIFICATION},
    "task/contrastive": {"references": CONTRASTIVE},
    "task/multilabel": {"references": MULTILABEL},
    "task/regression": {"references": regression(NUMBERS), "targets": NUMBERS},
    "task/ordinal": {"references": ORDINAL, "targets": [3, 1, 2, 5, 4, 1, 2, 2, 3, 5, 1, 4]},
    "task/quantile": {"references": quantiles(NUMBERS, (0.1, 0.5, 0.9)), "targets": NUMBERS},
    "task/survival": {"references": SURVIVAL},
}


def subjects() -> list[Subject]:
    found = []
    for entry in registry.specs():
        if entry.distribution != BUNDLED:
            continue
        name = f"{entry.spec.kind}/{entry.spec.name}"
        material = OTHER_MATERIAL.get(name, {})
        found.append(make_subject(entry, **material))
        for number, options in enumerate(OTHER_OPTIONS.get(name, ()), 1):
            found.append(make_subject(entry, options=options, name=f"{entry.spec.name}-{number}", **material))
    return found


@parametrize_checks(*subjects())
def test_bundled(check: Callable[[], None]) -> None:
    check()


def test_ordinal_words_pass():
    words = ["fair", "good", "bad", "good", "fair", "bad", "good", "fair", "bad", "good"]
    options = {"order": ["bad", "fair", "good"], "class_weights": "balanced"}
    report = run_checks("task/ordinal", options=options, targets=words, references=ORDINAL)
    assert report.ok, str(report)


def test_other_quantiles_pass():
    report = run_checks("task/quantile", options={"quantiles": (0.5,)}, targets=NUMBERS)
    assert report.ok, str(report)


def test_survival_with_tied_times_and_events_as_text_passes():
    targets = [{"time": str(row % 5), "event": "no" if row % 3 == 0 else "yes"} for row in range(14)]
    report = run_checks("task/survival", targets=targets, references=SURVIVAL)
    assert report.ok, str(report)


def test_regression_of_several_numbers_passes():
    rows = np.random.default_rng(0).normal(size=(10, 3)).tolist()
    report = run_checks("task/regression", targets=rows, references=regression(rows))
    assert report.ok, str(report)


def test_classification_of_numbers_passes():
    report = run_checks("task/classification", targets=[1, 2, 3, 2, 1, 3, 2], references=CLASSIFICATION)
    assert report.ok, str(report)


def pictures(folder: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = []
    for number, (height, width) in enumerate([(5, 7), (16, 9), (8, 8), (12, 20), (3, 4)]):
        path = folder / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        paths.append(path)
    return paths


def sounds(folder: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = []
    for number, length in enumerate([800, 3000, 1600, 5000, 400]):
        path = folder / f"{number}.wav"
        with path.open("wb") as file, wave.open(file) as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(8000)
            out.writeframes((random.normal(0, 3000, length)).astype("<i2").tobytes())
        paths.append(path)
    return paths


@pytest.mark.parametrize(("name", "make"), [("image", pictures), ("audio", sounds)])
@pytest.mark.parametrize("as_bytes", [False, True], ids=["files", "bytes"])
def test_modalities_pass_with_files_and_with_their_bytes(name, make, as_bytes, tmp_path):
    paths = make(tmp_path)
    values = [path.read_bytes() for path in paths] if as_bytes else paths
    report = run_checks(f"modality/{name}", values=values, bad_values=[values[0][:30]] if as_bytes else [tmp_path])
    assert report.ok, str(report)


def test_text_vectors_pass(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(
        "\n".join(f"{word} 0.{n} 1.{n} -0.{n}" for n, word in enumerate(["a", "cat", "sat", "dogs", "mat"]))
    )
    report = run_checks("modality/text", options={"vectors": str(path)})
    assert report.ok, str(report)
