"""Tables of Hugging Face data sets that lie on this machine, not decoded by their library."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmreg.data.sources import open_table
from mmreg.errors import TableError

datasets = pytest.importorskip("datasets", reason="needs the extra datasets")


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def png(color: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 4), (color, 0, 0)).save(file, "PNG")
    return file.getvalue()


def data(first: int = 0) -> Any:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "sound": datasets.Audio(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "n": datasets.Value("int64"),
        }
    )
    cells = [{"bytes": png(first + number), "path": None} for number in range(4)]
    sounds = [{"bytes": b"no sound", "path": None}] * 4
    table = pa.table(
        {"image": cells, "sound": sounds, "label": [0, 1, 0, 1], "n": [0, 1, 2, 3]}, schema=features.arrow_schema
    )
    return datasets.Dataset(datasets.table.InMemoryTable(table), info=datasets.DatasetInfo(features=features))


def test_what_save_to_disk_wrote_is_read_without_decoding(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": data(), "test": data(9)}).save_to_disk(tmp_path / "saved")
    table = open_table(f"datasets://{tmp_path}/saved#train")
    assert [cell["bytes"] for cell in table.iter_values("image")] == [png(n) for n in range(4)]
    assert [cell["bytes"] for cell in table.iter_values("sound")] == [b"no sound"] * 4
    assert list(table.iter_values("label")) == ["cat", "dog", "cat", "dog"]
    other = open_table(f"datasets://{tmp_path}/saved#test")
    assert [cell["bytes"] for cell in other.iter_values("image")] == [png(9 + n) for n in range(4)]


def test_one_split_needs_no_name_and_chosen_rows_stay_chosen(tmp_path: Path) -> None:
    data().select([3, 1]).save_to_disk(tmp_path / "one")
    assert list(open_table(f"datasets://{tmp_path}/one").iter_values("n")) == [3, 1]


def test_what_load_dataset_takes_is_read(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "folder/train" / label).mkdir(parents=True)
        (tmp_path / "folder/train" / label / "1.png").write_bytes(png(len(label)))
    table = open_table(f"datasets://{tmp_path}/folder")
    assert list(table.iter_values("label")) == ["cat", "dog"]
    (tmp_path / "tables").mkdir()
    data().to_parquet(tmp_path / "tables/train.parquet")
    assert list(open_table(f"datasets://{tmp_path}/tables#train").iter_values("n")) == [0, 1, 2, 3]


def test_a_row_without_a_class_has_none(tmp_path: Path) -> None:
    features = datasets.Features({"label": datasets.ClassLabel(names=["a"])})
    datasets.Dataset.from_dict({"label": [0, -1]}, features=features).save_to_disk(tmp_path / "d")
    assert list(open_table(f"datasets://{tmp_path}/d").iter_values("label")) == ["a", None]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": data(), "test": data()}).save_to_disk(tmp_path / "saved")
    with pytest.raises(TableError, match=r"has no split 'tran'; did you mean 'train'\?; its splits are train, test"):
        open_table(f"datasets://{tmp_path}/saved#tran")
    with pytest.raises(TableError, match="which split"):
        open_table(f"datasets://{tmp_path}/saved")
    with pytest.raises(TableError, match=r"the datasets library cannot load '.*nothing'"):
        open_table(f"datasets://{tmp_path}/nothing")
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(TableError, match="cannot load"):
        open_table(f"datasets://{tmp_path}")


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TableError, match=r"pip install \"mmreg\[datasets\]\""):
        open_table("datasets://name#train")
