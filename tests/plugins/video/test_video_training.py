"""Videos train and predict: a network for videos learns motion, which single frames do not show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toys import StopAt
from videos import moving_squares, write_video

import mmreg
from mmreg import Encoder, Features, Signal, Spec, Stopped, registry

pytest.importorskip("av", reason="PyAV writes the videos")

CLIP = {"type": "video", "size": 16, "frames": 8, "augment": "none"}
SMALL = {"name": "image_cnn", "channels": [8, 16], "features": 16}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 videos of squares that move, in several formats, and a table of them."""
    folder = tmp_path_factory.mktemp("videos")
    lines = ["clip,label,split"]
    for number, (video, label) in enumerate(zip(*moving_squares(160), strict=True)):
        path = write_video(folder / f"{number}{('.mov', '.mkv', '.mp4')[number % 3]}", video)
        split = ("train", "train", "train", "validation", "test")[number // 2 % 5]
        lines.append(f"{path.name},{label},{split}")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder / "table.csv"


def recipe(table: Path, encoder: Any, **training: Any) -> dict[str, Any]:
    return {
        "table": str(table),
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"clip": {**CLIP, "encoder": encoder}},
        "training": {"batch_size": 16, "optimizer": {"name": "AdamW", "lr": 0.003}, **training},
    }


def accuracy(run: mmreg.Run) -> float:
    report = json.loads((run.folder / "report.json").read_text())
    return float(report["test"]["metrics"]["accuracy"])


class Motion(Encoder):
    """Two convolutions over time and place, then the mean over all of them.

    Args:
        features: the size of the result.
    """

    def __init__(self, spec: Spec, *, features: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(spec.size("C") or 1, 8, 3, padding=1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.Conv3d(8, features, 3, padding=1),
            nn.ReLU(),
        )
        self.out_features = features

    def forward(self, signal: Signal) -> Features:
        return Features(pooled=self.layers(signal.values.transpose(1, 2)).mean((2, 3, 4)))


def test_what_moves_where_is_learned_from_frames_together_and_not_from_single_ones(table: Path, tmp_path: Path) -> None:
    registry.register("encoder", "motion", Motion)
    together = mmreg.train(
        recipe(table, "motion", epochs=8, optimizer={"name": "AdamW", "lr": 0.01}), tmp_path / "together", device="cpu"
    )
    assert accuracy(together) > 0.9
    single = {"name": "per_step", "encoder": SMALL}
    alone = mmreg.train(recipe(table, single, epochs=6), tmp_path / "alone", device="cpu")
    assert accuracy(alone) < 0.75


def test_frames_encoded_one_by_one_train_resume_reload_and_predict(table: Path, tmp_path: Path) -> None:
    encoder = {"name": "per_step", "encoder": SMALL, "pooling": "attention"}
    wanted = recipe(table, encoder, epochs=2)
    wanted["modalities"]["clip"] |= {"frames": 5, "sampling": "first", "augment": ["crop", "flip"]}
    whole = mmreg.train(wanted, tmp_path / "whole", device="cpu")
    stop = StopAt(8)
    with pytest.raises(Stopped):
        mmreg.train(wanted, tmp_path / "run", device="cpu", callback=stop, stop=stop.stop)
    run = mmreg.train(wanted, tmp_path / "run", device="cpu", resume=True)
    assert (run.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    path = table.parent / "3.mov"
    predicted = mmreg.load(tmp_path / "run").predict([{"clip": str(path)}, {"clip": None}])
    assert predicted == run.predict([{"clip": str(path)}, {"clip": None}])
    assert run.predict([{"clip": path.read_bytes()}]) == predicted[:1]
    frames = moving_squares(4)[0][3]
    assert run.predict([{"clip": frames}, {"clip": frames[:2]}])[:1] == predicted[:1]


def test_a_network_of_torchvision_for_videos_trains_reloads_and_predicts(table: Path, tmp_path: Path) -> None:
    encoder = {"name": "torchvision", "model": "r2plus1d_18", "weights": "none"}
    wanted = recipe(table, encoder, max_steps=2, batch_size=4, optimizer={"name": "SGD", "lr": 0.001})
    wanted["modalities"]["clip"] |= {"frames": 2}
    run = mmreg.train(wanted, tmp_path / "run", device="cpu")
    rows = [{"clip": str(table.parent / f"{number}.mov")} for number in (0, 3)]
    assert mmreg.load(tmp_path / "run").predict(rows) == run.predict(rows)


@pytest.mark.slow
def test_a_network_of_torchvision_for_videos_learns_what_moves_where(table: Path, tmp_path: Path) -> None:
    encoder = {"name": "torchvision", "model": "r2plus1d_18", "weights": "none"}
    wanted = recipe(table, encoder, epochs=8, optimizer={"name": "AdamW", "lr": 0.001})
    assert accuracy(mmreg.train(wanted, tmp_path / "run", device="cpu")) > 0.8


def test_files_are_kept_as_they_are_if_that_is_asked_for(table: Path, tmp_path: Path) -> None:
    encoder = {"name": "per_step", "encoder": SMALL}
    decoded = recipe(table, encoder, epochs=1)
    encoded = recipe(table, encoder, epochs=1)
    encoded["modalities"]["clip"]["store"] = "encoded"
    runs = [mmreg.train(each, tmp_path / name, device="cpu") for name, each in (("a", decoded), ("b", encoded))]
    first, second = ((run.folder / "model.safetensors").read_bytes() for run in runs)
    assert first == second


def test_videos_that_cannot_be_read_are_told_with_their_rows(table: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.webm"
    broken.write_bytes(b"\x1aE\xdf\xa3 and no more")
    text = table.read_text().replace("\n5.mp4", f"\n{broken}")
    (table.parent / "broken.csv").write_text(text)
    wanted = recipe(table.parent / "broken.csv", {"name": "per_step", "encoder": SMALL}, epochs=1)
    with pytest.raises(mmreg.errors.DataError, match=r"row 6.*clip.*broken") as caught:
        mmreg.train(wanted, tmp_path / "run", device="cpu")
    assert "Traceback" not in str(caught.value)
    wanted["modalities"]["clip"]["on_bad"] = "absent"
    mmreg.train(wanted, tmp_path / "run", device="cpu", overwrite=True)


def test_the_sound_of_the_same_files_is_an_input_beside_them(tmp_path: Path) -> None:
    lines = ["clip,label,split"]
    for number, (video, label) in enumerate(zip(*moving_squares(24, frames=4), strict=True)):
        tone = np.sin(np.arange(3200) * (0.3 if label == "left" else 0.9))
        sound = None if number == 7 else (20000 * tone).astype(np.int16)[:, None]
        path = write_video(tmp_path / f"{number}.mov", video, sound=sound)
        lines.append(f"{path.name},{label},{('train', 'train', 'validation', 'test')[number // 2 % 4]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    wanted = recipe(tmp_path / "table.csv", {"name": "per_step", "encoder": SMALL}, epochs=1)
    wanted["modalities"]["sound"] = {"type": "audio", "column": "clip", "sample_rate": 8000, "on_bad": "absent"}
    run = mmreg.train(wanted, tmp_path / "run", device="cpu")
    torch.manual_seed(0)
    rows = [{"clip": str(tmp_path / "7.mov")}]
    assert run.predict(rows)[0]["modalities"] == "clip"
