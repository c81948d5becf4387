"""The example of CIFAR-100 with texts, from an archive in CIFAR-100's own format to an evaluated run."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import pickle
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import CIFAR100
from typer.testing import CliRunner, Result

import mmreg
from mmreg.cli.app import build_app
from mmreg.contract.signals import Signal
from mmreg.layers import length_mask

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "cifar100_text"
CLASSES = {"bear": "large_carnivores", "lion": "large_carnivores", "bus": "vehicles_1", "train": "vehicles_1"}
ROWS = {"train": 96, "test": 24}


@pytest.fixture
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", EXAMPLE / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with CIFAR-100's files, of four classes; brightness tells a class within its superclass."""
    fine, coarse = sorted(CLASSES), sorted(set(CLASSES.values()))
    folder = tmp_path / "cifar" / CIFAR100.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    contents: dict[str, Any] = {"meta": {"fine_label_names": fine, "coarse_label_names": coarse}}
    for split, rows in ROWS.items():
        labels = (np.arange(rows) % len(fine)).tolist()
        level = np.array([40 if fine[label] in ("bear", "bus") else 200 for label in labels])
        contents[split] = {
            "filenames": [f"{split}_{row}.png" for row in range(rows)],
            "batch_label": f"{split} batch 1 of 1",
            "fine_labels": labels,
            "coarse_labels": [coarse.index(CLASSES[fine[label]]) for label in labels],
            "data": (level[:, None] + generator.integers(-40, 41, (rows, 3072))).astype(np.uint8),
        }
    sums = {}
    for name, content in contents.items():
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})
    return folder.parent


def call(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(build_app(), list(map(str, arguments)))
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_the_table_holds_every_image_with_its_label_and_superclass(
    archive: Path, prepare: ModuleType, tmp_path: Path
) -> None:
    prepare.main(["--root", str(archive), "--out", str(tmp_path / "table.parquet")])
    rows = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert [row["split"] for row in rows] == ["train"] * ROWS["train"] + ["test"] * ROWS["test"]
    for split, train in (("train", True), ("test", False)):
        dataset = CIFAR100(archive, train=train)
        for row, (image, label) in zip([row for row in rows if row["split"] == split], dataset, strict=True):
            assert row["label"] == dataset.classes[label]
            assert CLASSES[row["label"]].replace("_", " ") in row["text"]
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["image"]))), np.asarray(image))


def test_wikitext_gives_each_split_its_own_paragraphs(archive: Path, prepare: ModuleType, tmp_path: Path) -> None:
    for split in ROWS:
        lines = [
            "",
            "= A heading =",
            "",
            f"The first {split} paragraph , with <unk> .",
            "= = Another = =",
            "The second .",
        ]
        (tmp_path / f"wiki.{split}.tokens").write_text("".join(f" {line} \n" for line in lines))
    prepare.main(["--root", str(archive), "--text", str(tmp_path), "--out", str(tmp_path / "table.parquet")])
    rows = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert [row["text"] for row in rows[:3]] == [
        "The first train paragraph , with <unk> .",
        "The second .",
        "The first train paragraph , with <unk> .",
    ]
    assert rows[-2]["text"] == "The first test paragraph , with <unk> ."


def test_a_damaged_archive_is_refused(archive: Path, prepare: ModuleType, tmp_path: Path) -> None:
    with (archive / CIFAR100.base_folder / "test").open("ab") as file:
        file.write(b"more")
    with pytest.raises(SystemExit, match=r"prepare.py: Dataset not found or corrupted"):
        prepare.main(["--root", str(archive), "--out", str(tmp_path / "table.parquet")])
    assert not (tmp_path / "table.parquet").exists()


def test_from_the_archive_to_an_evaluated_run(archive: Path, prepare: ModuleType, tmp_path: Path) -> None:
    table, recipe, run = tmp_path / "table.parquet", EXAMPLE / "recipe.yaml", tmp_path / "run"
    prepare.main(["--root", str(archive), "--out", str(table)])
    smaller = [f"--set=table={table}", "--set=training.epochs=8", "--set=training.batch_size=16"]
    trained = call("train", recipe, *smaller, "--device", "cpu", "--out", run)
    result = json.loads(call("evaluate", run, "--device", "cpu", "--format", "json").stdout)
    assert result["split"] == "test"
    assert result["rows"] == ROWS["test"]
    assert result["metrics"]["accuracy"] > 0.7  # each modality alone tells one of two
    right = round(result["metrics"]["accuracy"] * ROWS["test"])
    assert f"({right}/{ROWS['test']})" in trained.stdout


class Tutorial(nn.Module):
    """The model of the page's table, in plain PyTorch."""

    def __init__(self, vocabulary_size: int, num_classes: int) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 8 * 8, 128),
        )
        self.embedding = nn.Embedding(vocabulary_size, 100)
        self.lstm = nn.LSTM(100, 100, num_layers=2, batch_first=True)
        self.text = nn.Linear(100, 128)
        self.head = nn.Linear(256, num_classes)

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        steps, _ = self.lstm(self.embedding(tokens))
        last = torch.stack([row[length - 1] for row, length in zip(steps, lengths.tolist(), strict=True)])
        return self.head(torch.cat([self.image(images), self.text(last)], 1))


def test_the_recipe_is_the_tutorials_model(archive: Path, prepare: ModuleType, tmp_path: Path) -> None:
    prepare.main(["--root", str(archive), "--out", str(tmp_path / "table.parquet")])
    recipe = mmreg.Recipe({**_yaml(EXAMPLE / "recipe.yaml"), "table": str(tmp_path / "table.parquet")})
    model = mmreg.build_model(recipe).eval()
    vocabulary_size = next(p for name, p in model.named_parameters() if name.endswith("embedding.weight")).shape[0]
    reference = Tutorial(vocabulary_size, len(CLASSES)).eval()
    ours, theirs = list(model.parameters()), list(reference.parameters())
    assert [p.shape for p in ours] == [p.shape for p in theirs]
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine)
    images = torch.rand(5, 3, 32, 32)
    lengths = torch.tensor([3, 7, 1, 5, 7])
    tokens = torch.randint(2, vocabulary_size, (5, 7)) * length_mask(lengths, 7)
    signals = {"image": Signal(images), "text": Signal(tokens, lengths)}
    batch = SimpleNamespace(
        signals=signals, features={}, rows=dict.fromkeys(signals), present=torch.ones(5, 2, dtype=torch.bool)
    )
    torch.testing.assert_close(model(batch).scores, reference(images, tokens, lengths).log_softmax(1))


def test_every_weight_of_the_lstm_is_trained(archive: Path, prepare: ModuleType, tmp_path: Path) -> None:
    prepare.main(["--root", str(archive), "--out", str(tmp_path / "table.parquet")])
    overrides = [f"table={tmp_path / 'table.parquet'}", "training.max_steps=2", "modalities.text.encoder.hidden_size=8"]
    run = mmreg.train(EXAMPLE / "recipe.yaml", tmp_path / "run", overrides=overrides, device="cpu")
    before = mmreg.build_model(run.plan.recipe)
    moved = {
        name: not torch.equal(p, dict(before.named_parameters())[name]) for name, p in run.model.named_parameters()
    }
    assert any(".rnn." in name for name in moved)
    assert all(moved.values())


def test_the_page_shows_commands_that_exist() -> None:
    text = (EXAMPLE / "README.md").read_text()
    commands = re.findall(r"^mmreg (\S+)", text, re.MULTILINE)
    assert commands == ["validate", "train", "evaluate"]
    for command in commands:
        call(command, "--help")


def _yaml(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text())
