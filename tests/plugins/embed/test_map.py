"""Vectors in two dimensions: where the points are, and how they are drawn."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from typer.testing import CliRunner, Result

import mmreg
from mmreg.errors import MmregError, OptionError, TableError
from mmreg_embed import Vectors, draw, embed, plane
from mmreg_embed.map_command import app


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width


@pytest.fixture
def vectors_file(paired_run: mmreg.Run, rows_file: Path, tmp_path: Path) -> Path:
    embed(paired_run, rows_file, tmp_path / "vectors.parquet", keep=["kind"], batch_size=9)
    return tmp_path / "vectors.parquet"


def test_points_and_shares_are_those_of_scikit_learn(fused_run: mmreg.Run, rows) -> None:
    vectors = embed(fused_run, rows, keep=["kind"])
    columns, shares = plane(vectors)
    there = [at for at in range(40) if at != 3]
    assert columns["id"] == [f"r{at}" for at in there]
    assert columns["kind"] == [rows[at]["kind"] for at in there]
    reference = PCA(2)
    expected = reference.fit_transform(vectors["fused"][there].astype(np.float64))
    assert shares == pytest.approx(tuple(reference.explained_variance_ratio_))
    points = np.array([columns["x"], columns["y"]]).T
    signs = np.sign((points * expected).sum(0))
    np.testing.assert_allclose(points, expected * signs, atol=1e-5)


def test_modalities_that_are_comparable_share_a_plane_and_others_are_refused(
    paired_run: mmreg.Run, fused_run: mmreg.Run, rows
) -> None:
    columns, _ = plane(embed(paired_run, rows), ["a", "b"])
    assert columns["vector"] == ["a"] * 38 + ["b"] * 38
    assert [columns["id"][at] for at in (2, 38, 39)] == ["r4", "r0", "r2"]
    with pytest.raises(OptionError, match="cannot be compared"):
        plane(embed(fused_run, rows), ["a", "b"])


def test_one_dimension_makes_a_line_and_equal_vectors_a_point(fused_run: mmreg.Run, rows) -> None:
    import pyarrow as pa

    from mmreg_embed.vectors import Facts

    facts = Facts("", "id", "fused", (), comparable=False)
    for values, expected in ([[1.0], [3.0], [5.0]], [-2, 0, 2]), ([[2.0], [2.0], [2.0]], [0, 0, 0]):
        column = pa.array(values, pa.list_(pa.float32(), 1))
        columns, shares = plane(Vectors(pa.table({"id": [1, 2, 3], "fused_vector": column}), facts))
        assert (columns["x"], columns["y"]) == (expected, [0, 0, 0])
        assert shares == ((1, 0) if any(expected) else (0, 0))


def test_fewer_than_two_rows_are_refused(paired_run: mmreg.Run, rows) -> None:
    with pytest.raises(TableError, match="needs two rows at least that have a; there are 1"):
        plane(embed(paired_run, rows[1:3]), ["a"])


def test_columns_are_written_and_pictures_are_drawn(vectors_file: Path, tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "svg", "png"):
        done = call(vectors_file, "--out", tmp_path / f"map.{ending}", "--color", "kind")
        assert done.exit_code == 0, done.exception
        assert "wrote a map of 39 points" in done.stderr
    with (tmp_path / "map.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["id", "vector", "x", "y", "kind"]
    assert [float(line["x"]) for line in lines] == pytest.approx(
        pq.read_table(tmp_path / "map.parquet")["x"].to_pylist()
    )
    assert width(tmp_path / "map.png") == 1200
    first = (tmp_path / "map.svg").read_bytes()
    ElementTree.fromstring(first)
    call(vectors_file, "--out", tmp_path / "map.svg", "--color", "kind")
    assert (tmp_path / "map.svg").read_bytes() == first


def test_a_run_and_a_table_are_drawn_at_once(fused_run: mmreg.Run, rows_file: Path, tmp_path: Path) -> None:
    done = call(fused_run.folder, rows_file, "--out", tmp_path / "map.csv", "--color", "kind", "--of", "a", "-q")
    assert (done.exit_code, done.output) == (0, ""), done.exception
    with (tmp_path / "map.csv").open(newline="") as file:
        assert {(line["vector"], line["kind"]) for line in csv.DictReader(file)} == {("a", "yes"), ("a", "no")}


def test_what_a_table_says_is_neither_markup_nor_a_formula(tmp_path: Path) -> None:
    hostile = ["<script>alert(1)</script>", "$\\frac{1$", "_hidden", "", None, "a" * 200, "\x1b[31m", "日本"]
    columns = {"x": list(range(8)), "y": list(range(8)), "<b>$x$": hostile}
    draw(columns, tmp_path / "map.svg", color="<b>$x$")
    texts = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert not {"script", "b"} & {each.tag.rpartition("}")[2] for each in ElementTree.fromstring(texts).iter()}


def test_numbers_are_a_scale_and_rare_values_are_the_rest(tmp_path: Path) -> None:
    many = [str(at % 12) for at in range(60)]
    for at, values in enumerate((many, [float(at) for at in range(59)] + [None], [True, False] * 30)):
        draw({"x": range(60), "y": range(60), "c": values}, tmp_path / f"{at}.png", color="c")
        assert width(tmp_path / f"{at}.png") == 1200


def test_slips_are_refused_in_words(vectors_file: Path, fused_run: mmreg.Run, rows_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.svg"
    for arguments, why in (
        ([vectors_file, "--out", tmp_path / "map.pdf"], "must end in .svg, .png, .csv, .parquet"),
        ([vectors_file, "--out", out, "--color", "kinds"], "no column 'kinds'; did you mean 'kind'"),
        ([vectors_file, rows_file, "--out", out], "no run's folder"),
        ([fused_run.folder, "--out", out], "needs the TABLE"),
        ([vectors_file, "--out", out, "--of", "c"], "no vectors 'c'"),
    ):
        refused = call(*arguments).exception
        assert isinstance(refused, MmregError), (arguments, refused)
        assert why in str(refused)
    assert not out.exists()


def test_without_packages_their_extras_are_named(paired_run: mmreg.Run, rows, monkeypatch, tmp_path: Path) -> None:
    for package in ("umap", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MmregError, match=r"pip install 'mmreg\[umap\]'"):
        plane(embed(paired_run, rows), method="umap")
    with pytest.raises(MmregError, match=r"pip install 'mmreg\[plot\]'"):
        draw({"x": [0], "y": [0]}, tmp_path / "map.png")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_umap_keeps_groups_together() -> None:
    pytest.importorskip("umap")
    import pyarrow as pa

    from mmreg_embed.vectors import Facts

    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 10, dtype=np.float32), 20, 0)
    values = (centres + 0.05 * random.normal(size=(60, 10))).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 10)
    vectors = Vectors(
        pa.table({"id": range(60), "fused_vector": column}), Facts("", "id", "fused", (), comparable=False)
    )
    columns, shares = plane(vectors, method="umap", seed=1)
    points = np.array([columns["x"], columns["y"]]).T
    near = np.linalg.norm(points[:, None] - points[None], axis=-1).argsort(1)[:, 1:6] // 20
    assert shares is None
    assert (near == np.arange(60)[:, None] // 20).mean() > 0.95
    assert plane(vectors, method="umap", seed=1)[0] == columns
