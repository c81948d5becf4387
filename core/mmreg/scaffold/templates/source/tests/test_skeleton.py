"""What this source makes of folders."""

from pathlib import Path

import pytest
from mmreg_skeleton.source import read

from mmreg.errors import TableError


def test_a_file_is_a_row_that_is_labelled_by_its_folder(tmp_path: Path) -> None:
    for name in ("dog/2.png", "cat/1.png", "cat/.hidden", "readme.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert read(f"skeleton-name://{tmp_path}") == [
        {"file": str(tmp_path / "cat/1.png"), "label": "cat"},
        {"file": str(tmp_path / "dog/2.png"), "label": "dog"},
    ]


def test_a_path_is_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos/cat").mkdir(parents=True)
    (tmp_path / "photos/cat/1.png").touch()
    monkeypatch.chdir(tmp_path)
    assert [row["label"] for row in read("skeleton-name://photos")] == ["cat"]


def test_a_folder_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no folder"):
        read(f"skeleton-name://{tmp_path / 'none'}")
    with pytest.raises(TableError, match="holds no files in folders"):
        read(f"skeleton-name://{tmp_path}")
