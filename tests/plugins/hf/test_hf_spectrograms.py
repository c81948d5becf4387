"""Models of spectrograms give for each sound what transformers gives for it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from transformers import AutoFeatureExtractor, AutoModel

from mmreg import Signal, Spec
from mmreg.errors import OptionError
from mmreg.testing import run_checks
from mmreg.testing.registration import checks_of
from mmreg_hf.audio import HuggingFaceAudio
from mmreg_hf.models import quiet

SPEC = Spec("TC", (None, 1))
LENGTHS = [8000, 3000, 5321, 900]
MAKERS: dict[str, Any] = {"ast": tiny_models.ast, "clap": tiny_models.clap, "whisper": tiny_models.whisper}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("spectrograms")
    return {name: make(place / name) for name, make in MAKERS.items()}


def sounds() -> list[Any]:
    generator = np.random.default_rng(0)
    return [generator.normal(0, 0.2, length).astype(np.float32) for length in LENGTHS]


def signal(rows: list[int] | None = None) -> Signal:
    rows = list(range(len(LENGTHS))) if rows is None else rows
    lengths = torch.tensor([LENGTHS[row] for row in rows])
    values = torch.full((len(rows), int(lengths.max()) + 7, 1), float("nan"))
    for place, row in enumerate(rows):
        values[place, : LENGTHS[row], 0] = torch.from_numpy(sounds()[row])
    return Signal(values, lengths, lengths)


def built(folder: Path, **options: Any) -> HuggingFaceAudio:
    torch.manual_seed(0)
    return HuggingFaceAudio(SPEC, model=str(folder), **options).eval()


def reference(folder: Path, sound: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The last layer's tokens (T, D) and the pooled vector of one sound by transformers alone; Whisper's mean."""
    with quiet(), torch.no_grad():
        model, extractor = AutoModel.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)
        made = extractor(sound, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        if isinstance(model, transformers.WhisperModel):
            tokens = model.encoder(made["input_features"]).last_hidden_state[0]
            valid = max(1, -(-len(sound) // 640))
            return tokens[:valid], tokens[:valid].mean(0)
        if isinstance(model, transformers.ClapModel):
            output = model.audio_model(made["input_features"].float(), is_longer=made["is_longer"])
            return output.last_hidden_state[0].flatten(1).T, output.pooler_output[0]
        output = model(made["input_values"].float())
        return output.last_hidden_state[0], output.pooler_output[0]


@pytest.mark.parametrize("name", MAKERS)
def test_each_sound_gets_what_the_model_of_transformers_gives_it_alone(folders: dict[str, Path], name: str) -> None:
    tokens, pooled = built(folders[name], outputs="tokens")(signal()), built(folders[name])(signal()).pooled
    assert tokens.tokens is not None
    for row, sound in enumerate(sounds()):
        own, expected = reference(folders[name], sound)
        found = tokens.tokens[row] if tokens.mask is None else tokens.tokens[row][tokens.mask[row]]
        torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled[row], expected, atol=1e-5, rtol=1e-5)


def test_the_projection_is_that_of_claps_shared_space(folders: dict[str, Path]) -> None:
    with quiet(), torch.no_grad():
        model = AutoModel.from_pretrained(folders["clap"]).eval()
        made = AutoFeatureExtractor.from_pretrained(folders["clap"])(
            sounds()[1], sampling_rate=8000, return_tensors="pt"
        )
        pooled = model.audio_model(made["input_features"].float(), is_longer=made["is_longer"]).pooler_output
        expected = model.audio_projection(pooled)[0]
    found = built(folders["clap"], pooling="projection")(signal()).pooled
    torch.testing.assert_close(found[1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_a_longer_sound_loses_its_end_and_a_short_one_is_one_of_silence_behind_it(
    folders: dict[str, Path], name: str
) -> None:
    encoder = built(folders[name])
    most = encoder.extractor.most if encoder.extractor is not None else 0
    values = torch.randn(2, most + 4000, 1, generator=torch.Generator().manual_seed(0))
    values[1, :most] = values[0, :most]
    both = encoder(Signal(values, torch.tensor([most + 4000, most]))).pooled
    torch.testing.assert_close(both[0], both[1], atol=1e-6, rtol=1e-6)
    assert encoder(Signal(torch.zeros(1, 1, 1), torch.tensor([1]))).pooled.isfinite().all()


@pytest.mark.parametrize("name", MAKERS)
def test_a_run_restores_it_without_the_folder(folders: dict[str, Path], name: str) -> None:
    first = built(folders[name])
    state = json.loads(json.dumps(first.state()))
    again = HuggingFaceAudio(SPEC, model="gone", restored=True)
    again.load_state(state)
    again.load_state_dict(first.state_dict())
    torch.testing.assert_close(again.eval()(signal()).pooled, first(signal()).pooled, atol=0, rtol=0)


def test_whispers_decoder_is_not_there(folders: dict[str, Path]) -> None:
    assert not [name for name, _ in built(folders["whisper"]).named_parameters() if "decoder" in name]


def test_settings_that_make_no_spectrogram_are_told(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_models.clap(tmp_path)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "frequency_min": 5000}))
    with pytest.raises(OptionError, match="its feature extractor makes inputs is wrong"):
        HuggingFaceAudio.modality_options({"model": str(folder)})


@pytest.mark.parametrize("name", MAKERS)
def test_it_learns_high_sounds_from_low_ones(folders: dict[str, Path], name: str) -> None:
    encoder = built(folders[name]).train()
    head = torch.nn.Linear(encoder.out_features, 2)
    labels = torch.tensor([0, 1] * 4)
    steps = torch.arange(4000)[None] * torch.where(labels == 1, 0.9, 0.2)[:, None]
    values = 0.3 * torch.sin(steps + torch.arange(8)[:, None])[..., None]
    batch = Signal(values, torch.full((8,), 4000), torch.full((8,), 4000))
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.003)
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(head(encoder(batch).pooled), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3


@pytest.mark.parametrize("name", MAKERS)
def test_it_conforms(folders: dict[str, Path], name: str) -> None:
    # The kit's sounds of a few samples are a fraction of one frame, in which there is nothing to tell classes by.
    checks = [check for check in checks_of("encoder", "") if check != "learns"]
    report = run_checks("encoder/hf_audio", checks=checks, options={"model": str(folders[name])}, specs=[SPEC])
    assert report.ok, str(report)
    assert {result.check for result in report.of("skipped")} <= {"devices"}
