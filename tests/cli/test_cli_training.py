"""`mmreg train` and `validate`: what is printed, what is written, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from small import RECIPE, Caller

import mmreg


def test_a_training_prints_plain_lines_and_ends_with_figures_and_the_next_commands(
    cli: Caller, here: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = cli("train", "recipe.yaml", "--out", run, "--device", "cpu")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert re.fullmatch(r"rows: 36 train, 12 validation, 12 test; [\d,]+ parameters; cpu, float32", lines[0])
    epoch = r"epoch   {} +[\d.]+ s  loss [\d.]+  validation loss [\d.]+  accuracy [\d.]+  \(image [\d.]+, title .*\)"
    assert re.fullmatch(epoch.format(1), lines[1])
    assert re.fullmatch(epoch.format(2), lines[2])
    columns = ["split", "part", "rows", "accuracy", "accuracy 95% interval", "precision", "recall", "f1"]
    assert re.split("  +", lines[4]) == columns
    parts = ("all", "image", "title", "audio", "always blue")
    assert [re.split("  +", line)[:3] for line in lines[5:15]] == [
        [split, part, "12"] for split in ("validation", "test") for part in parts
    ]
    report = json.loads((run / "report.json").read_text())
    right = round(report["test"]["metrics"]["accuracy"] * 12)
    low, high = report["test"]["metrics"]["intervals"]["accuracy"]
    interval = f"95% interval {100 * low:.0f} to {100 * high:.0f}%"
    headline = f"Accuracy: {100 * right / 12:.0f}% ({right}/12), {interval}; always saying 'blue': 33%"
    assert lines[16] == headline
    assert lines[17:] == [
        "measured on the test rows",
        "weights of epoch {epoch} of {epochs}, the best by validation {metric}".format(**report["best"], **report),
        "",
        f"everything is in {run}; next:",
        f"  mmreg evaluate {run}",
        f"  mmreg predict {run} TABLE --out predictions.csv",
        f"  mmreg refit {run}  # learns from the validation rows as well",
    ]
    assert (report["bad_cells"], report["notes"]) == ({}, [])
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        ("last", "weights of the last of 2 epochs"),
        ("soup", r"weights of (epoch|the mean of the epochs) .* of 2 \(soup\)"),
    ],
)
def test_weights_that_are_not_those_of_the_best_epoch_are_told(
    cli: Caller, text_recipe: Path, tmp_path: Path, keep: str, told: str
) -> None:
    run = tmp_path / "run"
    lines = cli("train", text_recipe, "--out", run, "--set", f"training.keep={keep}").out.splitlines()
    line = lines[lines.index("measured on the test rows") + 1]
    assert re.fullmatch(told, line)
    if keep == "soup":
        epochs = json.loads((run / "report.json").read_text())["soup"]["epochs"]
        assert [int(number) for number in re.findall(r"\d+", line)] == [*epochs, 2]


def test_a_training_of_all_rows_says_that_nothing_was_measured(cli: Caller, text_recipe: Path, tmp_path: Path) -> None:
    shares = ("--set", "split={validation: 0, test: 0}", "--set", "training.epochs=1")
    done = cli("train", text_recipe, "--out", tmp_path / "run", *shares)
    assert (
        "\n\nmeasured on no rows, as there are neither validation nor test rows\nweights of the last of 1 epoch"
        in done.out
    )


def test_quiet_leaves_the_result(cli: Caller, text_recipe: Path, tmp_path: Path) -> None:
    done = cli("train", text_recipe, "--out", tmp_path / "run", "--quiet", "--seed", "3", "--precision", "bfloat16")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"Accuracy: \d+% \(\d+/12\), 95% interval \d+ to \d+%; always saying '\w+': 33%\n", done.out)
    training = mmreg.load(tmp_path / "run").plan.recipe.form.training
    assert (training.seed, training.precision) == (3, "bfloat16")


def test_without_test_rows_it_says_what_was_measured(cli: Caller, text_recipe: Path, tmp_path: Path) -> None:
    shares = "split={validation: 0.2, test: 0}"
    done = cli("train", text_recipe, "--out", tmp_path / "run", "--set", "training.epochs=1", "--set", shares)
    assert "measured on the validation rows, as there are no test rows" in done.out


def test_a_run_is_neither_overwritten_nor_resumed_by_accident(cli: Caller, text_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("train", text_recipe, "--out", run, "-q").code == 0
    before = (run / "model.safetensors").read_bytes()

    again = cli("train", text_recipe, "--out", run)
    assert again.code == 2
    assert "--resume" in again.err
    assert "--overwrite" in again.err
    other = cli("train", text_recipe, "--out", run, "--resume", "--set", "training.batch_size=5", "--seed", "1")
    assert other.code == 2
    assert "training.batch_size: was 16, is 5" in other.err
    assert "training.seed: was 0, is 1" in other.err
    both = cli("train", text_recipe, "--out", run, "--resume", "--overwrite")
    assert both.code == 2
    assert "one of them" in both.err
    assert (run / "model.safetensors").read_bytes() == before

    finished = cli("train", text_recipe, "--out", run, "--resume")
    assert (finished.code, "resumed after epoch 2 of 2" in finished.out) == (0, True)
    assert (run / "model.safetensors").read_bytes() == before
    assert cli("train", text_recipe, "--out", run, "--overwrite", "--seed", "1", "-q").code == 0
    assert (run / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize("last", [1, 2])
def test_an_epoch_that_was_told_is_kept_whatever_ends_the_training(
    text_recipe: Path, tmp_path: Path, last: int
) -> None:
    from mmreg.training.checkpoint import load_checkpoint
    from mmreg.training.train import train

    class Failing(mmreg.Callback):
        def on_epoch_end(self, run: mmreg.FollowedRun, epoch: mmreg.Epoch) -> None:
            if epoch.number == last:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(text_recipe, tmp_path / "run", device="cpu", callback=Failing())
    assert load_checkpoint(tmp_path / "run")[0]["progress"]["epoch"] == last
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 1 + last


def test_a_dry_run_trains_nothing_and_shows_what_validate_shows(cli: Caller, here: Path, tmp_path: Path) -> None:
    dry = cli("train", "recipe.yaml", "--out", tmp_path / "run", "--dry-run")
    assert dry.code == 0
    assert not (tmp_path / "run").exists()
    assert dry == cli("validate", "recipe.yaml")
    assert "table.csv: 36 train, 12 validation, 12 test rows; task classification, 3 outputs" in dry.out
    assert re.search(r"image +image -> image_cnn +CHW \(3, 16, 16\) float32 +8 features +\d+", dry.out)
    assert re.search(r"product +product \(model level\) +image \+ title \+ audio +3 scores +0", dry.out)
    assert "nothing was decoded or trained" in dry.out


def test_a_table_is_trained_with_a_recipe_of_its_own_beside_the_run(cli: Caller, here: Path, tmp_path: Path) -> None:
    table, run = tmp_path / "texts.csv", tmp_path / "out"
    lines = (here / "table.csv").read_text().splitlines()
    picked = [",".join(line.split(",")[column] for column in (2, 4, 5)) for line in lines]
    table.write_text("\n".join(picked))
    done = cli("train", table, "--target", "label", "--out", run, "--set", "training.epochs=1")
    assert done.code == 0, done.err
    assert f"wrote the recipe {tmp_path / 'out.yaml'}" in done.err
    written = (tmp_path / "out.yaml").read_text()
    assert "table: texts.csv\n" in written
    assert mmreg.load(run).plan.inputs["title"].modality.name == "text"

    resumed = cli("train", table, "--target", "label", "--out", run, "--set", "training.epochs=1", "--resume", "-q")
    assert resumed.code == 0, resumed.err
    (tmp_path / "out.yaml").write_text(written.replace("batch_size: 32", "batch_size: 16"))
    changed = cli("train", table, "--target", "label", "--out", run)
    assert changed.code == 2
    assert "a run" in changed.err
    moved = run.rename(tmp_path / "elsewhere")
    assert moved.is_dir()
    changed = cli("train", table, "--target", "label", "--out", run)
    assert changed.code == 2
    assert "another recipe" in changed.err
    assert "batch_size: 16" in (tmp_path / "out.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothere.yaml"], "there is no recipe 'nothere.yaml'"),
        (["recipes.yaml"], "did you mean 'recipe.yaml'"),
        (["images"], "'images' is a folder; name the recipe's file in it"),
        (["nothere.csv", "--target", "label"], "there is no table nothere.csv"),
        (["table.csv", "--target", "labl"], "did you mean 'label'"),
        (["images/0.png"], "a table's file ends in one of .csv"),
        (["foo://bar", "--target", "x"], "no installed plugin reads tables from foo://"),
        (["recipe.yaml", "--shard"], "--shard goes with --devices"),
        (["recipe.yaml", "--target", "label"], "--target goes with a table"),
        (["recipe.yaml", "--out", "images"], "holds something else than a run"),
        (["recipe.yaml", "--out", "table.csv"], "table.csv is a file"),
        (["recipe.yaml", "--out", "table.csv/run"], "table.csv is a file, not a folder"),
        (["recipe.yaml", "--device", "gpu"], "'gpu' is no device"),
        (["recipe.yaml", "--device", "cuda:99"], "no device 'cuda:99'"),
        (["recipe.yaml", "--precision", "float8"], "'float32', 'bfloat16' or 'float16', found 'float8'"),
        (["recipe.yaml", "--device", "cpu", "--precision", "float16"], "needs an accelerator"),
        (["recipe.yaml", "--seed", "-1"], "greater than or equal to 0"),
        (["recipe.yaml", "--seed", "one"], "valid integer"),
        (["recipe.yaml", "--set", "training.epochs"], "--set needs KEY=VALUE"),
        (["recipe.yaml", "--set", "training.epoch=3"], "did you mean 'epochs'"),
        (["recipe.yaml", "--set", "training.epochs=0"], "greater than or equal to 1, found 0"),
        (["recipe.yaml", "--set", "training.epochs=[1"], "--set training.epochs, line 1: this is no valid YAML"),
        (["recipe.yaml", "--set", "split.validation=0.5"], 'set it as a whole: --set "split={validation: ...}"'),
        (["recipe.yaml", "--set", "split=nope"], "table.csv has no column 'nope'"),
        (["--frobnicate"], "No such option"),
        ([], "Missing argument"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(arguments: list[str], said: str, cli: Caller, here: Path) -> None:
    names = sorted(path.name for path in here.iterdir())
    done = cli("train", *arguments, *([] if "--out" in arguments else ["--out", "new"]))
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.replace("│", " ").split())
    assert sorted(path.name for path in here.iterdir()) == names


def test_all_that_is_wrong_with_a_recipe_is_said_at_once_with_lines(cli: Caller, here: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("table.csv", str(here / "table.csv"))
    for old, new in [
        ("image_cnn", "image_cn"),
        ("sample_rate", "sample_rte"),
        ("epochs: 2", "epochs: two"),
        ("product", "{name: product, of: [image, titel]}"),
        ("key: id", "kee: id"),
        ("task: classification", "task: classification, label_smoothing: 2"),
    ]:
        text = text.replace(old, new)
    (tmp_path / "wrong.yaml").write_text(text)
    done = cli("validate", tmp_path / "wrong.yaml")
    assert (done.code, done.out) == (2, "")
    for said in (
        r"line 3, target\.label_smoothing: must be less than 1, found 2",
        r"line 5, modalities\.image\.encoder\.name: there is no encoder 'image_cn'; did you mean 'image_cnn'",
        r"line 7, modalities\.audio\.sample_rte: is no option here; did you mean 'sample_rate'",
        r"line 8, fusion\.of\.1: there is no modality 'titel'; did you mean 'title'",
        r"line 8, fusion\.of: the modality 'audio' is used by no operator",
        r"line 9, training\.epochs: must be a valid integer, found 'two'",
        r"line 10, kee: is no option here; did you mean 'key'",
    ):
        assert re.search(said, done.err), said


def test_components_that_do_not_fit_are_refused_naming_both_and_what_would_fit(cli: Caller, here: Path) -> None:
    done = cli("validate", "recipe.yaml", "--set", "modalities.image.encoder=text_rnn")
    assert done.code == 2
    assert "text_rnn does not take what image gives, CHW (3, 16, 16)" in done.err
    assert "audio_cnn, image_cnn" in done.err
    done = cli("validate", "recipe.yaml", "--set", "target.column=price", "--set", "target.task=regression")
    assert done.code == 2
    assert "product cannot combine predictions of the task 'regression'; these can:" in done.err


def test_validate_warns_of_files_that_are_not_there(cli: Caller, here: Path) -> None:
    done = cli("validate", "recipe.yaml", "--set", "modalities.image.column=label")
    assert done.code == 0
    assert "note: image: 60 of 60 files looked at are missing (first: table.csv, row 1, column label:" in done.err


def test_a_full_report_of_an_error_is_there_for_those_who_ask(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmreg.cli import main

    monkeypatch.setenv("MMREG_DEBUG", "")  # so that what --debug sets is undone
    monkeypatch.setattr("sys.argv", ["mmreg", "validate", "nothere.yaml", "--debug"])
    with pytest.raises(SystemExit):
        main()
    assert "Traceback" in capsys.readouterr().err


def test_validate_shows_whose_encoder_an_input_shares(cli: Caller, here: Path) -> None:
    shared = "modalities.again={type: image, column: image, size: 8, encoder: {share: image}}"
    done = cli("validate", "recipe.yaml", "--set", shared, "--set", "modalities.image.size=8")
    assert done.code == 0, done.err
    rows = {line.split()[0]: line for line in done.out.splitlines() if "->" in line}
    assert "image -> image_cnn of image" in rows["again"]
    assert rows["again"].split()[-1] == "0"
    assert int(rows["image"].split()[-1].replace(",", "")) > 0


def test_a_table_is_not_trained_where_its_recipe_cannot_stand(here: Path, cli: Caller, tmp_path: Path) -> None:
    written = "# \xe9\n".encode("latin-1")
    (tmp_path / "foreign.yaml").write_bytes(written)
    called = cli("train", here / "table.csv", "--out", tmp_path / "foreign")
    assert (called.code, "there is another recipe in" in called.err) == (2, True), called.err
    assert (tmp_path / "foreign.yaml").read_bytes() == written
    (tmp_path / "folder.yaml").mkdir()
    called = cli("train", here / "table.csv", "--out", tmp_path / "folder", "--overwrite")
    assert (called.code, "folder.yaml' is no file" in called.err) == (2, True), called.err
