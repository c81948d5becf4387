"""Runs that mmreg 0.1.0 wrote, as they lie in `of_0_1`: they load, evaluate, predict and resume."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

import mmreg
from mmreg.errors import RunError

EARLIER = Path(__file__).with_name("of_0_1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the runs, whose recipes name the copy of their table."""
    for name in ("data", "whole", "stopped"):
        shutil.copytree(EARLIER / name, tmp_path / name)
    for name in ("whole", "stopped"):
        recipe = tmp_path / name / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("TABLE", str(tmp_path / "data" / "table.csv")))
    return tmp_path


def test_an_earlier_run_evaluates_and_predicts_as_it_did(folder: Path) -> None:
    run = mmreg.load(folder / "whole", "cpu")
    figures = run.evaluate()
    assert figures["metrics"]["accuracy"] == run.report["test"]["metrics"]["accuracy"]
    assert figures["metrics"]["balanced_accuracy"] == run.report["test"]["metrics"]["balanced_accuracy"]
    assert figures["metrics"]["modalities"]["image"]["accuracy"] == pytest.approx(
        run.report["test"]["metrics"]["modalities"]["image"]["accuracy"]
    )
    assert len(run.predict(folder / "data" / "table.csv")) == 48


def test_an_earlier_training_goes_on_to_the_figures_that_it_would_have_had(folder: Path) -> None:
    with pytest.raises(RunError, match=r"encoder/image \(image_cnn\) was version 1, is version 2"):
        mmreg.train(folder / "data" / "recipe.yaml", folder / "stopped", resume=True, device="cpu")
    run = mmreg.train(
        folder / "data" / "recipe.yaml", folder / "stopped", resume=True, accept_changes=True, device="cpu"
    )
    with (folder / "whole" / "metrics.csv").open() as whole, (run.folder / "metrics.csv").open() as resumed:
        pairs = list(zip(csv.DictReader(whole), csv.DictReader(resumed), strict=True))
    assert len(pairs) == 4
    for before, now in pairs:
        assert {key: float(value) for key, value in now.items()} == pytest.approx(
            {key: float(value) for key, value in before.items()}, rel=1e-4, abs=1e-5
        )
    assert run.report["test"]["metrics"]["accuracy"] == 1.0


def test_earlier_runs_can_be_combined(folder: Path) -> None:
    again = mmreg.train(folder / "data" / "recipe.yaml", folder / "again", device="cpu")
    fused = mmreg.fuse([folder / "whole", again.folder], "mean", folder / "fused")
    assert fused.report["test"]["metrics"]["accuracy"] == 1.0


def test_a_network_of_large_pictures_from_before_it_had_a_stride_stays_as_it_is(folder: Path) -> None:
    """What was written then, of which there is none with such pictures here, is made of what is written now."""
    changes = ["modalities.image.size=72", "training.epochs=1"]
    large = folder / "large"
    run = mmreg.train(
        folder / "data" / "recipe.yaml", large, overrides=[*changes, "modalities.image.encoder.stride=1"], device="cpu"
    )
    expected = run.predict(folder / "data" / "table.csv")
    recipe = yaml.safe_load((large / "recipe.yaml").read_text())
    assert recipe["modalities"]["image"]["encoder"].pop("stride") == 1
    (large / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    facts = json.loads((large / "components.json").read_text())
    assert facts["states"].pop("encoder/image") == {"stride": 1}
    facts["components"]["encoder/image"]["component_version"] = 1
    del facts["checksum"]
    (large / "components.json").write_text(json.dumps(facts))

    again = mmreg.load(large, "cpu")
    assert again.predict(folder / "data" / "table.csv") == expected
    now = mmreg.train(folder / "data" / "recipe.yaml", folder / "now", overrides=changes, device="cpu")
    assert now.model.encoder_of("image").state() == {"stride": 2}
    assert mmreg.load(folder / "now", "cpu").model.encoder_of("image").state() == {"stride": 2}
    fused = mmreg.fuse([large, now.folder], "mean", folder / "fused")
    assert fused.report["test"]["metrics"]["accuracy"] > 0.5
