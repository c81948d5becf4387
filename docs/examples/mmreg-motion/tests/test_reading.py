"""What is read of a recording's file, and how it is resampled."""

from pathlib import Path

import numpy as np
import pytest
from mmreg_motion.reading import read_recording, resample

from mmreg.errors import ValueLoadError


def test_a_csv_file_is_read_with_and_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "b.csv").write_text("1,2\n3,4\n")
    for name in ("a.csv", "b.csv"):
        assert read_recording(tmp_path / name, limit=10).tolist() == [[1, 2], [3, 4]]


def test_no_more_readings_are_taken_than_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n" + "1\n" * 100)
    np.save(tmp_path / "a.npy", np.ones((100, 1)))
    assert len(read_recording(tmp_path / "a.csv", limit=7)) == 7
    assert len(read_recording(tmp_path / "a.npy", limit=7)) == 7


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "at least one reading"),
        ("x,y\n", "at least one reading"),
        ("1,2\n3\n", "1 and 2 numbers"),
        ("1,2\n3,oops\n", "could not convert"),
        ("1,nan\n", "not finite"),
        ("1,1e300\n", "larger than 1e9"),
    ],
)
def test_a_damaged_csv_file_is_refused_with_a_reason(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(ValueLoadError, match=reason):
        read_recording(path, limit=10)


def test_a_npy_file_that_promises_more_than_it_has_or_holds_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((100, 3)))
    (tmp_path / "short.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:500])
    np.save(tmp_path / "objects.npy", np.array([{}, None], object), allow_pickle=True)
    for name in ("short.npy", "objects.npy"):
        with pytest.raises(ValueLoadError, match="cannot be read"):
            read_recording(tmp_path / name, limit=10)


def test_resampling_keeps_a_straight_line_straight() -> None:
    line = np.arange(10, dtype=np.float32)[:, None]
    np.testing.assert_allclose(resample(line, 10, 20)[:19, 0], np.arange(19) / 2)
    np.testing.assert_allclose(resample(line, 10, 5)[:, 0], [0, 2, 4, 6, 8])
