"""What the page about tables says of videos: its recipe trains, and its options take the frames that it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from videos import moving_squares, numbered, write_video

import mmreg
from mmreg_video.modality import Video

pytest.importorskip("av", reason="PyAV writes the videos")

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## Videos: `video`") :]
SECTION = SECTION[: SECTION.index("\n## ", 4)] if "\n## " in SECTION[4:] else SECTION
(RECIPE,) = re.findall(r"^```yaml\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def test_the_recipe_trains(tmp_path: Path) -> None:
    lines = ["clip,label"]
    for number, (video, label) in enumerate(zip(*moving_squares(20, frames=4), strict=True)):
        sound = np.full((800, 1), number, np.int16) if number % 5 else None
        lines.append(f"{write_video(tmp_path / f'{number}.mov', video, sound=sound).name},{label}")
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    (tmp_path / "recipe.yaml").write_text(RECIPE + "training: {epochs: 1}\nsplit: {validation: 0.2, test: 0.2}\n")
    run = mmreg.train(tmp_path / "recipe.yaml", tmp_path / "run", device="cpu")
    found = run.predict([{"clip": str(tmp_path / f"{number}.mov")} for number in (0, 1)])
    assert [row["modalities"] for row in found] == ["clip", "clip+sound"]


def test_the_options_take_the_frames_that_it_says(tmp_path: Path) -> None:
    options = re.findall(r"^\| `(frames: [^`]+)` \|", SECTION, re.MULTILINE)
    path = write_video(tmp_path / "v.mov", numbered(80), rate=8)  # ten seconds
    lengths = [len(Video(size=8, **yaml.safe_load("{" + each + "}")).load(path)) for each in options]
    assert lengths == [16, 16, 16, 10]


def test_the_networks_that_it_names_are_there() -> None:
    from mmreg_torchvision.weights import clips

    (row,) = [line for line in SECTION.splitlines() if line.startswith("| `torchvision`")]
    assert {*re.findall(r"`(\w+)`", row)} - {"torchvision"} <= {*clips()}
