"""`--on ENGINE` of `mmreg predict` and `mmreg prepare`, and `mmreg prepare` by itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from small import Caller, make_folder, read_table, write_table

from mmreg import EngineSpec
from mmreg.data.cache import entries
from mmreg.registry import engines

HERE = EngineSpec("here", "engines:HereEngine")


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, EngineSpec]]:
    """The engines that plugins bring, by the plugins' names."""
    found = [("mine", HERE)]
    monkeypatch.setattr(engines, "call_hook", lambda plugins, name, item: iter(found))
    return found


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_workers_predict_what_is_predicted_here(
    cli: Caller, here: Path, tmp_path: Path, brought: Any, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmreg.runs.elsewhere.SHARD_ROWS", 16)
    local, far = (tmp_path / f"{name}.{ending}" for name in ("local", "far"))
    cli("predict", "run", "table.csv", "--out", local, "--device", "cpu")
    done = cli("predict", "run", "table.csv", "--out", far, "--device", "cpu", "--on", "here")
    assert (done.code, done.out, done.err) == (0, "", f"wrote 60 predictions to {far}\n")
    if ending == "csv":
        rows, wanted = read_table(far), read_table(local)
        assert [row["id"] for row in rows] == [f"r{number}" for number in range(60)]
        for row, other in zip(rows, wanted, strict=True):
            assert (row["label"], row["modalities"]) == (other["label"], other["modalities"])
            for name in ("blue", "green", "red"):
                key = f"probability_{name}"
                assert float(row[key]) == pytest.approx(float(other[key]), abs=1e-6)
    else:
        assert abs(far.stat().st_size - local.stat().st_size) < 0.1 * local.stat().st_size


def test_rows_that_are_left_out_or_lack_something_are_so_elsewhere(
    cli: Caller,
    here: Path,
    tmp_path: Path,
    brought: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("mmreg.runs.elsewhere.SHARD_ROWS", 1)  # shards of one batch
    rows = read_table(here / "table.csv")
    for row in rows:
        for column in ("image", "audio"):  # relative to the table, which is named relative to the working folder
            row[column] = os.path.relpath(here / row[column], tmp_path)
        del row["id"]
    for number in range(16, 32):  # a whole shard
        rows[number]["audio"] = "nothing.wav"
    rows[40] |= {"title": "", "audio": ""}
    table = os.path.relpath(write_table(tmp_path / "t.csv", rows), here)
    recipe = (here / "run" / "recipe.yaml").read_text()
    for policy, count in (("skip", 44), ("absent", 60)):
        run = tmp_path / policy
        run.mkdir()
        for path in (here / "run").iterdir():
            if path.is_file():
                (run / path.name).write_bytes(path.read_bytes())
        (run / "recipe.yaml").write_text(recipe.replace("on_bad: error", f"on_bad: {policy}"))
        out = [tmp_path / f"{policy}-{name}.csv" for name in ("local", "far")]
        local = cli("predict", run, table, "--out", out[0], "--batch-size", "16")
        told = [text for text in caplog.messages if text.startswith("note: ")]
        caplog.clear()
        far = cli("predict", run, table, "--out", out[1], "--batch-size", "16", "--on", "here")
        assert (local.code, far.code) == (0, 0), far.err
        assert len(told) == 1
        notes = [text for text in caplog.messages if text.startswith("note: ")]
        assert [text.partition(": there is no file")[0] for text in notes] == [
            text.partition(": there is no file")[0] for text in told
        ]
        caplog.clear()
        wanted, found = (
            [{key: row[key] for key in ("row", "label", "modalities")} for row in read_table(path)] for path in out
        )
        assert found == wanted
        assert len(found) == count


def test_cells_that_cannot_be_loaded_stop_workers_as_they_stop_it_here(
    cli: Caller, here: Path, tmp_path: Path, brought: Any
) -> None:
    rows = read_table(here / "table.csv")
    rows[50]["image"] = "gone.png"
    write_table(tmp_path / "t.csv", rows[50:])
    done = cli("predict", "run", tmp_path / "t.csv", "--on", "here")
    assert done.code == 2
    assert "t.csv, row 1, column image" in done.err
    assert "gone.png" in done.err
    assert cli("predict", "run", tmp_path / "t.csv", "--on", "here", "--on-bad", "absent").code == 0


def test_prepare_decodes_what_a_training_needs(
    cli: Caller, tmp_path: Path, brought: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    files: dict[str, dict[str, bytes]] = {}
    for cache, arguments in (("local", []), ("far", ["--on", "here"])):
        monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / cache))
        done = cli("prepare", "recipe.yaml", *arguments)
        assert (done.code, done.err) == (0, f"all of it is in {tmp_path / cache}\n")
        lines = [line.split() for line in done.out.splitlines()]
        assert lines[0] == ["modality", "rows", "present", "bad", "values", "bytes"]
        assert lines[1] == ["image", "60", "60", "0", "60", "46080"]
        found = entries(tmp_path / cache)
        files[cache] = {f"{e.name}/{path.name}": path.read_bytes() for e in found for path in e.glob("*.bin")}
    assert files["far"] == files["local"]
    monkeypatch.setattr("mmreg.data.decode.CellLoader.load_all", lambda self, values: 1 / 0)
    assert cli("train", "recipe.yaml", "--out", "run", "--device", "cpu", "--quiet").code == 0
    told = json.loads(cli("prepare", "recipe.yaml", "--format", "json").out)
    assert told["cache"] == str(tmp_path / "far")
    assert [each["modality"] for each in told["modalities"]] == ["image", "title", "audio"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["predict", "run", "table.csv", "--on", "her"],
            "no installed plugin brings an engine 'her'; did you mean 'here'?",
        ),
        (["predict", "run", "--value", "title=red", "--on", "here"], "--on works on tables, and not with --value"),
        (["predict", "run", "table.csv", "--augmented", "2", "--on", "here"], "and not with --augmented; leave it out"),
        (["prepare", "recipe.yaml", "--on", "twice"], "more than one plugin brings an engine 'twice': mine and yours"),
        (
            ["prepare", "recipe.yaml", "--on", "lost"],
            "the engine 'lost' names a module that does not exist: 'no_such_package'",
        ),
    ],
)
def test_what_cannot_be_done_elsewhere_is_refused(
    cli: Caller, here: Path, brought: Any, arguments: list[str], message: str
) -> None:
    brought += [
        ("mine", EngineSpec("twice", "a:b")),
        ("yours", EngineSpec("twice", "a:b")),
        ("mine", EngineSpec("lost", "no_such_package.engine:Engine", "", "pip install lost")),
    ]
    done = cli(*arguments)
    assert done.code == 2
    assert message in done.err
    assert ("; pip install lost" in done.err) == ("lost" in arguments)


def test_an_engine_is_a_class_of_engines(cli: Caller, here: Path, brought: Any) -> None:
    brought.append(("mine", EngineSpec("wrong", "math:pi")))
    done = cli("prepare", "recipe.yaml", "--on", "wrong")
    assert done.code == 1
    assert "the engine 'wrong' of plugin mine must be a class of mmreg.Engine, found 3.14" in done.err


def test_an_engine_gets_the_address(brought: Any) -> None:
    assert vars(engines.engine("here:10.0.0.5:6379"))["address"] == "10.0.0.5:6379"
    assert vars(engines.engine("here"))["address"] == ""
