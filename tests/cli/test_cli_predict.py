"""`mmreg predict` and `evaluate`: files, formats, single rows, what is absent, what is refused."""

from __future__ import annotations

import csv
import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small import Caller, read_table, write_table

COLUMNS = ["id", "label", "probability", "probability_blue", "probability_green", "probability_red", "modalities"]


def as_printed(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{name: str(value) for name, value in row.items()} for row in rows]


def test_every_format_holds_the_same_predictions_by_key(cli: Caller, here: Path, tmp_path: Path) -> None:
    for ending in ("csv", "jsonl", "parquet"):
        done = cli("predict", "run", "table.csv", "--out", tmp_path / f"p.{ending}", "--device", "cpu")
        assert (done.code, done.out, done.err) == (0, "", f"wrote 60 predictions to {tmp_path / f'p.{ending}'}\n")
    rows = read_table(tmp_path / "p.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(60)]
    assert as_printed(pq.read_table(tmp_path / "p.parquet").to_pylist()) == rows
    lines = (tmp_path / "p.jsonl").read_text().splitlines()
    assert as_printed([json.loads(line) for line in lines]) == rows
    for row in rows:
        chances = {name.removeprefix("probability_"): float(row[name]) for name in COLUMNS[3:6]}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-6)
        assert row["label"] == max(chances, key=lambda label: chances[label])
        assert float(row["probability"]) == chances[row["label"]]
        assert row["modalities"] == "image+title+audio"
    printed = cli("predict", "run", "table.csv", "--batch-size", "7")
    assert (printed.code, printed.err) == (0, "")
    there = list(csv.DictReader(printed.out.splitlines()))
    assert [row["label"] for row in there] == [row["label"] for row in rows]


def test_figures_are_those_of_the_predictions(cli: Caller, here: Path, tmp_path: Path) -> None:
    cli("predict", "run", "table.csv", "--out", tmp_path / "p.csv", "--quiet")
    predicted = {row["id"]: row["label"] for row in read_table(tmp_path / "p.csv")}
    rows = read_table(here / "table.csv")
    for arguments, chosen, split in [
        ([], [row for row in rows if row["split"] == "test"], "test"),
        (["--split", "validation"], [row for row in rows if row["split"] == "validation"], "validation"),
        (["table.csv"], rows, "all"),
        (["table.csv", "--split", "train"], [row for row in rows if row["split"] == "train"], "train"),
    ]:
        done = cli("evaluate", "run", *arguments, "--format", "json", "--metric", "log_loss")
        assert (done.code, done.err) == (0, "")
        result = json.loads(done.out)
        assert (result["split"], result["rows"]) == (split, len(chosen))
        right = sum(predicted[row["id"]] == row["label"] for row in chosen)
        metrics = result["metrics"]
        assert metrics["accuracy"] == pytest.approx(right / len(chosen))
        assert metrics["log_loss"] > 0
        recalls = [one["recall"] for one in metrics["per_class"].values()]
        assert metrics["recall"] == pytest.approx(sum(recalls) / 3)  # the macro average
        assert sum(map(sum, metrics["confusion"])) == len(chosen)
        assert {name: part["rows"] for name, part in metrics["modalities"].items()} == dict.fromkeys(
            ("image", "title", "audio"), len(chosen)
        )


def test_figures_are_plain_columns_in_a_pipe(cli: Caller, here: Path) -> None:
    done = cli("evaluate", "run")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "test rows"
    columns = ["part", "rows", "accuracy", "accuracy 95% interval", "precision", "recall", "f1"]
    assert re.split("  +", lines[1]) == columns
    assert [re.split("  +", line)[0] for line in lines[2:7]] == ["all", "image", "title", "audio", "always blue"]
    assert re.fullmatch(r"all +12 +[\d.]+ +[\d.]+ to [\d.]+ .*", lines[2])
    assert lines[8].split() == ["class", "precision", "recall", "f1", "rows"]
    assert lines[-1].startswith("Accuracy: ")


