"""`mmreg init`: what it chooses for a table, why, and that the result trains as it stands."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import records
import yaml
from small import Caller, read_table, write_table

import mmreg
from mmreg import registry
from mmreg.model import devices
from mmreg.training.loop import Trainer
from mmreg_tabular.modality import Tabular
from mmreg_text import table as tables


@pytest.fixture(autouse=True)
def _no_packages_with_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed here beside mmreg makes no difference; see test_cli_init_encoders.py."""
    monkeypatch.setattr(tables, "packaged", lambda name: None)


def written(cli: Caller, table: Path, *arguments: str) -> dict[str, Any]:
    """The recipe that init writes for a table, as data; what is printed is what is written."""
    out = table.with_suffix(".yaml")
    done = cli("init", table, "--out", out, *arguments)
    assert done.code == 0, done.err
    assert done.out == out.read_text()
    following, *estimate = done.err.splitlines()[1:]
    assert following == f"wrote {out}; next: mmreg train {shlex.quote(str(out))} --out run"
    assert all(line.startswith("on this machine's CPU the training takes about ") for line in estimate)
    data: dict[str, Any] = yaml.safe_load(done.out)
    return data


def changed(here: Path, tmp_path: Path, *, drop: Iterable[str] = (), absolute: bool = True, **columns: Any) -> Path:
    """The small table without some columns and with some others, each a function of the row's number and the row."""
    rows = []
    for number, row in enumerate(read_table(here / "table.csv")):
        files = {name: str(here / row[name]) for name in ("image", "audio")} if absolute else {}
        new = row | files | {name: make(number, row) for name, make in columns.items()}
        rows.append({name: value for name, value in new.items() if name not in drop})
    return write_table(tmp_path / "table.csv", rows)


def test_all_modalities_and_the_split_are_found_and_the_recipe_trains(cli: Caller, here: Path, tmp_path: Path) -> None:
    table = changed(here, tmp_path)
    recipe = written(cli, table)
    assert recipe["table"] == "table.csv"
    assert recipe["split"] == "split"
    assert recipe["target"] == {"column": "label", "task": "classification"}
    assert recipe["key"] == "id"
    assert {name: (each["type"], each["encoder"]) for name, each in recipe["modalities"].items()} == {
        "image": ("image", "image_cnn"),
        "title": ("text", "text_bag"),
        "audio": ("audio", "audio_cnn"),
        "tabular": ("tabular", "tabular_mlp"),
    }
    assert recipe["modalities"]["tabular"]["columns"] == ["price", "tags"]
    assert recipe["modalities"]["image"]["size"] == 16
    assert recipe["modalities"]["audio"]["sample_rate"] == 8000
    assert recipe["fusion"] == "product"
    lines = (tmp_path / "table.yaml").read_text().splitlines()
    for reason in (
        "36 train, 12 validation, 12 test",
        "it holds 3 different values; guessed by its name",
        "pictures of about 16 pixels",
        "most are sampled at 8000 Hz",
        "a model of each modality, their predictions multiplied",
        "it names a row in predictions",
    ):
        assert any("# " in line and reason in line.split("# ", 1)[1] for line in lines), reason
    assert cli("validate", tmp_path / "table.yaml").code == 0
    run = mmreg.train(tmp_path / "table.yaml", tmp_path / "run", overrides=["training.epochs=1"], device="cpu")
    assert run.report["epochs"] == 1


def test_numbers_make_a_regression_and_a_random_split(cli: Caller, here: Path, tmp_path: Path) -> None:
    table = changed(here, tmp_path, drop=("split", "audio", "image", "id"))
    recipe = written(cli, table, "--target", "price")
    assert recipe["target"] == {"column": "price", "task": "regression"}
    assert recipe["split"] == {"validation": 0.15, "test": 0.15}
    assert list(recipe["modalities"]) == ["title", "tabular"]
    assert recipe["fusion"] == "concat"
    assert not {"key", "on_bad"} & set(recipe)
    done = cli("train", tmp_path / "table.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q")
    assert done.code == 0, done.err
    assert done.out.startswith("MAE: ")


