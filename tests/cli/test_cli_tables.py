"""Tables that are written in other ways, from the command line to the run: separators, encodings, marks of absence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from small import Caller

import mmreg
from mmreg.errors import TableError

SETTINGS = ("--set", "training.epochs=1", "-q")
HEADER = "key;words;price;label\n"


def rows(first: int = 0) -> str:
    """Forty rows with words in Latin script and commas."""
    words = ("th\u00e9, froid", "caf\u00e9, warm")
    return "".join(f"r{n};{words[n % 2]} {n};{n};{'ab'[n % 2]}\n" for n in range(first, first + 40))


def write(path: Path, text: str, encoding: str = "latin-1") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_what_is_said_of_a_file_is_kept_from_init_to_the_run(cli: Caller, tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", HEADER + rows())
    done = cli("init", table, "--out", tmp_path / "r.yaml")
    assert done.code == 2
    assert "t.csv, line 2: byte 0xe9" in done.err
    assert "--encoding cp1252" in done.err
    done = cli("init", table, "--out", tmp_path / "r.yaml", "--encoding", "cp1252", "--separator", ";")
    assert done.code == 0, done.err
    said = {"path": "t.csv", "separator": ";", "encoding": "cp1252"}
    assert yaml.safe_load(done.out)["table"] == said
    done = cli("train", tmp_path / "r.yaml", "--out", tmp_path / "run", *SETTINGS)
    assert done.code == 0, done.err
    kept = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["table"]
    assert kept == {**said, "path": str(table)}
    assert cli("evaluate", tmp_path / "run").code == 0
    done = cli("predict", tmp_path / "run", table)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 41

    other = Path(shutil.copy(table, tmp_path / "other.csv"))
    for command in ("predict", "evaluate"):
        assert "--encoding cp1252" in cli(command, tmp_path / "run", other).err
        done = cli(command, tmp_path / "run", other, "--encoding", "cp1252")
        assert done.code == 0, done.err
        assert "say how a TABLE is written" in cli(command, tmp_path / "run", "--encoding", "cp1252").err or (
            command == "predict"
        )
    run = mmreg.load(tmp_path / "run", "cpu")
    assert len(run.predict(mmreg.TableFile(other, encoding="cp1252"))) == 40
    with pytest.raises(TableError, match="is not UTF-8"):
        run.predict(other)


def test_a_table_to_train_may_be_said_to_be_written_otherwise(cli: Caller, tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", (HEADER + rows()).replace(";", ":"))
    done = cli("train", table, "--separator", ":", "--encoding", "latin-1", "--out", tmp_path / "run", *SETTINGS)
    assert done.code == 0, done.err
    said = {"path": "t.csv", "separator": ":", "encoding": "latin-1"}
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["table"] == said
    done = cli("train", tmp_path / "run.yaml", "--separator", ";")
    assert done.code == 2
    assert "--separator goes with a table, and" in done.err


def test_each_split_may_be_written_in_its_own_way(cli: Caller, tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER + rows())
    write(tmp_path / "validation.csv", HEADER + rows(100), "utf-8")
    write(tmp_path / "test.tsv", (HEADER + rows(200)).replace(";", "\t"), "utf-16")
    recipe = {
        "table": {
            "train": {"path": "train.csv", "encoding": "latin-1"},
            "validation": "validation.csv",
            "test": {"path": "test.tsv", "separator": "tab"},
            "separator": ";",
        },
        "target": {"column": "label"},
        "modalities": {"text": {"column": "words"}},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    done = cli("train", tmp_path / "r.yaml", "--out", tmp_path / "run", *SETTINGS)
    assert done.code == 0, done.err
    kept = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["table"]
    assert kept == {
        "train": {"path": str(tmp_path / "train.csv"), "encoding": "latin-1"},
        "validation": str(tmp_path / "validation.csv"),
        "test": {"path": str(tmp_path / "test.tsv"), "separator": "\t"},
        "separator": ";",
    }
    assert cli("evaluate", tmp_path / "run", "--split", "train").code == 0
    assert cli("predict", tmp_path / "run", tmp_path / "train.csv").code == 0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{path: a.csv, train: b.csv}", "table: must be text or a mapping of either path, or train with validation"),
        ("{validation: b.csv}", "table: must be text or a mapping of path, or of train with validation and test"),
        ("{}", "table: must be text or a mapping of path, or of train with validation and test"),
        ("{pth: a.csv}", "table.pth: is no option here; did you mean 'path'?"),
        ("{train: {path: a.csv, seperator: x}}", "table.train.seperator: is no option here; did you mean 'separator'?"),
        ("{path: a.csv, separator: ab}", "table.separator: must be one character such as"),
        ("{path: a.csv, encoding: klingon}", "table.encoding: must be one of texts that Python knows"),
        ("{train: {path: 3}}", "table.train.path: must be text, found 3"),
    ],
)
def test_a_table_that_is_said_wrongly_is_told_by_its_key(cli: Caller, here: Path, table: str, said: str) -> None:
    done = cli("validate", "recipe.yaml", "--set", f"table={table}")
    assert done.code == 2
    assert said in done.err


def test_a_dict_of_columns_is_a_table_and_no_path() -> None:
    keys = {"target": {"column": "label"}, "modalities": {"text": {"column": "path"}}}
    columns = {"path": ["some words"], "label": ["a"]}
    assert mmreg.Recipe(table=columns, **keys).tables == {"": columns}
    by_split = {"train": columns, "test": [{"path": "some words"}]}
    assert mmreg.Recipe(table=by_split, **keys).tables == by_split
    assert mmreg.Recipe(table={"path": Path("t.csv")}, **keys).tables == {}


@pytest.fixture
def with_words(tmp_path: Path) -> Path:
    """A table where words stand for nothing, in texts, numbers and the target."""
    words = ["NA", "null", "some words in a row", "more words in a row"]
    lines = [f"{words[n % 4]};{'NA' if n % 5 == 0 else n};{n},5;{'NA' if n == 7 else 'ab'[n % 2]}" for n in range(40)]
    return write(tmp_path / "t.csv", "\n".join(["words;amount;price;label", *lines]) + "\n")


def test_words_for_nothing_and_decimal_commas_are_told_a_line_a_column(cli: Caller, with_words: Path) -> None:
    done = cli("init", with_words, "--out", with_words.with_suffix(".yaml"))
    assert done.code == 0, done.err
    words = "column 'words': 20 cells hold 'NA' (10), 'null' (10), texts like any other; missing: [\"NA\", \"null\"]"
    label = "column 'label': 1 cell holds 'NA' (1), texts like any other; missing: [\"NA\"] makes them absent"
    notes = [line.split("# note: ")[1] for line in done.out.splitlines() if "# note: " in line]
    assert len(notes) == 4
    assert notes[0] == label + "; then on_bad: skip leaves out rows without a target"
    assert notes[1] == words + " makes them absent"
    assert notes[2].startswith("column 'amount': 8 cells hold 'NA' (8)")
    assert (
        notes[3] == "column 'price': 40 numbers have a decimal comma, so they are texts; with a point they are numbers"
    )
    done = cli("validate", with_words.with_suffix(".yaml"))
    assert done.code == 0, done.err
    told = [line for line in done.err.splitlines() if line.endswith("makes them absent")]
    assert told == [f"note: {label}", f"note: {notes[1]}"]  # of the columns that the recipe reads


def test_marked_cells_are_absent_in_training_and_in_use(cli: Caller, with_words: Path, tmp_path: Path) -> None:
    recipe = with_words.with_suffix(".yaml")
    assert cli("init", with_words, "--out", recipe).code == 0
    recipe.write_text(recipe.read_text() + 'missing: ["NA", "null"]\n')
    done = cli("validate", recipe)
    assert "1 row has no value in the target column 'label'" in done.err
    done = cli("train", recipe, "--set", "on_bad=skip", "--out", tmp_path / "run", *SETTINGS)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run/report.json").read_text())["notes"][0].endswith("skipped")
    other = Path(shutil.copy(with_words, tmp_path / "other.csv"))
    for table in (with_words, other):
        done = cli("predict", tmp_path / "run", table, "--out", tmp_path / "p.jsonl", "-q")
        assert done.code == 0, done.err
        had = [json.loads(line)["modalities"] for line in (tmp_path / "p.jsonl").read_text().splitlines()]
        assert had == ["", "", "words", "words"] * 10
    predicted = mmreg.load(tmp_path / "run", "cpu").predict([{"words": "NA"}, {"words": "some words in a row"}])
    assert [row["modalities"] for row in predicted] == ["", "words"]


def test_marked_cells_leave_numbers(cli: Caller, with_words: Path, tmp_path: Path) -> None:
    recipe = with_words.with_suffix(".yaml")
    assert cli("init", with_words, "--target", "amount", "--out", recipe).code == 2  # too many words
    assert cli("init", with_words, "--out", recipe).code == 0
    settings = ["target={column: amount, task: regression}", "missing=[NA]", "on_bad=skip"]
    done = cli("validate", recipe, *(part for setting in settings for part in ("--set", setting)))
    assert done.code == 0, done.err
    assert "8 rows have no value in the target column 'amount' (first: t.csv, row 1: empty); skipped" in done.err
