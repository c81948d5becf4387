"""The vectors of rows: what they are, in what order, and what of them is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from vector_runs import recipe, table

import mmreg
from mmreg.data import lengths
from mmreg.data.batches import Batches
from mmreg.errors import OptionError, TableError
from mmreg.runs import run as run_module
from mmreg_embed import Vectors, embed

NAMES = ("fused", "a", "b")


def recorded(run: mmreg.Run, rows: Any) -> dict[str, torch.Tensor]:
    """What goes into the head and out of the encoders, each row by itself, as hooks see it."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in NAMES}
    hooks = [
        run.model.head.register_forward_pre_hook(lambda _, given: seen["fused"].append(given[0])),  # type: ignore[union-attr]
        *(
            run.model.encoder_of(name).register_forward_hook(
                lambda _, __, out, name=name: seen[name].append(out.pooled)
            )
            for name in "ab"
        ),
    ]
    for row in rows:
        run.predict(row)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts).detach() for name, parts in seen.items()}


def test_vectors_are_what_encoders_give_and_the_head_reads(fused_run: mmreg.Run, rows: list[dict[str, Any]]) -> None:
    made, expected = embed(fused_run, rows), recorded(fused_run, rows)
    there = {"a": [bool(row["a"]) for row in rows], "b": [bool(row["b"]) for row in rows]}
    for name in "ab":
        torch.testing.assert_close(torch.from_numpy(made[name][there[name]]), expected[name], rtol=1e-5, atol=1e-6)
    some = np.logical_or(there["a"], there["b"])
    torch.testing.assert_close(
        torch.from_numpy(made["fused"][some]), expected["fused"][torch.from_numpy(some)], rtol=1e-5, atol=1e-6
    )


