"""`mmreg runs`: what is listed, filtered, sorted, compared and removed; and that nothing but a run is ever removed."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_runs import make_run
from small import Caller

from mmreg.run_files.lock import writing
from mmreg.run_files.summary import DEEPEST


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with three runs that have ended and one that was stopped."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "first", fusion="concat", accuracy=0.7, epochs=5, date=1_700_000_000)
    make_run(tmp_path / "more" / "second", fusion="product", accuracy=0.9, lr=0.1, date=1_700_000_300)
    make_run(tmp_path / "more" / "third", fusion="concat", accuracy=0.8, date=1_700_000_200)
    make_run(tmp_path / "stopped", accuracy=None, date=1_700_000_100)
    return tmp_path


def listed(cli: Caller, *arguments: str) -> list[dict[str, Any]]:
    done = cli("runs", *arguments, "--format", "json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)  # type: ignore[no-any-return]


def names(cli: Caller, *arguments: str) -> list[str]:
    return [run["run"] for run in listed(cli, *arguments)]


@pytest.mark.usefixtures("place")
def test_runs_are_listed_with_what_they_are_the_newest_first(cli: Caller) -> None:
    rows = listed(cli)
    assert [row["run"] for row in rows] == ["more/second", "more/third", "stopped", "first"]
    assert rows[0] | {"date": "", "metrics": {}} == {
        "run": "more/second",
        "date": "",
        "status": "whole",
        "modalities": ["image", "title"],
        "fusion": "product",
        "rows": 100,
        "metric": "accuracy",
        "value": 0.9,
        "split": "test",
        "seconds": 4.0,
        "about": "",
        "metrics": {},
    }
    assert rows[0]["metrics"] == {"accuracy": 0.9, "f1": 0.45}
    assert (rows[2]["status"], rows[2]["value"], rows[2]["split"]) == ("stopped", None, None)
    assert names(cli, "list", "more") == names(cli, "more") == ["more/second", "more/third"]
    assert names(cli, "more/third") == ["more/third"]


@pytest.mark.usefixtures("place")
def test_a_table_in_a_pipe_is_plain_columns_and_the_count_is_no_part_of_it(cli: Caller) -> None:
    done = cli("runs", "more")
    lines = done.out.splitlines()
    assert lines[0].split() == ["run", "date", "status", "modalities", "fusion", "rows", "seconds", "result"]
    assert "more/second" in lines[1]
    assert lines[1].endswith("accuracy 0.9 (test)")
    assert len(lines) == 3
    assert "\x1b" not in done.out
    assert done.err == "2 runs below more\n"
    assert cli("runs", "--where", "fusion=product").err == "1 of 4 runs below .\n"


@pytest.mark.usefixtures("place")
def test_csv_and_markdown_have_every_column(cli: Caller) -> None:
    rows = list(csv.DictReader(cli("runs", "more", "--format", "csv").out.splitlines()))
    assert [(row["run"], row["value"], row["modalities"]) for row in rows] == [
        ("more/second", "0.9", "image, title"),
        ("more/third", "0.8", "image, title"),
    ]
    lines = cli("runs", "more", "--format", "markdown").out.splitlines()
    assert lines[0].startswith("| run | date | status | modalities |")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        (["accuracy>0.8"], ["more/second"]),
        (["accuracy>=0.8"], ["more/second", "more/third"]),
        (["accuracy < 0.8"], ["first"]),
        (["fusion=concat", "status=whole"], ["more/third", "first"]),
        (["fusion!=concat"], ["more/second"]),
        (["test.accuracy==0.7"], ["first"]),
        (["validation.accuracy>0.9"], ["more/second"]),
        (["test.modalities.image.accuracy<0.2"], ["first"]),
        (["f1<0.4"], ["first"]),
        (["training.epochs>2"], ["first"]),
        (["training.optimizer.lr>0.01"], ["more/second"]),
        (["training.optimizer=AdamW", "rows=100", "accuracy>0"], ["more/second", "more/third", "first"]),
        (["modalities.image.type=image", "modalities=title", "best.epoch=1", "run=first"], ["first"]),
        (["status='stopped'"], ["stopped"]),
        (["status>0"], []),
        (["accuracy!=0.9"], ["more/third", "first"]),  # and not the one without any
    ],
)
@pytest.mark.usefixtures("place")
def test_only_runs_for_which_all_conditions_hold_are_listed(
    conditions: list[str], kept: list[str], cli: Caller
) -> None:
    assert names(cli, *(part for each in conditions for part in ("--where", each))) == kept


@pytest.mark.usefixtures("place")
def test_runs_are_sorted_by_a_metric_or_a_key_those_without_it_at_the_end(cli: Caller) -> None:
    assert names(cli, "--sort", "accuracy") == ["first", "more/third", "more/second", "stopped"]
    assert names(cli, "--sort", "accuracy", "--reverse") == ["more/second", "more/third", "first", "stopped"]
    assert names(cli, "--sort", "fusion", "--reverse")[0] == "more/second"
    assert names(cli, "--sort", "training.epochs")[-1] == "first"
    assert names(cli, "--reverse") == ["first", "stopped", "more/third", "more/second"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--where", "acuracy>0.8"], "did you mean 'accuracy'"),
        (["--where", "accuracy"], "is no condition"),
        (["--where", "accuracy>x"], "accuracy is a number, and 'x' is none"),
        (["--where", "accuracy=>0.5"], "accuracy is a number, and '>0.5' is none"),
        (["--where", "__import__('os').system('touch gone')"], "is no condition"),
        (["--where", "x.__class__=1"], "no run has anything under the name 'x.__class__'"),
        (["--sort", "training.epoch"], "did you mean 'training.epochs'"),
        (["nowhere"], "there is no folder 'nowhere'"),
        (["dif", "first", "stopped"], "Did you mean 'diff'"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_near(arguments: list[str], said: str, cli: Caller, place: Path) -> None:
    done = cli("runs", *arguments)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert not (place / "gone").exists()


def test_a_folder_without_runs_says_so(cli: Caller, tmp_path: Path) -> None:
    (tmp_path / "components.json").write_text("{}")  # of another program
    done = cli("runs", tmp_path)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("there is no run below")
    assert listed(cli, str(tmp_path)) == []


def test_a_run_that_is_being_written_tells_by_whom(cli: Caller, place: Path) -> None:
    with writing(place / "stopped"):
        (row,) = [each for each in listed(cli) if each["run"] == "stopped"]
    assert row["status"] == "writing"
    assert row["about"].startswith("this process")
    assert [each["status"] for each in listed(cli, "stopped")] == ["stopped"]


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no JSON": (lambda run: (run / "components.json").write_text("{"), "components.json is damaged"),
    "a number beyond floats": (
        lambda run: (run / "report.json").write_text('{"test": {"metrics": {"accuracy": 1' + 400 * "0" + "}}}"),
        "OverflowError",
    ),
    "another type": (lambda run: (run / "components.json").write_text("[1]"), "components.json is damaged"),
    "edited": (lambda run: edit(run / "components.json", "concat", "concot"), "does not fit its checksum"),
    "binary": (lambda run: (run / "components.json").write_bytes(b"\xff\x00"), "components.json is damaged"),
    "deep": (lambda run: (run / "report.json").write_text("[" * 100_000), "RecursionError"),
    "report": (lambda run: (run / "report.json").write_text('{"test": 5}'), "TypeError"),
    "figures": (lambda run: (run / "report.json").write_text('{"test": {"metrics": [1]}}'), "AttributeError"),
    "no recipe": (lambda run: (run / "recipe.yaml").unlink(), "recipe.yaml is gone"),
    "no weights": (lambda run: (run / "model.safetensors").unlink(), "model.safetensors is gone"),
    "short weights": (lambda run: os.truncate(run / "model.safetensors", 100), "is not as it was written"),
    "noise": (lambda run: (run / "model.safetensors").write_bytes(bytes(range(100))), "is not as it was written"),
    "a byte more": (lambda run: longer(run / "model.safetensors"), "is not as it was written"),
    "a link": (lambda run: linked(run / "report.json"), "is a symbolic link"),
    "a loop": (lambda run: linked(run / "report.json", run / "report.json"), "is a symbolic link"),
    "a FIFO": (lambda run: fifo(run / "report.json"), "is a FIFO"),
    "large": (lambda run: os.truncate(run / "report.json", 1 << 40), "larger than 64 MiB"),
}


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def linked(path: Path, target: Path = Path("/etc/passwd")) -> None:
    path.unlink()
    path.symlink_to(target)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_run_is_listed_with_what_is_wrong(what: str, cli: Caller, tmp_path: Path) -> None:
    damage, said = DAMAGES[what]
    run = make_run(tmp_path / "bad")
    damage(run)
    make_run(tmp_path / "good")
    rows = {Path(row["run"]).name: row for row in listed(cli, str(tmp_path))}
    assert rows["good"]["status"] == "whole"
    assert rows["bad"]["status"] == "damaged"
    assert said in rows["bad"]["about"]
    assert cli("runs", tmp_path, "--where", "training.epochs=2").code == 0


def test_a_damaged_recipe_has_no_keys(cli: Caller, tmp_path: Path) -> None:
    run = make_run(tmp_path / "bad")
    make_run(tmp_path / "good")
    (run / "recipe.yaml").write_text("a: &a [*a]")
    assert [Path(name).name for name in names(cli, str(tmp_path), "--where", "training.epochs=2")] == ["good"]
    done = cli("runs", "diff", run, tmp_path / "good")
    assert done.code == 2
    assert "recipe.yaml" in done.err


def test_names_that_would_steer_a_terminal_do_not(cli: Caller, tmp_path: Path) -> None:
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    make_run(tmp_path / "\x1b[31m[red]x[/red]\n", facts={"table": {"rows": {"\x1b[0m": 5}}})
    make_run(strange / "run")
    for form in ("table", "json", "csv", "markdown"):
        done = cli("runs", tmp_path, "--format", form)
        assert done.code == 0
        assert "\x1b" not in done.out + done.err
        assert "[red]x[/red]" in done.out


def test_links_and_hidden_folders_are_not_followed_nor_what_is_too_deep(cli: Caller, tmp_path: Path) -> None:
    place = tmp_path / "place"
    make_run(tmp_path / "elsewhere")
    make_run(place / ".hidden" / "run")
    make_run(place / "/".join("abcdef"[:DEEPEST]))
    make_run(place.joinpath(*"gfedcba"[: DEEPEST + 1]))
    (place / "link").symlink_to(tmp_path / "elsewhere")
    (place / "loop").symlink_to(place)
    assert names(cli, str(place)) == [str(place / "a/b/c/d/e/f")]


def test_of_what_only_one_run_has_single_keys_are_told(cli: Caller, tmp_path: Path) -> None:
    image = {"type": "image", "encoder": {"name": "image_cnn", "channels": [8, 16]}, "augment": None}
    recipes = {
        "one": {"modalities": {"image": image}, "split": "split", "callbacks": [{"name": "statistics", "every": 5}]},
        "two": {"modalities": {}, "split": {"test": 0.5}, "callbacks": [{"name": "statistics", "every": 9}]},
    }
    for name, recipe in recipes.items():
        make_run(tmp_path / name)
        (tmp_path / name / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    lines = cli("runs", "diff", tmp_path / "one", tmp_path / "two").out.splitlines()
    assert lines == [
        "modalities.image.type: image -> nothing",
        "modalities.image.encoder.name: image_cnn -> nothing",
        "modalities.image.encoder.channels: [8, 16] -> nothing",
        "split: split -> nothing",
        "callbacks.0.every: 5 -> 9",
        "split.test: nothing -> 0.5",
    ]


@pytest.mark.usefixtures("place")
def test_two_runs_are_compared_by_the_keys_and_figures_in_which_they_differ(cli: Caller) -> None:
    rows = json.loads(cli("runs", "diff", "first", "more/second", "--format", "json").out)
    assert {row["key"]: (row["first"], row["second"]) for row in rows} == {
        "fusion.name": ("mmreg:concat", "mmreg:product"),
        "training.epochs": (5, 2),
        "training.optimizer.lr": (0.001, 0.1),
        "test.accuracy": (0.7, 0.9),
        "test.f1": (0.35, 0.45),
    }
    assert cli("runs", "diff", "first", "more/second").out.splitlines() == [
        "fusion.name: mmreg:concat -> mmreg:product",
        "training.epochs: 5 -> 2",
        "training.optimizer.lr: 0.001 -> 0.1",
        "test.accuracy: 0.7 -> 0.9",
        "test.f1: 0.35 -> 0.45",
    ]
    assert cli("runs", "diff", "first", "more/second", "--format", "csv").out.startswith("key,first,more/second\n")
    assert cli("runs", "diff", "first", "first").err == "they differ in nothing\n"
    assert cli("runs", "diff", "first", "more").code == 2


@pytest.mark.usefixtures("place")
def test_a_run_is_removed_after_it_was_asked_for(cli: Caller, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert cli("runs", "remove", "first").code == 1
    assert (place / "first").is_dir()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    done = cli("runs", "remove", "first", "more/second")
    assert done.code == 0
    assert "Remove 2 runs?" in done.err
    assert {path.name for path in place.iterdir()} == {"more", "stopped"}
    assert [path.name for path in (place / "more").iterdir()] == ["third"]
    assert cli("runs", "remove", "stopped", "--yes").code == 0
    assert not (place / "stopped").exists()


def own(run: Path, name: str) -> Path:
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("x")
    return run


def test_all_that_trainings_write_goes_with_a_run(cli: Caller, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    make_run(run / "fold-1")
    further = ("fold-1.yaml", "fold-1.log", ".report.json.0a1b.tmp")
    for name in (*further, "tensorboard/events.out", "assets/01234567-x.bin"):
        own(run, name)
    done = cli("runs", "remove", run, "--yes")
    assert (done.code, list(tmp_path.iterdir())) == (0, [])


def refused(cli: Caller, run: str | Path, said: str, *options: str) -> None:
    """A folder that stays exactly as it is."""
    place = Path(run)
    before = sorted(place.rglob("*"))
    done = cli("runs", "remove", run, "--yes", *options)
    assert done.code == 2
    assert said in done.err
    assert sorted(place.rglob("*")) == before


def test_what_is_no_run_is_never_removed(cli: Caller, place: Path) -> None:
    (place / "empty").mkdir()
    (place / "mine").mkdir()
    own(place / "mine", "diary.txt")
    (place / "a file").write_text("x")
    for name in ("empty", "mine", "a file", "more", "nowhere", ".", "..", "/"):
        done = cli("runs", "remove", name, "--yes", "--others")
        assert done.code == 2, name
    assert (place / "mine" / "diary.txt").is_file()
    (place / "fake").mkdir()
    for name in ("components.json", "recipe.yaml"):
        (place / "fake" / name).symlink_to(place / "first" / name)
    refused(cli, "fake", "is no run", "--others")
    (place / "link").symlink_to(place / "first")
    refused(cli, "link", "is a symbolic link")
    assert (place / "first" / "recipe.yaml").is_file()


def test_a_run_that_holds_something_else_is_refused_unless_that_may_go_too(cli: Caller, place: Path) -> None:
    precious = place / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    for name in ("notes.txt", "predictions/mine.csv", ".git/HEAD", "src/main.py"):
        own(place / "first", name)
    (place / "first" / "checkpoints").symlink_to(precious)
    refused(cli, "first", "holds what no training writes: '.git', 'checkpoints', 'notes.txt', 'predictions/mine.csv'")
    assert cli("runs", "remove", "first", "--yes", "--others").code == 0
    assert not (place / "first").exists()
    assert (precious / "file").read_text() == "x"  # where the link led to


def test_a_run_that_somebody_writes_to_is_refused_and_one_around_the_working_directory(
    cli: Caller, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing(place / "stopped"):
        done = cli("runs", "remove", "first", "stopped", "--yes")
        assert (done.code, "is being written to by" in done.err) == (2, True)
        assert (place / "first").is_dir()  # nothing goes where something is wrong
    member = make_run(place / "first" / "fold-1")
    with writing(member):
        refused(cli, "first", "is being written to by")
    monkeypatch.chdir(member)
    refused(cli, place / "first", "holds the working directory")
    refused(cli, ".", "holds the working directory")


def test_a_removal_that_breaks_off_leaves_a_run(cli: Caller, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def broken(path: Path, missing_ok: bool = False) -> None:
        if path.name == "recipe.yaml":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", broken)
        assert cli("runs", "remove", "first", "--yes").code == 1
    assert {path.name for path in (place / "first").iterdir()} == {"recipe.yaml", "components.json"}
    assert cli("runs", "remove", "first", "--yes").code == 0
    assert not (place / "first").exists()


LIGHT = """
import json, sys
from mmreg.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["mmreg", "runs", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
    heavy = sorted({"torch", "numpy", "pyarrow"} & set(sys.modules))
    assert not heavy, (arguments, heavy)
"""


def test_nothing_heavy_is_imported(place: Path) -> None:
    commands = [
        ["--where", "training.epochs<9", "--sort", "accuracy"],
        ["diff", "first", "stopped"],
        ["remove", "first", "-y"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (place / "first").exists()


def test_runs_that_were_trained_are_listed_as_their_reports_tell(cli: Caller, trained: Path) -> None:
    (row,) = listed(cli, str(trained))
    report = json.loads((trained / "run" / "report.json").read_text())
    assert row["value"] == report["test"]["metrics"][row["metric"]]
    assert (row["status"], row["fusion"], row["rows"]) == ("whole", "product", 60)
    assert row["modalities"] == ["image", "title", "audio"]
    assert names(cli, str(trained), "--where", "training.batch_size=16") == [str(trained / "run")]