def test_how_long_the_training_takes_is_said_where_it_can_be_told(
    cli: Caller, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = changed(here, tmp_path)

    def said() -> list[str]:
        done = cli("init", table, "--out", tmp_path / "r.yaml", "--overwrite")
        assert done.code == 0, done.err
        return done.err.splitlines()[2:]

    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu"])
    assert said() == []  # so few rows need no telling
    monkeypatch.setattr("mmreg.cli.init.SMALL", 0)
    (line,) = said()
    assert re.fullmatch(r"on this machine's CPU the training takes about \d+ (second|minute|hour)s?", line)
    monkeypatch.setattr(devices, "available_devices", lambda: ["cuda:0", "cpu"])
    assert said() == []
    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu"])
    monkeypatch.setattr(Trainer, "epochs", lambda self: 1 / 0)
    assert said() == []


@pytest.mark.parametrize(("target", "encoding"), [("tags", "utf-8"), ("label", "latin-1")])
def test_how_long_the_training_takes_is_said_of_several_labels_and_of_any_encoding(
    cli: Caller, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, encoding: str
) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu"])
    monkeypatch.setattr("mmreg.cli.init.SMALL", 0)
    table = changed(here, tmp_path, drop=("audio", "image"))
    done = cli("init", table, "--target", target, "--encoding", encoding, "--out", tmp_path / "r.yaml")
    assert "on this machine's CPU the training takes about" in done.err


def test_a_target_of_decimal_commas_is_told_as_that(cli: Caller, tmp_path: Path) -> None:
    lines = "\n".join(f"a text of {n} words;{n},{n % 10}" for n in range(40))
    (tmp_path / "t.csv").write_text(f"title;price\n{lines}\n")
    done = cli("init", tmp_path / "t.csv", "--target", "price", "--out", tmp_path / "r.yaml")
    assert done.code == 2
    assert "these have a decimal comma, so they are texts: with a point they are numbers" in done.err


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([f"{1000 + n * 1234:,}" for n in range(60)], "have commas as thousands separators"),
        ([f"{200 + n * 1234:,}" for n in range(60)], "have commas as thousands separators"),
        ([f"{1000 + n * 1234:,}.50" for n in range(60)], "have commas as thousands separators"),
        ([f"{n / 8:.3f}".replace(".", ",") for n in range(60)], "have a decimal comma"),
        ([f"{n},{n % 10}" for n in range(60)], "have a decimal comma"),
    ],
)
def test_commas_in_numbers_are_told_as_what_they_are(cli: Caller, tmp_path: Path, cells: list[str], said: str) -> None:
    rows = [{"price": cell, "word": ("lo", "hi")[n % 2], "label": "ab"[n % 2]} for n, cell in enumerate(cells)]
    table = write_table(tmp_path / "t.csv", rows)
    remedy = "without the commas" if "thousands" in said else "with a point"
    done = cli("init", table, "--target", "label", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert re.search(rf"# note: column 'price': \d+ numbers {said}, so they are texts; {remedy} they are", done.out)
    assert f"# price: left out; its numbers {said}, so they are texts" in done.out
    done = cli("init", table, "--target", "price", "--out", tmp_path / "r.yaml", "--overwrite")
    assert done.code == 2
    assert f"these {said}, so they are texts: {remedy} they are numbers" in done.err


@pytest.mark.parametrize("written", ["%d.%m.%Y", "%m/%d/%y"])
def test_dates_in_another_order_are_told_as_that(cli: Caller, tmp_path: Path, written: str) -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=3 * n) for n in range(60)]
    rows = [
        {"day": day.strftime(written), "word": ("lo", "hi")[n % 2], "label": "ab"[n % 2]} for n, day in enumerate(days)
    ]
    for n, row in enumerate(rows):
        row["version"] = f"1.{n // 9}.{n}"
    done = cli("init", write_table(tmp_path / "t.csv", rows), "--target", "label", "--out", tmp_path / "r.yaml")
    assert "# version: left out; 60 of its cells were looked at" in done.out
    assert "# day: left out; its dates are texts; as 2024-05-31 they would be dates (ISO 8601)" in done.out


