"""`mmreg plot` draws each figure of a report as a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile import LABELS
from small import call

from mmreg.errors import OptionError, RunError
from mmreg_report import plotting
from mmreg_report.kinds import OWN
from mmreg_report.plotting import DRAWN, PlotError, write_plot

pytest.importorskip("matplotlib")


def test_there_is_a_figure_for_each_kind() -> None:
    assert tuple(DRAWN) == OWN


def test_the_page_in_the_documentation_names_every_kind() -> None:
    page = (Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == [*OWN, "map", "shares", "search"]


@pytest.mark.parametrize(
    "kind", ["curves", "confusion", "calibration", "roc", "precision-recall", "subsets", "map", "shares"]
)
def test_each_kind_is_drawn(kind: str, hostile: Path, tmp_path: Path) -> None:
    path = write_plot(hostile, kind, tmp_path / "figure.svg", "cpu")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert "<script" not in text
    first = path.read_bytes()
    assert write_plot(hostile, kind, path, "cpu").read_bytes() == first


def test_a_label_with_dollars_is_no_formula(hostile: Path, tmp_path: Path) -> None:
    assert "$" in LABELS[2]
    assert write_plot(hostile, "roc", tmp_path / "x.png", "cpu").read_bytes().startswith(b"\x89PNG")
    assert write_plot(hostile, "roc", tmp_path / "x.pdf", "cpu").read_bytes().startswith(b"%PDF")


def test_a_figure_that_a_run_has_not_is_refused_with_those_that_it_has(hostile: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no figure 'values'; it has curves, .*roc.*; .*subsets, .* are computed"):
        write_plot(hostile, "values", tmp_path / "x.png", "cpu")


def test_mistakes_are_told_before_anything_is_computed(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotting, "loaded", None)
    with pytest.raises(OptionError, match=r"x\.gif is no \.png, \.svg or \.pdf file"):
        write_plot(hostile, "roc", tmp_path / "x.gif")
    (tmp_path / "x.png").mkdir()
    with pytest.raises(RunError, match="is a folder"):
        write_plot(hostile, "roc", tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match="pip install"):
        write_plot(hostile, "roc", tmp_path / "y.png")


def test_the_command_prints_the_file(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: Any = ("plot", str(hostile), "confusion", "--out", str(tmp_path / "c.png"), "--device", "cpu")
    called = call(monkeypatch, capsys, *arguments)
    assert (called.code, called.out) == (0, f"{tmp_path / 'c.png'}\n")
    called = call(monkeypatch, capsys, "plot", str(hostile), "confusions")
    assert called.code == 2
    assert "did you mean 'confusion'" in called.err
