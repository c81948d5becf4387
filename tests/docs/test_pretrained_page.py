"""The plugin of the page about pretrained networks: its code, installed and trained with as it stands on the page."""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.resnet import BasicBlock, ResNet
from typer.testing import CliRunner

import mmreg
from mmreg import registry
from mmreg.cli.app import build_app
from mmreg.errors import RecipeError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pretrained.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
(RECIPE,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SMALL = ["modalities.image.size=64", "training.epochs=1", "training.batch_size=16"]


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin, as an installed distribution with the page's files."""
    site = tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        path = site / Path(name).relative_to("src")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    facts = site / "mmreg_resnet-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mmreg-resnet\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[mmreg]\nresnet = mmreg_resnet.plugin\n")
    monkeypatch.syspath_prepend(site)
    registry.refresh()
    yield
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mmreg_resnet"]:
        del sys.modules[name]
    registry.refresh()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the page has it: pretrained weights (of few blocks), a table with pictures, the recipe."""
    torch.manual_seed(0)
    save_file(ResNet(BasicBlock, [1, 1, 2, 1], num_classes=10).state_dict(), tmp_path / "resnet18.safetensors")
    random = np.random.default_rng(0)
    lines = ["image,label"]
    for number in range(40):
        pixels = random.integers(0, 100, (64, 64, 3), np.uint8) + np.uint8(100 * (number % 2))
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{['dark', 'light'][number % 2]}")
    (tmp_path / "pictures.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def train(folder: Path, *overrides: str) -> mmreg.Run:
    return mmreg.train(folder / "recipe.yaml", folder / "run", overrides=[*SMALL, *overrides], device="cpu")


def network(run: mmreg.Run) -> dict[str, Tensor]:
    found: Any = run.model.encoder_of("image")
    return dict(found.network.state_dict())


def pretrained(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: tensor for name, tensor in load_file(folder / "resnet18.safetensors").items() if "fc." not in name}


def differing(run: mmreg.Run, weights: dict[str, Tensor]) -> list[str]:
    return [name for name, tensor in network(run).items() if not torch.equal(tensor, weights[name])]


def test_the_page_shows_the_whole_package() -> None:
    assert list(FILES) == ["src/mmreg_resnet/plugin.py", "src/mmreg_resnet/encoder.py"]
    row = registry.row(registry.find("encoder", "resnet"))
    assert (row["distribution"], row["status"]) == ("mmreg-resnet", "ok")


@pytest.mark.slow
def test_the_encoder_conforms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (command,) = re.findall(r"^mmreg (check .*)$", PAGE, re.MULTILINE)
    done = CliRunner().invoke(build_app(), shlex.split(command))
    assert done.exit_code == 0, done.output
    assert ", 0 failed" in done.stdout


def test_frozen_it_keeps_its_pretrained_weights_and_the_run_alone_is_enough(folder: Path, tmp_path: Path) -> None:
    run = train(folder)
    weights = pretrained(folder)
    assert len(weights) > 40
    assert not differing(run, weights)
    assert run.recipe["modalities"]["image"]["normalize"]["mean"] == [0.485, 0.456, 0.406]
    expected = run.predict(folder / "pictures.csv")
    pictures = folder / "pictures"
    pictures.mkdir()
    for path in [*folder.glob("*.png"), folder / "pictures.csv"]:
        path.rename(pictures / path.name)
    moved = tmp_path / "elsewhere"
    run.folder.rename(moved)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (folder / "recipe.yaml").unlink()
    (copy,) = (moved / "assets").iterdir()
    assert copy.name.endswith("resnet18.safetensors")
    copy.unlink()
    assert mmreg.load(moved, "cpu").predict(pictures / "pictures.csv") == expected


def test_the_copy_in_the_run_trains_again(folder: Path) -> None:
    weights = pretrained(folder)
    run = train(folder)
    (folder / "resnet18.safetensors").unlink()
    again = mmreg.train(run.folder / "recipe.yaml", folder / "again", device="cpu")
    assert not differing(again, weights)


def test_it_learns_at_a_rate_of_its_own_and_after_the_epochs_in_which_it_is_frozen(folder: Path) -> None:
    weights = pretrained(folder)
    slow = train(folder, "modalities.image.encoder.freeze=false", "modalities.image.encoder.lr=0.1")
    assert differing(slow, weights)
    shutil.rmtree(folder / "run")
    still = train(folder, "modalities.image.encoder.freeze={until_epoch: 2}")
    assert not differing(still, weights)
    shutil.rmtree(folder / "run")
    later = train(folder, "modalities.image.encoder.freeze={until_epoch: 1}", "training.epochs=2", "training.keep=last")
    assert differing(later, weights)


def test_a_run_of_version_1_is_migrated(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file(ResNet(BasicBlock, [2, 2, 2, 2]).state_dict(), folder / "resnet18.safetensors")
    run = train(folder)
    path = run.folder / "components.json"
    facts = json.loads(path.read_text())
    facts["components"]["encoder/image"]["component_version"] = 1
    del facts["states"]["encoder/image"], facts["checksum"]
    path.write_text(json.dumps(facts))
    with caplog.at_level(logging.WARNING):
        again = mmreg.load(run.folder, "cpu")
    assert not caplog.records
    assert again.predict(folder / "pictures.csv") == run.predict(folder / "pictures.csv")


def test_a_file_with_something_else_is_refused(folder: Path) -> None:
    save_file({"layer1.0.weight": torch.zeros(1)}, folder / "resnet18.safetensors")
    with pytest.raises(RecipeError, match=r"encoder: weights: .*resnet18\.safetensors holds no ResNet of basic blocks"):
        train(folder)


def test_the_keys_that_the_page_lists_are_those_of_a_recipe() -> None:
    from mmreg.recipe.form import Weights

    listed = re.findall(r"^\| `(\w+): ", PAGE, re.MULTILINE)
    assert set(listed) == set(Weights.model_fields)
    encoder = yaml.safe_load(RECIPE)["modalities"]["image"]["encoder"]
    assert encoder == {"name": "resnet", "weights": "resnet18.safetensors", "freeze": True}
