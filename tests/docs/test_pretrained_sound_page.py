"""The plugin of the page about networks of sounds: its code, installed, with the weights that silero-vad ships."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import warnings
import wave
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

import mmreg
from mmreg import Signal, Spec, registry
from mmreg.cli.app import build_app
from mmreg.testing import run_checks

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pretrained-sound.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
(RECIPE,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
_FOUND = find_spec("silero_vad")  # which is not imported: it sets torch's number of threads
DATA = Path(next(iter(_FOUND.submodule_search_locations or [""]))) / "data" if _FOUND else Path()

pytestmark = pytest.mark.skipif(_FOUND is None, reason="needs the weights that silero-vad ships")


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin, as an installed distribution with the page's files."""
    site = tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        path = site / Path(name).relative_to("src")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    facts = site / "mmreg_silero-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mmreg-silero\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[mmreg]\nsilero = mmreg_silero.plugin\n")
    monkeypatch.syspath_prepend(site)
    registry.refresh()
    yield
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mmreg_silero"]:
        del sys.modules[name]
    registry.refresh()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the page has it: Silero's weights, a table with sounds, the recipe."""
    shutil.copy(DATA / "silero_vad_16k.safetensors", tmp_path)
    random = np.random.default_rng(0)
    lines = ["sound,label"]
    for number in range(40):
        samples = random.normal(0, 0.1, random.integers(300, 9000)) * (1 + 20 * (number % 2))
        with (tmp_path / f"{number}.wav").open("wb") as file, wave.open(file) as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16000)
            out.writeframes((samples.clip(-1, 1) * 32000).astype("<i2").tobytes())
        lines.append(f"{number}.wav,{['soft', 'loud'][number % 2]}")
    (tmp_path / "sounds.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def silero_weights(detector: Any) -> dict[str, Tensor]:
    """The weights of Silero's own network under the names of the file, which is of another release."""
    own = {name: tensor for name, tensor in detector.state_dict().items() if name.startswith("_model.")}
    named = {"stft.forward_basis_buffer": "stft_conv.weight"}
    for kind in ("weight", "bias"):
        named |= {f"encoder.{number}.reparam_conv.{kind}": f"conv{number + 1}.{kind}" for number in range(4)}
        named |= {f"decoder.rnn.{kind}_{of}": f"lstm_cell.{kind}_{of}" for of in ("ih", "hh")}
        named |= {f"decoder.decoder.2.{kind}": f"final_conv.{kind}"}
    return {named[name.removeprefix("_model.")]: tensor for name, tensor in own.items()}


def test_it_computes_what_silero_does_piece_by_piece(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit as such
        theirs: Any = torch.jit.load(DATA / "silero_vad.jit")
    weights = silero_weights(theirs)
    save_file(weights, tmp_path / "silero.safetensors")
    cls: Any = registry.get("encoder", "silero")
    encoder = cls(Spec("TC", (None, 1)), weights=str(tmp_path / "silero.safetensors"), outputs="tokens")
    lengths = torch.tensor([512 * 9, 512 * 4])
    time = torch.arange(512 * 9) / 16000
    values = torch.stack([(150 * 2 * torch.pi * time * (1 + time)).sin(), 0.3 * (2000 * time).sin()])
    with torch.no_grad():
        features = encoder(Signal(values.unsqueeze(-1), lengths))
        hidden = features.tokens.relu().transpose(1, 2)
        found = torch.conv1d(hidden, weights["final_conv.weight"], weights["final_conv.bias"]).sigmoid()[:, 0]
        for row, pieces in enumerate([9, 4]):
            assert features.mask[row].tolist() == [True] * pieces + [False] * (9 - pieces)
            theirs.reset_states()
            expected = torch.cat([theirs(piece[None], 16000)[0] for piece in values[row].split(512)[:pieces]])
            assert expected.max() > 3 * expected.min()
            torch.testing.assert_close(found[row, :pieces], expected, atol=1e-5, rtol=1e-3)


def test_padding_never_shows(folder: Path) -> None:
    options = {"weights": str(folder / "silero_vad_16k.safetensors")}
    report = run_checks("encoder/silero", options=options, checks=["padding", "shortest_length"])
    assert report.ok, str(report)


def test_the_weights_between_pieces_get_no_gradient_from_short_rows_as_the_page_says(folder: Path) -> None:
    options = {"weights": str(folder / "silero_vad_16k.safetensors")}
    reason = {"gradients": "the rows are of one piece, and nothing passes on to another"}
    assert f'{{"gradients": "{reason["gradients"]}"}}' in PAGE
    report = run_checks("encoder/silero", options=options, checks=["gradients"], expected_failures=reason)
    assert report.ok, str(report)


@pytest.mark.slow
def test_the_encoder_conforms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (command,) = re.findall(r"^mmreg (check .*)$", PAGE, re.MULTILINE)
    done = CliRunner().invoke(build_app(), shlex.split(command))
    assert done.exit_code == 0, done.output
    assert ", 0 failed" in done.stdout


def test_frozen_it_trains_and_the_run_alone_is_enough(folder: Path) -> None:
    run = mmreg.train(folder / "recipe.yaml", folder / "run", overrides=["training.epochs=2"], device="cpu")
    encoder: Any = run.model.encoder_of("audio")
    weights = load_file(folder / "silero_vad_16k.safetensors")
    assert torch.equal(encoder.lstm.weight_hh_l0, weights["lstm_cell.weight_hh"])
    assert torch.equal(encoder.conv1.weight, weights["conv1.weight"])
    expected = run.predict(folder / "sounds.csv")
    (folder / "silero_vad_16k.safetensors").unlink()
    assert mmreg.load(run.folder, "cpu").predict(folder / "sounds.csv") == expected
