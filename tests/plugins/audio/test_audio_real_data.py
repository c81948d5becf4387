"""The audio modality and encoder with their default options on real recordings of spoken digits."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmreg.contract.signals import Signal
from mmreg_audio.cnn import AudioCNN
from mmreg_audio.modality import Audio

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "avmnist_small"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs the recordings in {FOLDER}")


def recordings(audio, split, limit=None):
    with (FOLDER / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split][:limit]
    return [audio.load(FOLDER / row["audio"]) for row in rows], torch.tensor([int(row["label"]) for row in rows])


def batch(arrays):
    lengths = torch.tensor([len(array) for array in arrays])
    padded = nn.utils.rnn.pad_sequence([torch.from_numpy(array) for array in arrays], batch_first=True)
    return Signal(padded, lengths, lengths)


def test_recordings_become_normalised_spectrograms_of_their_own_length():
    audio = Audio(sample_rate=8000)
    arrays, _ = recordings(audio, "train", limit=40)
    audio.fit_arrays(iter(arrays))
    result = audio.transform(batch(arrays), training=False)
    assert len(set(result.lengths.tolist())) > 10
    assert result.lengths.tolist() == [len(array) // 160 + 1 for array in arrays]
    rows = zip(result.values, result.lengths.tolist(), strict=True)
    valid = np.concatenate([row[0, :, :length].numpy() for row, length in rows], 1)
    np.testing.assert_allclose(valid.mean(1), 0, atol=1e-3)
    np.testing.assert_allclose(valid.std(1), 1, atol=1e-3)


@pytest.mark.slow
def test_defaults_recognise_spoken_digits_in_noise():
    audio = Audio(sample_rate=8000)
    arrays, labels = recordings(audio, "train")
    audio.fit_arrays(iter(arrays))
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    encoder = AudioCNN(audio.spec)
    model = nn.ModuleList([encoder, nn.Linear(encoder.out_features, 10)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    epochs, steps = 20, (len(arrays) + 63) // 64
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for _ in range(epochs):
        for index in torch.randperm(len(arrays), generator=generator).split(64):
            signal = audio.transform(batch([arrays[i] for i in index]), training=True, generator=generator)
            loss = nn.functional.cross_entropy(model[1](encoder(signal).pooled), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    arrays, labels = recordings(audio, "test")
    with torch.no_grad():
        scores = model[1](encoder(audio.transform(batch(arrays), training=False)).pooled)
    # A plain script's model reaches 0.48; guessing 0.1.
    assert (scores.argmax(1) == labels).double().mean() > 0.5
