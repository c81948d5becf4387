"""A file's place is the same however its path is written: what was loaded once is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures

from mmreg import registry
from mmreg.data.prepare import prepare
from mmreg.data.table import read_table


@pytest.mark.parametrize("by", ["absolute", "dots", "link"])
def test_one_entry_serves_all_ways_to_the_same_files(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for name in ("a.png", "b.png"):
        Pictures.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "data" / name)
    (tmp_path / "data" / "t.csv").write_text("image\na.png\nb.png\n")
    places: dict[str, Any] = {
        "absolute": tmp_path / "data" / "t.csv",
        "dots": Path("below") / ".." / "t.csv",
        "link": tmp_path / "link" / "t.csv",
    }
    monkeypatch.chdir(tmp_path / "data")
    for place in (Path("t.csv"), places[by]):
        image = registry.build("modality", "image", size=4)
        prepare(image, read_table(place), ["image"], name="image", cache_dir=tmp_path / "cache")
    entries = [path for path in (tmp_path / "cache" / "prepared").iterdir() if path.is_dir()]
    assert len(entries) == 1