def test_what_a_row_lacks_has_no_vector(fused_run: mmreg.Run, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    made = embed(fused_run, rows, tmp_path / "vectors.parquet")
    lacking = {name: np.flatnonzero(np.isnan(made[name]).all(1)).tolist() for name in NAMES}
    assert lacking == {"fused": [3], "a": [2, 3], "b": [1, 3]}
    assert not any(np.isnan(made[name]).any(1).sum() > len(lacking[name]) for name in NAMES)
    assert pq.read_table(tmp_path / "vectors.parquet").column("b_vector").null_count == 2


def test_a_file_has_keys_and_kept_columns_in_the_order_of_the_rows(
    fused_run: mmreg.Run, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    embed(fused_run, rows, tmp_path / "vectors.parquet", keep=["kind", "a"])
    made = pq.read_table(tmp_path / "vectors.parquet")
    assert made.column_names == ["id", "fused_vector", "a_vector", "b_vector", "kind", "a"]
    for name in ("id", "kind", "a"):
        assert made.column(name).to_pylist() == [row[name] for row in rows]
    assert Vectors.read(tmp_path / "vectors.parquet").columns == ["id", "kind", "a"]


def test_a_long_table_is_written_in_parts_that_are_the_same_together(
    fused_run: mmreg.Run, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embed(fused_run, rows)
    monkeypatch.setattr(run_module, "WINDOW", 1)
    told: list[tuple[int, int, str]] = []
    parts = embed(fused_run, rows, tmp_path / "v.parquet", batch_size=7, progress=lambda *given: told.append(given))
    assert pq.ParquetFile(tmp_path / "v.parquet").num_row_groups == 6
    assert [each[:2] for each in told if each[2] == "rows"] == [(done, 40) for done in (7, 14, 21, 28, 35, 40)]
    for name in NAMES:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5, atol=1e-6)
    assert parts.keys == whole.keys == [row["id"] for row in rows]


def test_of_a_contrastive_run_vectors_are_the_unit_vectors_that_it_compares(
    paired_run: mmreg.Run, rows: list[dict[str, Any]]
) -> None:
    made = embed(paired_run, rows)
    assert made.facts.comparable
    similar = [each["similarity_a_b"] for each in paired_run.predict(rows)]
    for at, value in enumerate(similar):
        if value is not None:
            assert made["a"][at] @ made["b"][at] == pytest.approx(value, abs=1e-5)
    a, b, fused = (made[name] for name in ("a", "b", "fused"))
    np.testing.assert_allclose(np.linalg.norm(fused[:3], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(fused[0], (a[0] + b[0]) / np.linalg.norm(a[0] + b[0]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([fused[1], fused[2]], [a[1], b[2]], rtol=1e-5, atol=1e-6)


def test_of_model_level_fusion_the_fused_vector_is_the_scores(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    run = mmreg.train(recipe(fusion="product"), tmp_path / "run", device="cpu")
    made, predicted = embed(run, rows), run.predict(rows)
    labels = sorted({row["kind"] for row in rows})
    for at in (0, 1, 2):
        told = [predicted[at][f"probability_{label}"] for label in labels]
        np.testing.assert_allclose(np.exp(made["fused"][at]), told, rtol=1e-4)


def test_tokens_are_told_as_their_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [{"id": at, "words": "one two three four"[: 3 + 4 * (at % 4)], "kind": at % 2} for at in range(24)]
    texts[5]["words"] = None
    run = mmreg.train(
        {
            "table": texts,
            "target": {"column": "kind", "task": "classification"},
            "modalities": {
                name: {
                    "type": "text",
                    "column": "words",
                    "encoder": {"name": "transformer", "hidden_size": 8, "num_heads": 2},
                }
                for name in ("words", "again")
            },
            "fusion": "cross_attention",
            "training": {"epochs": 1, "batch_size": 8, "seed": 0},
        },
        tmp_path / "run",
        device="cpu",
    )
    seen: list[torch.Tensor] = []
    hook = run.model.encoder_of("words").register_forward_hook(lambda _, __, out: seen.append(out.tokens))
    run.predict(texts[7])
    hook.remove()
    assert seen[0] is not None
    made = embed(run, texts)
    torch.testing.assert_close(torch.from_numpy(made["words"][7]), seen[0][0].mean(0), rtol=1e-4, atol=1e-5)
    assert np.isnan(made["words"][5]).all()
    # Where rows are sorted by length, so that little is padding, the vectors still come in the table's order.
    monkeypatch.setattr(lengths, "WORTH", 0)
    monkeypatch.setattr(lengths, "WORTH_SORTING", 0)
    assert not np.array_equal(np.concatenate([batch.index for batch in _batches(run, texts)]), np.arange(24))
    np.testing.assert_allclose(embed(run, texts)["words"], made["words"], rtol=1e-4, atol=1e-5)


def _batches(run: mmreg.Run, rows: Any) -> Any:
    given = run.prepare(rows)
    order = lengths.unpadded_order(given.prepared, given.rows, 8)
    return Batches(given.prepared, given.rows, None, None, 8, order=order)


def test_a_column_that_is_not_there_and_a_table_without_rows_are_refused(
    fused_run: mmreg.Run, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(TableError, match="no column 'kindd'; did you mean 'kind'"):
        embed(fused_run, rows, tmp_path / "v.parquet", keep=["kindd"])
    given = recipe()
    given["modalities"]["a"] = {**given["modalities"]["a"], "on_bad": "skip"}
    skipping = mmreg.train(given, tmp_path / "run", device="cpu")
    with pytest.raises(TableError, match="no rows to embed"):
        embed(skipping, [{"a": [1.0]}, {"a": [2.0]}], tmp_path / "v.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_modality_may_be_called_fused_and_the_table_may_have_columns_of_any_name(tmp_path: Path) -> None:
    rows = [{**row, "fused_vector": "x", "row": 1} for row in table()]
    given = recipe(table=rows, key=None)
    given["modalities"] = {"fused": given["modalities"]["a"], "b": given["modalities"]["b"]}
    made = embed(
        mmreg.train(given, tmp_path / "run", device="cpu"), rows, tmp_path / "v.parquet", keep=["fused_vector", "row"]
    )
    assert made.facts.names == ("fused_", "fused", "b")
    assert made.columns == ["row_", "fused_vector_", "row"]
    assert made.values("row_") == list(range(1, 41))
    assert made["fused_"].shape == (40, 10)


def test_other_files_are_refused_in_words(tmp_path: Path, rows_file: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    for path, why in (
        (tmp_path / "none", "not there"),
        (tmp_path, "a folder"),
        (tmp_path / "text.parquet", "cannot be read"),
        (rows_file, "no vectors"),
    ):
        with pytest.raises(TableError, match=why):
            Vectors.read(path)


def test_vectors_that_are_none_and_damaged_files_are_told(
    fused_run: mmreg.Run, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "vectors.parquet"
    made = embed(fused_run, rows, path)
    table, width = pq.read_table(path), made.width("fused")
    at = table.schema.get_field_index("fused_vector")

    def written(values: pa.Array) -> Path:
        other = tmp_path / "other.parquet"
        changed = table.set_column(at, "fused_vector", values).replace_schema_metadata(table.schema.metadata)
        pq.write_table(changed, other)
        return other

    number = np.full((len(table), width), 0.5, np.float32)
    number[3, 0] = np.nan
    with pytest.raises(TableError, match="some vectors 'fused' are no finite numbers"):
        Vectors.read(written(pa.FixedSizeListArray.from_arrays(pa.array(number.ravel()), width)))["fused"]
    texts = pa.array(["x"] * len(table))
    ragged = pa.array([[0.5] * (k % 3) for k in range(len(table))])
    for values in (texts, ragged, pa.array([[]] * len(table), pa.list_(pa.float32(), 0))):
        with pytest.raises(TableError, match="holds no vectors that mmreg embed wrote"):
            Vectors.read(written(values))
    data = bytearray(path.read_bytes())
    place = data.index(made["fused"][5].tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(TableError, match=r"the vectors are damaged \(.*\); write them anew by mmreg embed"):
        Vectors.read(path)["fused"]


def test_vectors_of_no_such_name_and_columns_that_were_not_kept_are_refused(
    fused_run: mmreg.Run, rows: list[dict[str, Any]]
) -> None:
    made = embed(fused_run, rows)
    with pytest.raises(OptionError, match="no vectors 'fuse'; did you mean 'fused'"):
        made.width("fuse")
    with pytest.raises(OptionError, match="--keep"):
        made.values("kind")


def test_the_package_is_light() -> None:
    code = """if True:
        import sys
        from mmreg_embed import plugin, embed_command, map_command, neighbours_command
        plugin.mmreg_commands()
        print([name for name in ("torch", "pyarrow", "matplotlib") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
