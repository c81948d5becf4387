"""A table of pictures and sounds, and a script that trains on it without mmreg: what a whole job is measured beside.

Run as a script, with a folder: `data` writes the table there, `bare` trains on it, `mmreg` has mmreg do so.

Axes: B batch, C channels, F frequency, T time (samples or frames).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

CLASSES, EPOCHS, BATCH, RATE = 10, 3, 64, 16_000
ROWS = {"train": 4000, "validation": 500, "test": 1000}


def write_data(folder: Path, rows: dict[str, int] = ROWS) -> None:
    """Grey pictures of 28 pixels and sounds of 0.6 to 1 s, of 10 classes that noise half hides, with manifest.csv."""
    import numpy as np
    import PIL.Image
    import soundfile

    random = np.random.default_rng(0)
    patterns = random.normal(size=(CLASSES, 28, 28))
    pitches = np.geomspace(200, 4000, CLASSES)
    (folder / "files").mkdir(parents=True)
    lines = []
    for split, count in rows.items():
        for number in range(count):
            label = int(random.integers(CLASSES))
            pixels = 128 + 12 * patterns[label] + 60 * random.normal(size=(28, 28))
            picture = folder / "files" / f"{split}{number}.png"
            PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(picture)
            time = np.arange(int(RATE * random.uniform(0.6, 1.0))) / RATE
            samples = 0.01 * np.sin(2 * np.pi * pitches[label] * time) + 0.1 * random.normal(size=len(time))
            sound = picture.with_suffix(".wav")
            soundfile.write(sound, samples, RATE)
            lines.append((split, label, f"files/{picture.name}", f"files/{sound.name}"))
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("split", "label", "image", "audio"), *lines])


def recipe(folder: Path, epochs: int = EPOCHS) -> dict[str, Any]:
    """What `mmreg` trains: the defaults."""
    return {
        "table": str(folder / "manifest.csv"),
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"image": {"size": 28, "channels": 1}, "audio": {"sample_rate": RATE, "max_seconds": 1.0}},
        "fusion": "concat",
        "training": {"epochs": epochs, "batch_size": BATCH, "optimizer": "AdamW", "schedule": "cosine"},
    }


def with_mmreg(folder: Path, out: Path) -> float:
    """The test accuracy of the whole job, into a run's folder."""
    import json

    import mmreg

    mmreg.train(recipe(folder), out)
    report = json.loads((out / "report.json").read_text())
    return float(report["test"]["metrics"]["accuracy"])


def bare(folder: Path, epochs: int = EPOCHS) -> float:
    """The same as a script that decodes all files first: the test accuracy of the epoch that was best on validation."""
    import numpy as np
    import PIL.Image
    import soundfile
    import torch
    from torch import Tensor, nn
    from torchaudio.functional import melscale_fbanks

    hop, window, bands = 320, 1024, 40
    hann, mel = torch.hann_window(window), melscale_fbanks(window // 2 + 1, 0.0, RATE / 2, bands, RATE)

    def log_mel(waveform: Tensor) -> Tensor:
        """(B, T) to (B, F, frames)."""
        padded = nn.functional.pad(waveform, (window // 2, window // 2))
        spectrum = torch.stft(padded, window, hop, window=hann, center=False, return_complex=True)
        return torch.log((spectrum.abs().square().transpose(1, 2) @ mel).transpose(1, 2) + 1e-6)

    def blocks(features: int) -> list[nn.Module]:
        layers, before = [], 1
        for after in (32, 64, 128):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU(), nn.MaxPool2d(2, ceil_mode=features == 640)]
            before = after
        return layers

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = nn.Sequential(*blocks(1152), nn.Flatten(), nn.Dropout(0.5), nn.Linear(1152, 128))
            self.audio = nn.Sequential(*blocks(640))
            self.last = nn.Sequential(nn.Dropout(0.2), nn.Linear(640, 128))
            self.head = nn.Linear(256, CLASSES)

        def forward(self, images: Tensor, grids: Tensor, frames: Tensor) -> Tensor:
            found = self.audio(grids[:, None])
            mask = (torch.arange(found.shape[-1]) < ((frames + 7) // 8)[:, None])[:, None, None]
            audio = self.last(((found * mask).sum(-1) / mask.sum(-1)).flatten(1))
            logits: Tensor = self.head(torch.cat([self.image(images), audio], 1))
            return logits

    with (folder / "manifest.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    pictures = torch.stack([torch.from_numpy(np.array(PIL.Image.open(folder / line["image"]))) for line in lines])
    sounds = [torch.from_numpy(soundfile.read(folder / line["audio"], dtype="float32")[0]) for line in lines]
    labels = torch.tensor([int(line["label"]) for line in lines])
    rows = {split: torch.tensor([i for i, line in enumerate(lines) if line["split"] == split]) for split in ROWS}
    level = pictures[rows["train"]].float()
    mean, deviation = level.mean(), level.std()
    features = torch.cat([log_mel(sounds[row][None])[0] for row in rows["train"].tolist()], 1)
    offset, scale = features.mean(1)[:, None], features.std(1)[:, None]

    def batch(index: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        images = (pictures[index, None].float() - mean) / deviation
        waveform = nn.utils.rnn.pad_sequence([sounds[row] for row in index.tolist()], batch_first=True)
        frames = torch.tensor([len(sounds[row]) // hop + 1 for row in index.tolist()])
        grids = (log_mel(waveform) - offset) / scale
        hidden = torch.arange(grids.shape[-1]) >= frames[:, None]
        grids = grids.masked_fill(hidden[:, None], 0)
        if training:  # pictures moved by up to 3 pixels, and 2 bands of frequencies and of frames hidden
            padded = nn.functional.pad(images, (3, 3, 3, 3))
            corners = torch.randint(7, (len(index), 2)).tolist()
            images = torch.stack([padded[i, :, y : y + 28, x : x + 28] for i, (y, x) in enumerate(corners)])
            for size, axis in ((bands, 1), (grids.shape[-1], 2)):
                for _ in range(2):
                    width = (torch.rand(len(index)) * size / 5).floor()
                    start = (torch.rand(len(index)) * (size - width)).floor()
                    place = torch.arange(size)
                    covered = (place >= start[:, None]) & (place < (start + width)[:, None])
                    grids = grids.masked_fill(covered.unsqueeze(3 - axis), 0)
        return images, grids, frames

    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
    steps = epochs * -(-len(rows["train"]) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss = nn.CrossEntropyLoss()

    def accuracy(split: str) -> float:
        model.eval()
        with torch.no_grad():
            scores = torch.cat([model(*batch(index, False)) for index in rows[split].split(BATCH)])
        return float((scores.argmax(1) == labels[rows[split]]).float().mean())

    best: tuple[float, dict[str, Tensor]] = (-1.0, {})
    for _ in range(epochs):
        model.train()
        order = rows["train"][torch.randperm(len(rows["train"]))]
        for index in order.split(BATCH):
            optimizer.zero_grad()
            loss(model(*batch(index, True)), labels[index]).backward()
            optimizer.step()
            schedule.step()
        found = accuracy("validation")
        if found > best[0]:
            best = found, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best[1])
    return accuracy("test")


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "data":
        write_data(where)
    elif what == "bare":
        print(bare(where))
    else:
        print(with_mmreg(where, Path(sys.argv[3])))