def test_a_single_decimal_comma_is_not_told_of_all_numbers(cli: Caller, tmp_path: Path) -> None:
    cells = ["12,50", *(f"{n / 8:.3f}" for n in range(60))]
    rows = [{"price": cell, "word": ("lo", "hi")[n % 2], "label": "ab"[n % 2]} for n, cell in enumerate(cells)]
    table = write_table(tmp_path / "t.csv", rows)
    done = cli("init", table, "--target", "label", "--out", tmp_path / "r.yaml")
    assert "price holds 60 numbers, and 1 other cell; cells that are none of their" in done.out
    assert "# note: column 'price': 1 number has a decimal comma" in done.out
    done = cli("init", table, "--target", "price", "--out", tmp_path / "r.yaml", "--overwrite")
    assert "some of these have a decimal comma, so they are texts: with a point they are numbers" in done.err


@pytest.mark.parametrize("cell", ["1.{0:03},50", "{0}.5%"])
def test_numbers_with_signs_are_not_told_as_files(cli: Caller, tmp_path: Path, cell: str) -> None:
    rows = [{"price": cell.format(n), "word": ("lo", "hi")[n % 2], "label": "ab"[n % 2]} for n in range(60)]
    done = cli("init", write_table(tmp_path / "t.csv", rows), "--target", "label", "--out", tmp_path / "r.yaml")
    assert done.code == 0, done.err
    assert "# price: left out; 60 of its cells were looked at, and no two are alike" in done.out


def test_numbers_with_commas_that_repeat_are_no_several_labels(cli: Caller, tmp_path: Path) -> None:
    table = labelled(tmp_path, [f"{1000 + n % 10 * 1234:,}" for n in range(60)])
    written(cli, table)
    text = table.with_suffix(".yaml").read_text()
    assert "column 'label': 60 numbers have commas as thousands separators, so they are texts" in text
    assert "multilabel" not in text
    assert "then on_bad: skip" not in text  # which is for words that stand for nothing


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (pa.date32(), [date(2024, 1, 1 + n) for n in range(3)]),
        (pa.struct({"kind": pa.int64()}), [{"kind": n} for n in range(3)]),
    ],
)
def test_what_is_to_be_done_with_a_target_of_other_values_is_said_by_every_command(
    cli: Caller, tmp_path: Path, kind: pa.DataType, parts: list[Any]
) -> None:
    columns = {"size": [0.3 * n for n in range(60)], "label": pa.array(parts * 20, kind)}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    modalities = "modalities: {size: {type: tabular, columns: [size]}}"
    (tmp_path / "r.yaml").write_text(f"table: t.parquet\ntarget: {{column: label}}\n{modalities}\n")
    told = {
        "date": "found date: cast the column to text, or to a number",
        "dict": "found dict: make one of its parts a column of text or numbers",
    }[type(parts[0]).__name__]
    for command in (
        ["init", tmp_path / "t.parquet", "--out", tmp_path / "new.yaml"],
        ["validate", tmp_path / "r.yaml"],
    ):
        done = cli(*command)
        assert done.code == 2
        assert told in done.err


def test_infinite_targets_are_told_in_the_words_of_the_training(cli: Caller, tmp_path: Path) -> None:
    rows = [{"size": n * 0.3, "y": "inf" if n % 6 == 1 else n * 1.5} for n in range(60)]
    table = write_table(tmp_path / "t.csv", rows)
    assert written(cli, table)["on_bad"] == "skip"
    told = "10 rows have no finite value in the target column 'y' (first: t.csv, row 2: inf)"
    assert f"# {told}; left out" in table.with_suffix(".yaml").read_text()
    assert f"{told}; skipped" in cli("validate", table.with_suffix(".yaml")).err