def test_a_class_without_rows_has_dashes_and_no_zeros(cli: Caller, here: Path, tmp_path: Path) -> None:
    rows = [row for row in read_table(here / "table.csv") if row["label"] != "green"]
    table = write_table(tmp_path / "fewer.csv", [{**row, "image": "", "audio": ""} for row in rows])
    printed = cli("evaluate", "run", table).out.splitlines()
    at = next(number for number, line in enumerate(printed) if line.startswith("class"))
    assert printed[at + 2].split() == ["green", *"\N{EN DASH}\N{EN DASH}\N{EN DASH}", "0"]
    metrics = json.loads(cli("evaluate", "run", table, "--format", "json").out)["metrics"]
    assert metrics["per_class"]["green"] == {"precision": None, "recall": None, "f1": None, "rows": 0}


def test_one_row_comes_from_the_command_line(cli: Caller, here: Path) -> None:
    done = cli("predict", "run", "--value", "title=a red thing", "--value", "image=images/3.png")
    assert done.code == 0
    (row,) = csv.DictReader(done.out.splitlines())
    assert (row["row"], row["modalities"]) == ("1", "image+title")
    named = cli("predict", "run", "--value", "title=a red thing = so", "--value", "id=mine")
    (row,) = csv.DictReader(named.out.splitlines())
    assert (row["id"], row["modalities"]) == ("mine", "title")
    nothing = cli("predict", "run", "--value", "title=")
    assert nothing.code == 0
    assert nothing.err == "note: 1 row has no modality at all; it gets the training prior\n"


def test_a_column_that_is_missing_counts_as_absent_and_is_said(
    cli: Caller, here: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{name: row[name] for name in ("id", "title", "label")} for row in read_table(here / "table.csv")]
    table = write_table(tmp_path / "titles.csv", rows)
    note = "note: titles.csv has no columns 'image', 'audio'; they count as absent in every row"
    assert cli("evaluate", "run", table).code == 0
    assert caplog.messages == [note]
    done = cli("predict", "run", table)
    assert (done.code, done.err.splitlines()) == (0, [note])
    assert {row["modalities"] for row in csv.DictReader(done.out.splitlines())} == {"title"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either a table or --value"),
        (["table.csv", "--value", "title=a"], "either a table or --value"),
        (["--value", "title"], "--value needs COLUMN=VALUE, found 'title'"),
        (["--value", "titel=a"], "the run reads no column 'titel'; did you mean 'title'?"),
        (["--value", "title=a", "--value", "title=b"], "column 'title' twice"),
        (["--value", "image=images/none.png"], "there is no file images/none.png"),
        (["nothere.csv"], "there is no table nothere.csv"),
        (["table.csv", "--out", "p.txt"], "must end in .csv, .jsonl, .parquet"),
        (["table.csv", "--out", "images"], "is a folder; name a file"),
        (["table.csv", "--out", "nowhere/p.csv"], "there is no folder 'nowhere'"),
        (["table.csv", "--out", "table.csv/p.csv"], "there is no folder 'table.csv'"),
        (["table.csv", "--out", "images/../table.csv"], "is what is read, and would be lost; name another file"),
        (["table.csv", "--batch-size", "0"], "greater than or equal to 1"),
        (["table.csv", "--device", "gpu"], "'gpu' is no device"),
    ],
)
def test_predictions_that_cannot_be_made_are_refused(arguments: list[str], said: str, cli: Caller, here: Path) -> None:
    done = cli("predict", "run", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.replace("│", " ").split())


