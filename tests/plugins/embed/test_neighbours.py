"""The rows that are near others, from Python and as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result
from vector_runs import contrastive

import mmreg
from mmreg import registry
from mmreg.errors import MmregError, OptionError, RunError, TableError
from mmreg_embed import Vectors, embed, neighbours
from mmreg_embed.neighbours_command import app


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def told(*arguments: str | Path) -> list[dict[str, Any]]:
    done = call(*arguments, "--format", "json", "--quiet")
    assert done.exit_code == 0, (done.output, done.exception)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture
def vectors_file(paired_run: mmreg.Run, rows_file: Path, tmp_path: Path) -> Path:
    embed(paired_run, rows_file, tmp_path / "vectors.parquet", keep=["kind"])
    return tmp_path / "vectors.parquet"


def test_the_commands_come_through_the_hook_of_a_bundled_plugin() -> None:
    plugin = next(plugin for plugin in registry.all_plugins() if plugin.entry_point == "embed")
    assert (plugin.distribution, plugin.status, list(plugin.hooks)) == (
        "mmreg",
        "ok",
        ["mmreg_commands", "mmreg_sections"],
    )


def test_neighbours_are_those_of_the_cosines_of_the_vectors(fused_run: mmreg.Run, rows: list[dict[str, Any]]) -> None:
    vectors = embed(fused_run, rows, keep=["kind"])
    found = neighbours(vectors, ["r5", "r9"], count=3)
    fused = vectors["fused"] / np.linalg.norm(vectors["fused"], axis=1, keepdims=True)
    for at, key in enumerate(("r5", "r9")):
        similar = np.nan_to_num(fused @ fused[int(key[1:])], nan=-2)
        similar[int(key[1:])] = -2
        expected = np.argsort(-similar)[:3]
        own = slice(3 * at, 3 * at + 3)
        assert found["query"][own] == [key] * 3
        assert found["rank"][own] == [1, 2, 3]
        assert found["id"][own] == [f"r{row}" for row in expected]
        assert found["kind"][own] == [rows[row]["kind"] for row in expected]
        assert found["similarity"][own] == pytest.approx(similar[expected], abs=1e-5)


def test_across_modalities_a_row_finds_its_own_other_side_and_none_that_lacks_it(
    paired_run: mmreg.Run, rows: list[dict[str, Any]]
) -> None:
    found = neighbours(embed(paired_run, rows), of="a", among="b", count=1)
    assert set(found["query"]) == {row["id"] for row in rows if row["a"]}  # also r1, which lacks b itself
    assert not {"r1", "r3"} & set(found["id"])
    both = [row for row in rows if row["a"] and row["b"]]
    measured = paired_run.evaluate(both)["metrics"]["per_direction"]["a to b"]
    for count in (1, 5, 10):
        found = neighbours(embed(paired_run, both), of="a", among="b", count=count)
        own = sum(query == key for query, key in zip(found["query"], found["id"], strict=True))
        assert own / len(both) == pytest.approx(measured[f"recall_at_{count}"])


def test_modalities_that_no_task_brings_together_are_refused(fused_run: mmreg.Run, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(OptionError, match=r"'a' and 'b' of this run cannot be compared.*contrastive"):
        neighbours(embed(fused_run, rows), of="a", among="b")


def test_a_row_of_another_table_can_be_asked_for(paired_run: mmreg.Run, rows: list[dict[str, Any]]) -> None:
    vectors = embed(paired_run, rows)
    asked = embed(paired_run, [{"id": "new", "a": rows[7]["a"]}])
    found = neighbours(vectors, asked, among="b", count=1)
    assert (found["query"], found["id"]) == (["new"], neighbours(vectors, ["r7"], of="a", among="b", count=1)["id"])


def test_vectors_of_another_run_are_refused(
    paired_run: mmreg.Run, fused_run: mmreg.Run, rows: list[dict[str, Any]], vectors_file: Path, rows_file: Path
) -> None:
    with pytest.raises(OptionError, match="another run"):
        neighbours(embed(paired_run, rows), embed(fused_run, rows))
    refused = call(fused_run.folder, vectors_file, "r1").exception
    assert isinstance(refused, RunError)
    assert "another run" in str(refused)


def test_a_key_that_no_row_has_and_a_row_without_the_vector_are_told(vectors_file: Path) -> None:
    vectors = Vectors.read(vectors_file)
    with pytest.raises(TableError, match="no row has the id 'r99'; did you mean 'r9'"):
        neighbours(vectors, ["r1", "r99"])
    with pytest.raises(TableError, match="1 row asked for without b: 'r1'"):
        neighbours(vectors, ["r0", "r1"], of="b")
    lacking = Vectors(pq.read_table(vectors_file).slice(2, 2), vectors.facts)
    with pytest.raises(TableError, match="no row that is asked for has a"):
        neighbours(vectors, lacking, of="a")


def test_the_command_answers_alike_of_a_run_of_its_file_and_of_both(
    paired_run: mmreg.Run, rows_file: Path, vectors_file: Path
) -> None:
    asked = ("r4", "r8", "--from", "a", "--to", "b", "--top", "2")
    of_file = told(vectors_file, *asked)
    assert [line["query"] for line in of_file] == ["r4", "r4", "r8", "r8"]
    assert list(of_file[0]) == ["query", "rank", "similarity", "id", "kind"]
    for arguments in (
        (paired_run.folder, vectors_file, *asked),
        (paired_run.folder, rows_file, *asked, "--keep", "kind"),
        (vectors_file, *asked, "--measure", "dot"),  # of unit vectors
    ):
        found = told(*arguments)
        similar = [line.pop("similarity") for line in found]
        assert similar == pytest.approx([line["similarity"] for line in of_file], abs=1e-5)
        assert found == [{name: line[name] for name in line if name != "similarity"} for line in of_file]


def test_vectors_of_one_number_are_noted(vectors_file: Path, rows_file: Path, tmp_path: Path) -> None:
    assert "single numbers" not in call(vectors_file, "r4", "--from", "a").stderr
    run = mmreg.train(
        {**contrastive(1), "target": {"task": "contrastive", "features": 1}}, tmp_path / "run", device="cpu"
    )
    embed(run, rows_file, tmp_path / "one.parquet")
    for measure, told in (("cosine", "the cosine of any two is 1 or -1"), ("dot", "the largest is nearest to all")):
        done = call(tmp_path / "one.parquet", "r4", "--from", "a", "--measure", measure)
        assert f"note: these vectors are single numbers: {told}" in done.stderr


def test_a_row_from_the_command_line_is_found(tmp_path: Path) -> None:
    captions = [
        {"name": f"{colour} {thing}", "again": f"{colour} {thing}"}
        for colour in ("red", "blue", "green")
        for thing in ("car", "door", "hat", "sky")
    ]
    encoder = {"name": "text_bag", "features": 8}
    run = mmreg.train(
        {
            "table": captions * 3,
            "target": {"task": "contrastive", "features": 8},
            "modalities": {name: {"type": "text", "column": name, "encoder": encoder} for name in ("name", "again")},
            "training": {"epochs": 20, "batch_size": 12, "seed": 0, "optimizer": {"name": "Adam", "lr": 0.03}},
        },
        tmp_path / "run",
        device="cpu",
    )
    pq.write_table(pa.Table.from_pylist(captions), tmp_path / "captions.parquet")
    found = told(
        run.folder,
        tmp_path / "captions.parquet",
        "--value",
        "name=blue hat",
        "--to",
        "again",
        "-k",
        "1",
        "--keep",
        "again",
    )
    assert [(line["again"], "query" in line) for line in found] == [("blue hat", False)]


def test_the_file_of_vectors_is_not_written_over(vectors_file: Path) -> None:
    before = vectors_file.read_bytes()
    done = call(vectors_file, "--out", vectors_file)
    assert "is what is read, and would be lost; name another file" in str(done.exception)
    assert vectors_file.read_bytes() == before


def test_without_queries_all_rows_are_written_to_a_file(vectors_file: Path, tmp_path: Path) -> None:
    for ending in ("csv", "jsonl", "parquet"):
        done = call(vectors_file, "-k", "2", "--out", tmp_path / f"found.{ending}")
        assert done.exit_code == 0, done.exception
        assert "wrote 78 neighbours" in done.stderr  # of 40 rows one has no vector
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("query,rank,similarity,id,kind", 79)
    assert pq.read_table(tmp_path / "found.parquet").to_pylist() == [
        json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()
    ]


def test_slips_are_refused_in_words(vectors_file: Path, paired_run: mmreg.Run, rows_file: Path, tmp_path: Path) -> None:
    for arguments, why in (
        ([paired_run.folder], "needs the TABLE"),
        ([vectors_file, "--value", "a=1"], "name RUN and TABLE"),
        ([paired_run.folder, rows_file, "--value", "kinds=1"], "no column 'kinds'"),
        ([paired_run.folder, rows_file, "--value", "a"], "needs COLUMN=VALUE"),
        ([vectors_file, "r1", "--to", "c"], "no vectors 'c'"),
        ([vectors_file, "r1", "--keep", "kind"], "--keep is of a table"),
        ([vectors_file, "r1", "--out", tmp_path / "found.txt"], "must end in"),
        ([tmp_path / "none"], "not there"),
        ([rows_file, "r1"], "no vectors"),
    ):
        refused = call(*arguments).exception
        assert isinstance(refused, MmregError), (arguments, refused)
        assert why in str(refused)
        assert refused.exit_code == 2
