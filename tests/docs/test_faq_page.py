"""The page of questions names commands, options and keys that there are; what it says of bad cells is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small import call, make_folder, read_table, write_table

from mmreg.recipe import form

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")


def test_the_keys_of_a_training_that_it_names_are_there() -> None:
    named = {key for keys in re.findall(r"`training: \{([^}]*)\}`", PAGE) for key in re.findall(r"(\w+):", keys)}
    named |= {"gradient_clip", "on_nonfinite", "batch_size"}
    assert len(named) > 6
    assert named <= set(form.Training.model_fields)


def test_the_commands_and_options_that_it_names_are_there() -> None:
    reference = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    for text in re.findall(r"`mmreg ([^`]+)`", PAGE):
        command = " ".join(re.findall(r"^(cache list|\w+)", text))
        section = reference.partition(f"\n## mmreg {command}\n")[2].partition("\n## ")[0]
        assert section, text
        for option in re.findall(r"--[a-z-]+", text):
            assert f"`{option}`" in section, text


def test_bad_cells_stop_a_training_unless_they_are_taken_as_absent_or_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_table(make_folder(tmp_path) / "table.csv")
    rows[0]["image"], rows[1]["image"] = "gone.png", "images\\1.png"
    for number, row in enumerate(rows):
        row["label"] = float(number % 3)
    write_table(tmp_path / "table.csv", rows)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    train = ("train", "recipe.yaml", "--quiet", "--set", "training.epochs=1")
    stopped = call(monkeypatch, capsys, *train, "--out", "stopped")
    assert stopped.code == 2
    assert "table.csv, row 1, column image: gone.png: there is no file" in stopped.err
    assert "row 2, column image: images\\1.png" in stopped.err
    for choice, note in (("absent", "taken for absent"), ("skip", "left out")):
        done = call(monkeypatch, capsys, *train, "--out", choice, "--set", f"on_bad={choice}")
        assert done.code == 0, done.err
        assert note in done.err
    written = call(monkeypatch, capsys, "predict", "absent", "--value", "title=a red thing")
    assert "probability_0.0,probability_1.0,probability_2.0" in written.out  # the classes' own names
