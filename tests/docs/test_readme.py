"""What README.md shows works: its commands one after the other, its recipe, its Python, and its table of names."""

from __future__ import annotations

import csv
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from mmreg import registry
from mmreg.testing import run_checks

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
INLINE: list[str] = re.findall(r"`(mmreg [^`]+)`", README)
ELSEWHERE = {
    "mmreg list",  # below, with the table of names
    "mmreg info NAME",
    "mmreg fuse RUN1 RUN2 --fusion stacking --out both",
    "mmreg new-plugin mmreg-depth --kind encoder",
    "mmreg check mmreg-depth",  # needs the plugin installed: tests/cli/test_cli_new_plugin.py
}
"""What stands in running text, each with where it is run."""


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def commands() -> list[list[str]]:
    """The lines of the console blocks that are no make target, without comments."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words and words[0] != "make"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small table of pictures and titles, as somebody has it who follows the page."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("readme")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "title", "label"])
        for number in range(40):
            label = number % 2
            pixels = random.integers(0, 100, (16, 16), dtype=np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(folder / f"images/{number}.png")
            writer.writerow([f"images/{number}.png", f"the {['dark', 'bright'][label]} number {number}", label])
    return folder


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command in this process, which must succeed; what it prints."""
    from mmreg.cli import main

    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", arguments)
    code = None
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    captured = capsys.readouterr()
    assert not code, f"{shlex.join(arguments)}: {captured.err}"
    return captured.out


@pytest.fixture
def flat() -> type:
    """The encoder that the page shows, registered as it says."""
    (block,) = [block for block in blocks("python") if "@registry" in block]
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    return names["Flat"]


def test_the_page_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_commands_work_one_after_the_other_and_then_the_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    names = [words[:2] for words in commands()]
    assert names == [["mmreg", name] for name in ("init", "validate", "train", "evaluate", "predict")]
    for words in commands():
        printed = run(words, monkeypatch, capsys)
        if words[1] in ("train", "evaluate"):
            assert re.search(
                r"^Accuracy: \d+% \(\d+/\d+\), 95% interval \d+ to \d+%; always saying [01]: \d+%$",
                printed,
                re.MULTILINE,
            )
    assert len((folder / "predictions.csv").read_text().splitlines()) == 41

    (recipe,) = blocks("yaml")
    (folder / "shown.yaml").write_text(recipe, encoding="utf-8")
    once = ["--set", "training.epochs=1", "--quiet"]
    for name in ("shown", "again"):
        printed = run(["mmreg", "train", "shown.yaml", "--out", name, *once], monkeypatch, capsys)
        assert printed.startswith("Accuracy: ")
    (fuse,) = [text for text in INLINE if text.startswith("mmreg fuse")]
    run(shlex.split(fuse.replace("RUN1", "shown").replace("RUN2", "again")), monkeypatch, capsys)
    assert (folder / "both" / "model.safetensors").is_file()

    shown = [block for block in blocks("python") if "@registry" not in block]
    for block in shown:
        exec(compile(block, "README.md", "exec", dont_inherit=True), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert re.search(r"^[01](\.\d+)?$", printed, re.MULTILINE)
    assert "'modalities': 'image'" in printed


def test_the_plugin_it_shows_trains(
    flat: type, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert registry.get("encoder", "flat") is flat
    (recipe,) = blocks("yaml")
    (folder / "flat.yaml").write_text(recipe, encoding="utf-8")
    settings = ["--set", "modalities.image.encoder=flat", "--set", "training.epochs=1", "-q"]
    assert "Accuracy" in run(
        ["mmreg", "train", "flat.yaml", "--out", str(tmp_path / "run"), *settings], monkeypatch, capsys
    )


def test_the_plugin_it_shows_passes_the_conformance_checks(flat: type) -> None:
    report = run_checks(flat)
    assert report.ok, str(report)


def test_commands_in_the_text_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(INLINE) <= ELSEWHERE
    monkeypatch.chdir(tmp_path)
    for text in INLINE:
        if text.startswith("mmreg new-plugin"):
            run(shlex.split(text), monkeypatch, capsys)
            assert (tmp_path / "mmreg-depth/pyproject.toml").is_file()


def test_the_table_names_what_is_bundled(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = dict(re.findall(r"^\| ([\w, ]+) \| (.+) \|$", README, re.MULTILINE))
    bundled = [entry for entry in registry.specs() if entry.distribution == "mmreg"]
    listed = run(["mmreg", "list"], monkeypatch, capsys)
    rows["encoder"] += rows["encoder, pretrained"]
    for row, kind, level in [
        ("modality", "modality", ""),
        ("encoder", "encoder", ""),
        ("fusion of features", "fusion", "feature"),
        ("fusion of models", "fusion", "model"),
        ("task", "task", ""),
        ("metric", "metric", ""),
        ("balance", "balance", ""),
    ]:
        there = {entry.spec.name for entry in bundled if (entry.spec.kind, entry.spec.level) == (kind, level)}
        assert set(re.findall(r"`(\w+)`", rows[row])) == there
        for name in there:
            assert re.search(rf"^{kind} +{name} ", listed, re.MULTILINE)
            assert run(["mmreg", "info", f"{kind}/{name}"], monkeypatch, capsys).startswith(f"{kind} {name}")


def test_the_pages_it_leads_to_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).exists(), target
