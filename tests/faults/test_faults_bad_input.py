"""Bad input from end to end: exit code 2, one message with table, row, column, path and cause, no traceback."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import RECIPE, Called, call, make_folder, read_table, write_table

import mmreg
from mmreg.errors import OptionError

Rows = list[dict[str, Any]]
BAD_IMAGES = {
    "zero.png": "empty: 0 bytes",
    "cut.png": "a damaged or truncated PNG picture",
    "sound.png": "not a picture but a WAV sound",
    "words.png": "not a picture but plain text",
    "bomb.png": "a picture of 60000 x 60000 pixels is refused",
    "folder.png": "a folder, not a file",
    "gone.png": "there is no file",
}
BAD_SOUNDS = {
    "zero.wav": "an empty file (0 bytes)",
    "garbage.wav": "cannot be read as a sound",
    "header.wav": "a sound file without a single sample",
    "folder.wav": "a folder, not a sound file",
    "gone.wav": "there is no file",
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(size: int) -> bytes:
    """A PNG of a few bytes whose header promises size x size pixels."""
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small table, and beside it files that are wrong in every way."""
    folder = make_folder(tmp_path_factory.mktemp("bad"))
    picture, sound = (folder / "images/0.png").read_bytes(), (folder / "sounds/0.wav").read_bytes()
    bad = folder / "bad"
    for name in ("folder.png", "folder.wav"):
        (bad / name).mkdir(parents=True)
    for name, content in {
        "zero.png": b"",
        "cut.png": picture[: len(picture) // 2],
        "sound.png": sound,
        "words.png": b"hello " * 50,
        "bomb.png": bomb(60_000),
        "zero.wav": b"",
        "garbage.wav": bytes(range(256)) * 10,
        "header.wav": sound[:44],
    }.items():
        (bad / name).write_bytes(content)
    rows = read_table(folder / "table.csv")
    for number, name in enumerate(BAD_IMAGES):
        rows[number]["image"] = f"bad/{name}"
    for number, name in enumerate(BAD_SOUNDS, 5):
        rows[number]["audio"] = f"bad/{name}"
    write_table(folder / "cells.csv", rows)
    (folder / "cells.yaml").write_text(RECIPE.replace("table.csv", "cells.csv"))
    return folder


@pytest.fixture
def cli(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """The command line, called in this process, in the folder."""
    monkeypatch.chdir(folder)
    return lambda *arguments: call(monkeypatch, capsys, *map(str, arguments))


Cli = Callable[..., Called]


@pytest.mark.parametrize("policy", ["error", "absent", "skip"])
def test_bad_cells_are_counted_named_and_treated_as_asked(
    policy: str, cli: Cli, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = cli("train", "cells.yaml", "--out", tmp_path / "run", "--set", f"on_bad={policy}", "-q")
    if policy == "error":
        assert (done.code, done.out) == (2, "")
        assert "12 cells cannot be loaded (image: 7 of 60 rows, audio: 5 of 60 rows):" in done.err
        shown = re.findall(r"^  cells\.csv, row (\d+), column (\w+): (\S+): (.+)$", done.err, re.MULTILINE)
        assert [row for row, *_ in shown] == ["1", "2", "3", "4", "5", "6", "6", "7", "7", "8"]  # the first ten
        for _, column, path, cause in shown:
            expected = (BAD_IMAGES if column == "image" else BAD_SOUNDS)[path.removeprefix("bad/")]
            assert expected in cause
        assert "  and 2 more\n" in done.err
        assert "on_bad: absent" in done.err
        assert not (tmp_path / "run/model.safetensors").exists()
        return
    assert done.code == 0, done.err
    what = "taken for absent" if policy == "absent" else "left out"
    assert f"note: image: 7 cells cannot be loaded, {what} (first: cells.csv, row 1, column image: bad/zero" in done.err
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert {name: (bad["count"], bad["on_bad"]) for name, bad in report["bad_cells"].items()} == {
        "image": (7, policy),
        "audio": (5, policy),
    }
    assert report["bad_cells"]["audio"]["first"][1].startswith("cells.csv, row 7, column audio: bad/garbage.wav: ")
    assert len(report["notes"]) == 2
    rows = json.loads((tmp_path / "run/components.json").read_text())["table"]["rows"]
    assert rows["train"] == (36 if policy == "absent" else 26)
    predicted = cli("predict", tmp_path / "run", "cells.csv")
    assert predicted.code == 0
    assert len(predicted.out.splitlines()) == (61 if policy == "absent" else 51)
    assert cli("evaluate", tmp_path / "run", "cells.csv").code == 0
    lines = [f"note: {cells} cannot be loaded, {what} (first: " for cells in ("image: 7 cells", "audio: 5 cells")]
    told = [message for message in caplog.messages if message.startswith("note: ")]
    learned = [text for text in told if "is the table that the run was trained on" in text]
    assert len(learned) == 1, "evaluate tells of it"
    others = [text.partition("cells.csv, row")[0] for text in told if text not in learned]
    assert others == [*lines, *lines]  # of both commands


def test_a_trained_run_may_be_told_what_to_do_with_bad_cells(
    cli: Cli, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert cli("train", "recipe.yaml", "--out", run, "-q").code == 0
    read = {
        "predict": ("predict", run, "cells.csv", "--out", tmp_path / "p.csv"),
        "evaluate": ("evaluate", run, "cells.csv", "--format", "json"),
        "embed": ("embed", run, "cells.csv", "--out", tmp_path / "v.parquet"),
        "map": ("map", run, "cells.csv", "--method", "pca", "--out", tmp_path / "m.csv"),
        "neighbours": ("neighbours", run, "cells.csv", "r20"),
        "explain": ("explain", run, "cells.csv", "--rows", "1..20", "--format", "json"),
    }
    for name, command in read.items():
        stopped = cli(*command)
        assert stopped.code == 2, name
        assert "Mend them, or say --on-bad absent" in stopped.err, name
        for policy, what in (("absent", "taken for absent"), ("skip", "left out")):
            caplog.clear()
            done = cli(*command, "--on-bad", policy)
            assert done.code == 0, (name, done.err)
            assert any(f"cannot be loaded, {what} (first: " in text for text in caplog.messages), name
            if name == "predict":
                assert len(read_table(tmp_path / "p.csv")) == (60 if policy == "absent" else 50)
            if name == "evaluate":
                assert json.loads(done.out)["rows"] == (60 if policy == "absent" else 50)
    assert len(mmreg.load(run, on_bad="skip").predict(folder / "cells.csv")) == 50
    with pytest.raises(OptionError, match="on_bad is one of error, absent, skip, found 'ignore'"):
        mmreg.load(run, on_bad="ignore")


def test_the_policy_may_differ_between_modalities(cli: Cli, tmp_path: Path) -> None:
    done = cli("train", "cells.yaml", "--out", tmp_path / "run", "--set", "modalities.image.on_bad=absent")
    assert done.code == 2
    assert "5 cells cannot be loaded (audio: 5 of 60 rows):" in done.err
    assert "image" not in done.err.split("note:")[0]


def test_skipping_every_training_row_is_refused(cli: Cli, folder: Path, tmp_path: Path) -> None:
    rows = [row | {"image": "bad/zero.png"} for row in read_table(folder / "table.csv")]
    write_table(folder / "allbad.csv", rows)
    done = cli("train", "cells.yaml", "--out", tmp_path / "run", "--set", "table=allbad.csv", "--set", "on_bad=skip")
    assert done.code == 2
    assert "no training row is left" in done.err


def test_a_bomb_costs_no_memory(folder: Path, tmp_path: Path) -> None:
    """Ten gigabytes of pixels are refused by a process that may have two more than it has."""
    script = (
        "import resource, sys, torch, torchvision, mmreg_image.modality as image\n"
        "from pathlib import Path\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 1024**3,) * 2)\n"
        "try:\n"
        "    image.Image().load(Path('bad/bomb.png'))\n"
        "except ValueError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("ValueLoadError a picture of 60000 x 60000 pixels is refused"), done.stderr


def first(rows: Rows, change: dict[str, Any], *numbers: int) -> Rows:
    return [row | change if at in numbers else row for at, row in enumerate(rows)]


def where(rows: Rows, split: str, change: dict[str, Any]) -> Rows:
    return [row | change if row["split"] == split else row for row in rows]


REGRESSION = ["target.column=price", "target.task=regression", "fusion=concat"]


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (lambda rows: [row | {"split": "test"} for row in rows], [], "bad.csv: no row is for training"),
        (lambda rows: first(rows, {"split": "foo"}, 3), [], "must hold train, validation .* 'foo' in 1 row"),
        (lambda rows: [row | {"label": "red"} for row in rows], [], "bad.csv, column 'label', train.* label 'red'"),
        (lambda rows: where(rows, "validation", {"label": "mauve"}), [], "12 labels? never seen.*'mauve'.*row 37"),
        (lambda rows: first(rows, {"label": ""}, 3, 50), [], "2 rows have no value.*'label' .*bad.csv, row 4: empty"),
        (lambda rows: first(rows, {"price": "nan"}, 4), REGRESSION, "no finite value.*'price' .*bad.csv, row 5: nan"),
        (lambda rows: first(rows, {"price": "-inf"}, 50), REGRESSION, "1 row has no finite.*bad.csv, row 51: -inf"),
        (lambda rows: first(rows, {"price": "dear"}, 3), REGRESSION, "bad.csv, column 'price', train rows: .*'dear'"),
        (lambda rows: [row | {"price": 1} for row in rows], REGRESSION, "bad.csv, column 'price'.*constant"),
        (lambda rows: rows, ["target.column=id"], "label of its own"),
        (lambda rows: rows, ["target.weight=title"], "weight column 'title' must hold numbers.*bad.csv, row 1 holds"),
        (lambda rows: [{k: v for k, v in row.items() if k != "title"} for row in rows], [], "no column 'title'"),
        (lambda rows: rows, ["modalities.image.column=imag"], "did you mean 'image'"),
        (lambda rows: rows, ["split={validation: 0.6, test: 0.6}"], "leave nothing for training"),
        (lambda rows: rows, ["split={by: speaker}"], "no column 'speaker'"),
    ],
)
def test_rows_that_nothing_can_be_learned_from(
    change: Callable[[Rows], Rows], settings: list[str], said: str, cli: Cli, folder: Path
) -> None:
    write_table(folder / "bad.csv", change(read_table(folder / "table.csv")))
    overrides = [part for setting in ["table=bad.csv", *settings] for part in ("--set", setting)]
    done = cli("train", "recipe.yaml", *overrides, "--out", folder / "new")
    assert (done.code, done.out) == (2, "")
    assert re.search(said, done.err), done.err
    assert not (folder / "new").exists()


def edited(text: str, line: int, change: Callable[[str], str]) -> str:
    lines = text.splitlines()
    lines[line - 1] = change(lines[line - 1])
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "there is no table none.csv"),
        ("tabel.csv", None, "did you mean 'table.csv'"),
        ("images", None, "images is a folder"),
        ("t.csv", lambda text: b"", "t.csv is empty (0 bytes)"),
        ("t.csv", lambda text: text.splitlines()[0].encode(), "t.csv has no rows"),
        ("t.csv", lambda text: text.replace("blue", "bl\xfc").encode("latin1"), "t.csv, line 4: byte 0xfc"),
        ("t.csv", lambda text: text.encode("utf-16-le"), "t.csv looks like UTF-16 without a mark; name its encoding"),
        ("t.csv", lambda text: edited(text, 6, lambda line: line + ",x").encode(), "line 6 has 9"),
        ("t.csv", lambda text: edited(text, 8, lambda line: line[: line.rindex(",")]).encode(), "line 8 has 7"),
        ("t.csv", lambda text: edited(text, 5, lambda line: '"' + line).encode(), "line 5: a quote opens"),
        ("t.csv", lambda text: text.replace("title", "image", 1).encode(), "more than one column is called 'image'"),
        ("t.csv", lambda text: text.replace(",", ";").encode(), "separator"),
        ("t.jsonl", lambda text: b'{"a": 1}\n{"a":\n', "t.jsonl, line 2 is no JSON"),
        ("t.jsonl", lambda text: b"[1, 2]\n", "t.jsonl, line 1 holds a list"),
        ("t.parquet", lambda text: text.encode(), "t.parquet cannot be read as .parquet"),
        ("t.xlsx", lambda text: b"PK", "a table's file ends in one of .csv"),
    ],
)
def test_tables_that_cannot_be_read(
    name: str, content: Callable[[str], bytes] | None, said: str, cli: Cli, folder: Path, tmp_path: Path
) -> None:
    path = folder / name
    if content is not None:
        path = tmp_path / name
        path.write_bytes(content((folder / "table.csv").read_text()))
    for arguments in (
        ["validate", "recipe.yaml", "--set", f"table={path}"],
        ["init", path, "--out", tmp_path / "r.yaml"],
    ):
        done = cli(*arguments)
        assert done.code == 2, done.out
        assert said in done.err.replace(f"{path.parent}/", ""), done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "found nothing"),
        (b"- a\n- b\n", "found a list"),
        (b"\xff\xfe\x00", "is no recipe: a recipe is YAML in UTF-8"),
        (b"table: [", "line 1: this is no valid YAML"),
        (b"table: a\ntable: b\n", "line 2: the key 'table' stands here twice, first in line 1"),
        (b"metrics: !!python/object/apply:os.system ['touch hacked']\n", "the tag .* is refused"),
        (b"a: &a [*a]\n", "nested too deeply|alias"),
    ],
)
def test_recipes_that_cannot_be_read(content: bytes, said: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    done = cli("validate", tmp_path / "r.yaml")
    assert (done.code, done.out) == (2, "")
    assert re.search(said, done.err), done.err
    assert not Path("hacked").exists()


def test_the_same_files_and_texts_in_two_splits_are_told_in_one_line_by_validate_and_train_alike(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    rows = where(read_table(folder / "table.csv"), "test", {"image": "images/0.png"})
    rows = where(rows, "validation", {"title": "a red thing number 0"})
    write_table(folder / "leak.csv", rows)
    settings = ["--set", "table=leak.csv", "--set", "training.epochs=1"]
    checked = cli("validate", "recipe.yaml", *settings)
    assert checked.code == 0
    text = (
        "figures may be too good, as splits share values: column image: 12 of 12 test rows hold 1 value of train; "
        "column title: 12 of 12 validation rows hold 1 value of train"
    )
    assert checked.err == f"note: {text}\n"
    done = cli("train", "recipe.yaml", *settings, "--out", tmp_path / "run", "-q")
    assert (done.code, sorted(done.err.splitlines())) == (0, [f"note: {text}"])
    assert json.loads((tmp_path / "run/report.json").read_text())["notes"] == [text]


def test_a_bad_row_on_the_command_line_is_named_by_its_column(cli: Cli, folder: Path, tmp_path: Path) -> None:
    assert cli("train", "recipe.yaml", "--out", tmp_path / "run", "-q").code == 0
    for name, cause in BAD_IMAGES.items():
        done = cli("predict", tmp_path / "run", "--value", f"image=bad/{name}")
        assert (done.code, done.out) == (2, "")
        assert f"row 1, column image: bad/{name}" in done.err
        assert cause in done.err


def test_an_unwritable_cache_is_a_failure_of_the_machine(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMREG_CACHE_DIR", os.fspath(folder / "table.csv"))
    done = cli("train", "recipe.yaml", "--out", folder / "new")
    assert (done.code, done.out) == (1, "")
    assert "table.csv cannot be written" in done.err
    assert "MMREG_CACHE_DIR" in done.err
