"""What `mmreg init` writes for columns of videos: a recipe that trains as it stands."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from videos import moving_squares, numbered, write_video

import mmreg
from mmreg import registry
from mmreg.cli import main
from mmreg_video.modality import Video


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        Picture.fromarray(numbered(3, 40, 30)[number]).save(folder / f"{number}.png")
    return folder


def gif(path: Path, frames: int) -> Path:
    images = [Picture.fromarray(frame) for frame in numbered(frames, 20, 24)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    return path


def init(folder: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "table.csv").write_text("\n".join(lines))
    monkeypatch.setattr(sys, "argv", ["mmreg", "init", str(folder / "table.csv"), "--out", str(folder / "r.yaml")])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code
    return (folder / "r.yaml").read_text()


def test_videos_are_proposed_with_a_size_near_their_own(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV writes the videos")
    small = [write_video(tmp_path / f"{number}.mp4", numbered(4, 24, 40)) for number in range(3)]
    assert Video.suggest(small) == {"size": (40, "frames of about 40 pixels")}
    large = [write_video(tmp_path / f"large{number}.webm", numbered(2, 300, 200)) for number in range(2)]
    assert Video.suggest(large) == {"size": (112, "frames of about 300 pixels")}
    assert Video.suggest([path.read_bytes() for path in small]) == Video.suggest(small)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert Video.suggest([*small, broken]) == Video.suggest(small)
    assert Video.suggest([broken]) is None


def test_animated_gifs_are_videos_and_others_pictures(tmp_path: Path) -> None:
    image = registry.get("modality", "image")
    moving = [gif(tmp_path / f"{number}.gif", 3) for number in range(3)]
    still = [gif(tmp_path / f"still{number}.gif", 1) for number in range(3)]
    assert image.suggest(moving) is None
    assert Video.suggest(moving) == {"size": (24, "frames of about 24 pixels")}
    assert image.suggest(still)["size"][0] == 24
    assert Video.suggest(still) is None


def test_folders_of_pictures_are_videos_and_others_are_not(tmp_path: Path) -> None:
    folders = [pictures(tmp_path / f"{number}") for number in range(3)]
    assert Video.suggest(folders) == {"size": (40, "frames of about 40 pixels")}
    (tmp_path / "empty").mkdir()
    assert Video.suggest([tmp_path / "empty"]) is None
    assert Video.suggest([]) is None
    assert Video.suggest(["a text", np.zeros(3)]) is None


def test_folders_and_gifs_are_written_into_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["frames,gif,label"]
    for number in range(6):
        pictures(tmp_path / f"clip{number}")
        gif(tmp_path / f"{number}.gif", 3)
        lines.append(f"clip{number},{number}.gif,{'ab'[number % 2]}")
    text = init(tmp_path, lines, monkeypatch)
    assert "  frames: {type: video, column: frames, size: 40, encoder: per_step}" in text
    assert "  gif: {type: video, column: gif, size: 24, encoder: per_step}" in text


def test_the_sound_of_videos_is_an_input_beside_them_and_the_recipe_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av", reason="PyAV writes the videos")
    lines = ["clip,label"]
    for number, (video, label) in enumerate(zip(*moving_squares(20, frames=4), strict=True)):
        sound = None if number == 7 else np.zeros((4000, 1), np.int16) + number
        write_video(tmp_path / f"{number}.mov", video, sound=sound)
        lines.append(f"{number}.mov,{label}")
    text = init(tmp_path, lines, monkeypatch)
    assert "  clip: {type: video, column: clip, size: 16, encoder: per_step}" in text
    (sound,) = [line for line in text.splitlines() if line.startswith("  clip_audio:")]
    assert "type: audio, column: clip, sample_rate: 8000, max_seconds: 1.0, encoder: audio_cnn, on_bad: absent" in sound
    assert sound.endswith("1 of the 20 videos looked at has no sound")
    run = mmreg.train(tmp_path / "r.yaml", tmp_path / "run", device="cpu", overrides=["training.epochs=1"])
    assert run.predict([{"clip": str(tmp_path / "7.mov")}])[0]["modalities"] == "clip"