def test_lists_with_semicolons_make_a_multilabel_task_whose_predictions_are_read_back(
    cli: Caller, here: Path, tmp_path: Path
) -> None:
    table = changed(here, tmp_path, drop=("audio", "image"))
    recipe = written(cli, table, "--target", "tags")
    assert recipe["target"] == {"column": "tags", "task": "multilabel", "separator": ";"}
    done = cli("train", tmp_path / "table.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q")
    assert done.code == 0, done.err
    assert cli("predict", tmp_path / "run", table, "--out", tmp_path / "p.csv").code == 0
    rows = read_table(tmp_path / "p.csv")
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(60)]
    assert {label for row in rows for label in row["labels"].split(";") if label} <= {"red", "green", "blue"}


def labelled(tmp_path: Path, labels: list[str]) -> Path:
    """A table of texts with these labels."""
    words = ["red", "green", "blue", "pink", "grey", "gold", "plum", "rose", "teal", "lime"]
    rows = [{"text": f"{words[n % 10]} {words[n // 10 % 10]} {n}", "label": label} for n, label in enumerate(labels)]
    return write_table(tmp_path / "table.csv", rows)


def combined(separator: str, labels: str = "abcde", rows: int = 60) -> list[str]:
    """Cells with one to three of some labels."""
    sets = [labels[n % 5 : n % 5 + 1 + n % 3] for n in range(rows)]
    return [separator.join(each) for each in sets]


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        (combined("|"), "|"),
        (combined(", "), ","),
        (combined(";"), ";"),
        (["sea", "sun", "sea|sun"] * 20, "|"),  # all that is joined stands alone, too
        (["sea"] * 40 + ["sun"] * 18 + ["sea, sun"] * 2, ","),
        ([f"{a}|{b}" for a in "abcd" for b in "efgh"], "|"),  # each combination once, of parts that repeat
        ([",".join("abcdefgh"[n % 8 :][: 1 + n % 4]) + f",{'ijkl'[n // 15]}" for n in range(60)], ","),
    ],
)
def test_several_labels_in_a_cell_are_told_from_one_and_the_recipe_trains(
    labels: list[str], separator: str, cli: Caller, tmp_path: Path
) -> None:
    table = labelled(tmp_path, labels)
    recipe = written(cli, table)
    assert recipe["target"] == {"column": "label", "task": "multilabel", "separator": separator}
    done = cli("train", tmp_path / "table.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q")
    assert done.code == 0, done.err
    parts = {part.strip() for text in labels for part in text.split(separator)}
    assert set(mmreg.load(tmp_path / "run").task.labels) <= parts


def test_rare_labels_among_several_are_in_training_rows(cli: Caller, tmp_path: Path) -> None:
    labels = [f"common{n % 4}|often{n % 11}" + (f"|rare{n // 6}" if n % 6 == 0 else "") for n in range(120)]
    table = labelled(tmp_path, labels)
    recipe = written(cli, table)
    assert recipe["split"] == {"validation": 0.15, "test": 0.15, "stratify": True}
    assert cli("validate", table.with_suffix(".yaml")).code == 0
    done = cli("validate", table.with_suffix(".yaml"), "--set", "split={validation: 0.15, test: 0.15}")
    assert done.code == 2
    assert "never seen in training: 'rare" in done.err


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        (["Smith, John", "Doe, Jane", "Lee, Ann"] * 20, ","),
        (["Portland, OR", "Portland, ME", "Salem, OR", "Salem, MA"] * 15, ","),
        (["either|or", "neither|nor", "both"] * 20, "|"),
    ],
)
def test_one_label_with_a_separator_in_it_stays_one_and_the_keys_for_several_are_told(
    labels: list[str], separator: str, cli: Caller, tmp_path: Path
) -> None:
    table = labelled(tmp_path, labels)
    assert written(cli, table)["target"] == {"column": "label", "task": "classification"}
    text = table.with_suffix(".yaml").read_text()
    instead = f"task: multilabel, separator: '{separator}'"
    assert f"if '{separator}' stands between several labels of a row, write {instead}" in text
    assert cli("validate", table.with_suffix(".yaml")).code == 0
    changed = text.replace("task: classification}", f"{instead}}}")
    table.with_suffix(".yaml").write_text(changed)
    done = cli("validate", table.with_suffix(".yaml"))
    assert done.code == 0, done.err
    assert "task multilabel" in done.out