def test_a_full_disk_is_named_by_the_file_that_found_it_full(
    cli: Caller, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as writing to an open file says it

    monkeypatch.setattr(Path, "write_text", full)
    done = cli("predict", "run", "table.csv", "--out", tmp_path / "p.csv")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"mmreg: {tmp_path / 'p.csv'}: No space left on device; free some space and try again\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["predict", "evaluate"])
@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nothere", "there is no run folder 'nothere'; there are run"),
        ("rum", "there is no run folder 'rum'; did you mean 'run'?; there are run"),
        ("images", "'images' is no run folder: it has no components.json"),
        ("table.csv", "there is no run folder 'table.csv'"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(command: str, folder: str, said: str, cli: Caller, here: Path) -> None:
    done = cli(command, folder, "table.csv")
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_damaged_run_is_refused_by_what_is_damaged(cli: Caller, here: Path, tmp_path: Path) -> None:
    for name, content, said in [
        ("components.json", b"{", "components.json is damaged"),
        ("model.safetensors", b"nonsense", "model.safetensors are damaged"),
        ("recipe.yaml", b"table: [", "cannot be loaded"),
    ]:
        run = shutil.copytree(here / "run", tmp_path / name)
        (run / name).write_bytes(content)
        done = cli("predict", run, "table.csv")
        assert (done.code, done.out) == (2, "")
        assert said in done.err
    (run / "model.safetensors").unlink()
    (run / "recipe.yaml").write_bytes((here / "run/recipe.yaml").read_bytes())
    done = cli("evaluate", run)
    assert done.code == 2
    assert "has lost its weights; go on with: mmreg train" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--split", "holdout"], "'train', 'validation', 'test'"),
        (["--metric", "acuracy"], "did you mean 'accuracy'"),
        (["nothere.csv"], "there is no table nothere.csv"),
        (["--plot", "x.png"], "--plot draws --missing, --missing-rate or --corrupt"),
    ],
)
def test_figures_that_cannot_be_had_are_refused(arguments: list[str], said: str, cli: Caller, here: Path) -> None:
    done = cli("evaluate", "run", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.replace("│", " ").split())


def test_a_table_to_measure_on_has_to_have_targets_that_training_saw(cli: Caller, here: Path, tmp_path: Path) -> None:
    rows = [
        row | {"image": str(here / row["image"]), "audio": str(here / row["audio"])}
        for row in read_table(here / "table.csv")
    ]
    purple = [row | ({"label": "purple"} if row["id"] == "r7" else {}) for row in rows]
    done = cli("evaluate", "run", write_table(tmp_path / "purple.csv", purple))
    assert done.code == 2
    assert "purple.csv, column 'label': 1 label never seen in training: 'purple' (1)" in done.err
    assert "(first: purple.csv, row 8)" in done.err
    empty = [row | ({"label": ""} if row["id"] == "r7" else {}) for row in rows]
    done = cli("evaluate", "run", write_table(tmp_path / "empty.csv", empty))
    assert done.code == 2
    assert "no 'label' to compare with (first: empty.csv, row 8)" in done.err
    inputs = ("title", "image", "audio")
    lacking = [{name: value for name, value in row.items() if name not in inputs} for row in rows]
    done = cli("evaluate", "run", write_table(tmp_path / "lacking.csv", lacking))
    assert done.code == 2
    assert "lacking.csv has no column 'title'" in done.err


def test_augmented_versions_are_predicted_where_there_are_any(
    cli: Caller, here: Path, text_recipe: Path, tmp_path: Path
) -> None:
    plain, augmented = (cli("predict", "run", "table.csv", *extra) for extra in ((), ("--augmented", "2")))
    assert augmented.code == 0
    assert plain.out != augmented.out
    settings = ("--set", "training.epochs=1", "--set", "modalities.title.token_dropout=0")
    assert cli("train", text_recipe, "--out", tmp_path / "run", *settings).code == 0
    called = cli("predict", tmp_path / "run", "table.csv", "--augmented", "2")
    assert called.code == 2
    assert "no modality of this run augments" in called.err
    measured = cli("evaluate", "run", "--augmented", "2")
    assert measured.out.startswith("test rows, each as it is and 2 times augmented\n")
    both = cli("evaluate", "run", "--augmented", "2", "--missing", "all")
    assert both.code == 2
    assert "--augmented does not go with" in both.err