def test_a_separator_in_few_labels_says_nothing(cli: Caller, tmp_path: Path) -> None:
    table = labelled(tmp_path, ["yes", "no", "yes", "no", "yes", "no, never"] * 10)
    assert written(cli, table)["target"] == {"column": "label", "task": "classification"}
    assert "separator" not in table.with_suffix(".yaml").read_text()


def test_a_class_that_nearly_all_rows_have_is_weighed_and_measured_by_what_shows_it(
    cli: Caller, tmp_path: Path
) -> None:
    table = labelled(tmp_path, ["no"] * 180 + ["yes"] * 20)
    recipe = written(cli, table)
    assert recipe["target"] == {"column": "label", "task": "classification", "class_weights": "balanced"}
    assert recipe["training"]["metric"] == "balanced_accuracy"
    said = "'no' is the label of 90% of the training rows"
    assert f"# {said}" in table.with_suffix(".yaml").read_text()
    for command in (["validate"], ["train", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q"]):
        done = cli(command[0], table.with_suffix(".yaml"), *command[1:])
        assert done.code == 0, done.err
        assert done.err.startswith(f"note: {said}: ")
        assert done.err.count("\n") == 1
    report = json.loads((tmp_path / "run/report.json").read_text())
    (note,) = report["notes"]
    assert note.startswith(said)
    assert report["test"]["metrics"]["balanced_accuracy"] == pytest.approx(report["test"]["metrics"]["recall"])


def test_without_validation_rows_no_metric_is_chosen_by(cli: Caller, tmp_path: Path) -> None:
    table = labelled(tmp_path, ["no"] * 90 + ["yes"] * 10)
    rows = [{**row, "split": "test" if n % 5 == 0 else "train"} for n, row in enumerate(read_table(table))]
    recipe = written(cli, write_table(table, rows))
    assert recipe["target"]["class_weights"] == "balanced"
    assert "metric" not in recipe["training"]
    assert cli("validate", table.with_suffix(".yaml")).code == 0


def test_rare_and_alike_labels_are_told_as_comments(cli: Caller, tmp_path: Path) -> None:
    table = labelled(tmp_path, ["cat", "Cat", "dog"] * 20 + ["emu"] * 3)
    written(cli, table)
    text = table.with_suffix(".yaml").read_text()
    assert "# labels that differ only in case, in blanks or in how a number is written" in text
    assert "# 1 of 4 classes has fewer than 10 rows: 'emu' (3)" in text
    done = cli("validate", table.with_suffix(".yaml"))
    assert [line.removeprefix("note: ") for line in done.err.splitlines()] == [
        line.strip().removeprefix("# ") for line in text.splitlines() if line.strip().startswith("# ")
    ]


def test_numbers_that_are_text_are_numbers(cli: Caller, tmp_path: Path) -> None:
    rows = [{"text": f"thing {number}", "label": f"{number / 7:.2f}"} for number in range(40)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert written(cli, tmp_path / "t.jsonl")["target"] == {"column": "label", "task": "regression"}


@pytest.mark.parametrize(
    ("labels", "grades"),
    [(["1", "2", "3", "4", "5"], True), (["0", "1", "2"], True), (["0", "1"], False), (["1", "2", "7"], False)],
)
def test_numbers_that_may_be_grades_stay_classes_and_ordinal_is_told(
    labels: list[str], grades: bool, cli: Caller, tmp_path: Path
) -> None:
    recipe = written(cli, labelled(tmp_path, labels * 12))
    assert recipe["target"]["task"] == "classification"
    assert ("task: ordinal learns their order" in (tmp_path / "table.yaml").read_text()) == grades


def test_lists_of_labels_stay_lists_in_csv(cli: Caller, here: Path, tmp_path: Path) -> None:
    rows = read_table(here / "table.csv")
    kept = [{"title": row["title"], "split": row["split"], "labels": row["tags"].split(";")} for row in rows]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    recipe = written(cli, tmp_path / "t.jsonl")
    assert recipe["target"] == {"column": "labels", "task": "multilabel"}
    assert cli("train", tmp_path / "t.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q").code == 0
    assert cli("predict", tmp_path / "run", tmp_path / "t.jsonl", "--out", tmp_path / "p.csv").code == 0
    assert cli("predict", tmp_path / "run", tmp_path / "t.jsonl", "--out", tmp_path / "p.jsonl").code == 0
    in_csv = [json.loads(row["labels"]) for row in read_table(tmp_path / "p.csv")]
    in_json = [json.loads(line)["labels"] for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert in_csv == in_json
    assert all(isinstance(labels, list) for labels in in_csv)


def test_empty_targets_and_missing_files_are_allowed_for_with_the_reason(
    cli: Caller, here: Path, tmp_path: Path
) -> None:
    table = changed(
        here,
        tmp_path,
        drop=("audio",),
        label=lambda number, row: "" if number in (3, 50) else row["label"],
        image=lambda number, row: str(here / ("gone.png" if number == 7 else row["image"])),
    )
    recipe = written(cli, table)
    assert recipe["on_bad"] == "skip"
    assert recipe["modalities"]["image"]["on_bad"] == "absent"
    text = (tmp_path / "table.yaml").read_text()
    assert "1 of the 60 files looked at are missing" in text
    assert "2 rows have no value in the target column 'label' (first: table.csv, row 4: empty); left out" in text
    done = cli("train", tmp_path / "table.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q")
    assert done.code == 0, done.err
    assert "2 rows have no value in the target column 'label' (first: table.csv, row 4: empty); skipped" in done.err
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["bad_cells"]["image"]["count"] == 1
    assert report["bad_cells"]["image"]["on_bad"] == "absent"


def test_names_that_yaml_would_misread_survive(cli: Caller, here: Path, tmp_path: Path) -> None:
    rows = [
        {"the: title #1": row["title"], "no": row["label"], "a\nline": "", "split": row["split"]}
        for row in read_table(here / "table.csv")
    ]
    table = write_table(tmp_path / "odd: table.csv", rows)
    recipe = written(cli, table, "--target", "no")
    assert recipe["table"] == "odd: table.csv"
    assert recipe["target"]["column"] == "no"
    assert recipe["modalities"]["the: title #1"]["column"] == "the: title #1"
    assert cli("validate", table.with_suffix(".yaml")).code == 0


@pytest.fixture
def without_tabular(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled modality of several columns takes none."""
    monkeypatch.setattr(Tabular, "suggest_columns", lambda columns: None)


def write_records(path: Path, *drop: str) -> Path:
    rows = [{**row, "note": f"a note about {row['label']}", "nothing": None} for row in records.rows()]
    kept = [{name: value for name, value in row.items() if name not in ("a", *drop)} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return path


@pytest.mark.usefixtures("without_tabular")
def test_columns_that_no_modality_takes_alone_are_shown_to_those_of_several_columns(
    cli: Caller, tmp_path: Path
) -> None:
    records.register()
    recipe = written(cli, write_records(tmp_path / "t.jsonl"))
    assert list(recipe["modalities"]) == ["records", "note"]  # in the order of the columns
    assert recipe["modalities"]["records"] == {
        "type": "records",
        "columns": ["price", "brand", "weight"],
        "noise": 0.1,
        "encoder": "record_mlp",
    }
    text = (tmp_path / "t.yaml").read_text()
    assert "# 2 of numbers" in text
    assert "nothing: left out; it is empty" in text
    assert "price: left out" not in text
    assert cli("train", tmp_path / "t.yaml", "--out", tmp_path / "run", "--set", "training.epochs=1", "-q").code == 0


@pytest.mark.usefixtures("without_tabular")
def test_a_modality_of_several_columns_that_takes_none_leaves_them_out(cli: Caller, tmp_path: Path) -> None:
    records.register()
    recipe = written(cli, write_records(tmp_path / "t.jsonl", "price", "weight"))
    assert list(recipe["modalities"]) == ["note"]
    assert "brand: left out; 2 different words, rather a label" in (tmp_path / "t.yaml").read_text()


@pytest.mark.usefixtures("without_tabular")
@pytest.mark.parametrize("found", [([], {}), (["not there"], {}), 3, (["price"], None)])
def test_what_a_modality_of_several_columns_must_not_answer_is_no_answer(
    found: Any, cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.register()
    monkeypatch.setattr(records.Records, "suggest_columns", lambda columns: found)
    assert list(written(cli, write_records(tmp_path / "t.jsonl"))["modalities"]) == ["note"]


@pytest.mark.usefixtures("without_tabular")
def test_what_one_modality_of_several_columns_has_taken_is_not_shown_to_the_next(
    cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(records.Records):
        """Takes whatever is left."""

    records.register()
    registry.register("modality", "zz_later", Later)
    monkeypatch.setattr(records.Records, "suggest_columns", lambda columns: (["price"], {}))
    monkeypatch.setattr(Later, "suggest_columns", lambda columns: ([*columns], {}))
    recipe = written(cli, write_records(tmp_path / "t.jsonl"))
    assert recipe["modalities"]["records"]["columns"] == ["price"]
    assert recipe["modalities"]["zz_later"]["columns"] == ["brand", "weight"]


@pytest.mark.usefixtures("without_tabular")
def test_an_input_of_several_columns_gets_a_name_that_no_other_has(cli: Caller, tmp_path: Path) -> None:
    records.register()
    rows = [{"records": f"a note about {row['label']}", **row} for row in records.rows()]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({**row, "a": None}) + "\n" for row in rows))
    recipe = written(cli, tmp_path / "t.jsonl")
    assert {name: given["type"] for name, given in recipe["modalities"].items()} == {
        "records": "text",
        "records_": "records",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothere.csv"], "there is no table nothere.csv"),
        (["images"], "images is a folder"),
        (["images/0.png"], "a table's file ends in one of"),
        (["table.csv", "--target", "labl"], "no column 'labl'; did you mean 'label'?"),
        (["table.csv", "--target", "id"], "holds 60 different values in 60 rows, such as 'r0'"),
        (["table.csv", "--out", "recipe.yaml"], "'recipe.yaml' is there already"),
        (["table.csv", "--out", "table.csv/x.yaml"], "table.csv is a file, not a folder"),
    ],
)
def test_what_cannot_be_started_with_is_refused(arguments: list[str], said: str, cli: Caller, here: Path) -> None:
    before = (here / "recipe.yaml").read_text()
    done = cli("init", *arguments, *([] if "--out" in arguments else ["--out", "new.yaml"]))
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (here / "new.yaml").exists()
    assert (here / "recipe.yaml").read_text() == before


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"title": f"{n}", "label": '["a", "b"]' if n % 2 else "[]"} for n in range(9)], "lists written as text"),
        ([{"title": f"thing {n}", "label": f"{n},{n % 7}"} for n in range(30)], "holds 30 different values"),
        (
            [
                {"title": f"t {n}", "label": "ab"[n % 2] if n else "z", "split": "train" if n else "test"}
                for n in range(9)
            ],
            "1 label never seen in training: 'z' (1)",
        ),
        ([{"a text": "one thing", "price": 1.5}], "which column is to be predicted? Say it by --target"),
        ([{"title": "one thing", "label": "a"}] * 4, "holds 'a' in every row"),
        ([{"title": "one thing", "label": ""}] * 4, "'label' is empty"),
        ([{"title": f"thing {n}", "label": f"x{n}"} for n in range(5)], "holds 5 different values in 5 rows"),
        ([{"size": n, "label": "ab"[n % 2]} for n in range(4)], "none of the columns size is of an installed modality"),
        (
            [{"word": f"w{n}", "label": "ab"[n % 2]} for n in range(30)],
            "word: 30 of its cells were looked at, and no two are alike, as names of rows are; type: text would read",
        ),
        ([{"id": n, "label": "ab"[n % 2]} for n in range(4)], "\n  id: it names the rows"),
    ],
)
def test_tables_that_nothing_can_be_learned_from_are_refused(
    rows: list[dict[str, Any]], said: str, cli: Caller, tmp_path: Path
) -> None:
    done = cli("init", write_table(tmp_path / "t.csv", rows), "--out", tmp_path / "r.yaml")
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "r.yaml").exists()


@pytest.mark.parametrize(("held_out", "fusion"), [(99, "product"), (100, "calibrated")])
def test_enough_validation_rows_say_how_far_each_modality_is_to_be_trusted(
    held_out: int, fusion: str, cli: Caller, tmp_path: Path
) -> None:
    splits = ["train"] * 60 + ["validation"] * held_out + ["test"] * 20
    rows = [
        {"split": split, "note": f"a thing {n}", "weight": n % 7 / 3, "label": "ab"[n % 2]}
        for n, split in enumerate(splits)
    ]
    recipe = written(cli, write_table(tmp_path / "table.csv", rows))
    assert len(recipe["modalities"]) == 2
    assert recipe["fusion"] == fusion


def test_a_random_split_with_enough_rows_for_it_is_calibrated_too(cli: Caller, tmp_path: Path) -> None:
    for number, fusion in ((600, "product"), (1000, "calibrated")):
        rows = [{"note": f"a thing {n}", "weight": n % 7 / 3, "label": "ab"[n % 2]} for n in range(number)]
        assert written(cli, write_table(tmp_path / f"{number}.csv", rows))["fusion"] == fusion


def test_a_column_of_lists_of_numbers_is_no_split_and_stops_nothing(cli: Caller, here: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {**row, "image": str(here / row["image"]), "measured": [0.5, 1.5]} for row in read_table(here / "table.csv")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    recipe = written(cli, tmp_path / "table.parquet", "--target", "label")
    assert "image" in recipe["modalities"]
    assert recipe["modalities"]["measured"] == {"type": "vector", "column": "measured", "encoder": "mlp"}
    done = cli("validate", tmp_path / "table.yaml", "--set", "split=measured")
    assert done.code == 2
    assert "the split column 'measured' holds list<element: double>, not names of splits" in done.err


@pytest.mark.parametrize(
    ("name", "rows_each", "told"),
    [
        ("patient", 4, True),
        ("speakerId", 4, True),
        ("id", 4, True),
        ("patient", 1, False),  # each row is of another one
        ("group", 30, False),  # a few kinds
        ("colour", 4, False),
    ],
)
def test_a_column_that_says_whose_rows_are_is_told_where_they_are_split_at_random(
    cli: Caller, tmp_path: Path, name: str, rows_each: int, told: bool
) -> None:
    rows = [
        {"size": n % 13, name: f"v{n // rows_each}" if rows_each < 30 else f"v{n % 4}", "kind": "ab"[n % 2]}
        for n in range(120)
    ]
    write_table(tmp_path / "t.csv", rows)
    text = cli("init", tmp_path / "t.csv", "--target", "kind", "--out", tmp_path / "r.yaml").out
    assert (f"# note: rows of one {name} may be in several splits" in text) is told
    if told:
        split = re.search(r"# (split: \{.*\}) keeps them together", text)
        assert split is not None
        other = re.sub(r"^split: .*$", split[1], text, count=1, flags=re.MULTILINE)
        (tmp_path / "r.yaml").write_text(other)
        assert yaml.safe_load(other)["split"]["by"] == name
        assert cli("validate", tmp_path / "r.yaml").code == 0
