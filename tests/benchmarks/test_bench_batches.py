"""Batches of pictures, texts and sounds from the cache, beside decoding every sample, and beside tensors in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from harness import interleaved, record
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

import mmreg
from mmreg.data.batches import Batches
from mmreg.data.prepared import Prepared
from mmreg.data.table import Table
from mmreg.experiment import open_experiment, prepare_all
from mmreg.model.allocator import freed_memory_kept
from mmreg.recipe.resolve import resolve

PASSES = 30
ROWS, BATCH, SIZE, RATE, WORDS = 640, 64, 32, 8000, 12
Sample = tuple[Tensor, Tensor, Tensor]


def write_files(folder: Path) -> list[dict[str, Any]]:
    """Pictures of 32 pixels and sounds of a second, with a text each."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        soundfile.write(folder / f"{number}.wav", random.uniform(-0.5, 0.5, RATE), RATE, "PCM_16")
        text = " ".join(f"word{word}" for word in random.integers(0, 500, WORDS))
        image, audio = str(folder / f"{number}.png"), str(folder / f"{number}.wav")
        rows.append({"image": image, "audio": audio, "text": text, "label": number % 7, "split": "train"})
    return rows


class Decoding(Dataset[Sample]):
    """Reads and decodes a row's files whenever it is asked for it, as one writes that down."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        words = sorted({word for row in rows for word in row["text"].split()})
        self.numbers = {word: number for number, word in enumerate(words, 2)}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        image = torch.from_numpy(np.array(Image.open(row["image"]).convert("RGB")))
        audio = torch.from_numpy(soundfile.read(row["audio"], dtype="int16")[0])
        return image, torch.tensor([self.numbers[word] for word in row["text"].split()]), audio


def collate(samples: list[Sample]) -> list[Tensor]:
    return [pad_sequence(list(each), batch_first=True) for each in zip(*samples, strict=True)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def prepared(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    modalities = {"image": {"size": SIZE}, "text": {}, "audio": {"sample_rate": RATE}}
    keys: dict[str, Any] = {"split": "split", "target": {"column": "label"}, "modalities": modalities}
    experiment = open_experiment(resolve(mmreg.Recipe(table=rows, fusion="concat", **keys)))
    assert isinstance(experiment.table, Table)
    cache = tmp_path_factory.mktemp("cache")
    return prepare_all(experiment.plan, experiment.table, experiment.modalities, cache)


def epoch_of(prepared: dict[str, Prepared]) -> Callable[[], float]:
    """Seconds of a pass over all batches, in an order of its own."""
    everything = np.arange(ROWS)

    def run() -> float:
        started = time.perf_counter()
        order = np.array_split(np.random.default_rng().permutation(ROWS), ROWS // BATCH)
        batches = Batches(prepared, everything, everything, np.ones(ROWS), order=order, prefetch=True)
        assert sum(batch.size for batch in batches) == ROWS
        return time.perf_counter() - started

    return run


@pytest.mark.bench
def test_the_cache_is_far_faster_than_decoding(rows: list[dict[str, Any]], prepared: dict[str, Prepared]) -> None:
    data = Decoding(rows)

    def best() -> float:
        return min(decoded(data, workers) for workers in (0, 1, 2))

    epoch = epoch_of(prepared)

    def ours() -> float:
        """Seconds of a pass, of as many as take about as long as theirs: one of 5 ms is a matter of luck."""
        return sum(epoch() for _ in range(PASSES)) / PASSES

    with freed_memory_kept():  # as in every training; both profit by it
        pairs = interleaved(ours, best, rounds=5)
    against = "DataLoader that decodes (best of 0, 1, 2 workers)"
    record("batches from the cache", against, [theirs / ours for ours, theirs in pairs], at_least=20)


def decoded(data: Decoding, workers: int) -> float:
    """Seconds of a pass, less the start of the workers, which comes once a training."""
    loader = DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )
    count = sum(1 for _ in loader) if workers else 0  # starts the workers
    started = time.perf_counter()
    assert sum(1 for _ in loader) == (count or ROWS // BATCH)
    return time.perf_counter() - started


@pytest.mark.bench
def test_the_cache_is_as_fast_as_tensors_in_memory(prepared: dict[str, Prepared]) -> None:
    kept = [part.gather(np.arange(ROWS)) for part in prepared.values()]
    targets, weights = torch.arange(ROWS), torch.ones(ROWS)

    def in_memory() -> Iterator[list[Tensor]]:
        for index in torch.randperm(ROWS).split(BATCH):
            signals = [signal.values[index] for signal in kept]
            lengths = [signal.lengths[index] for signal in kept if signal.lengths is not None]
            yield [*signals, *lengths, targets[index], weights[index]]

    def theirs() -> float:
        started = time.perf_counter()
        assert sum(1 for _ in in_memory()) == ROWS // BATCH
        return time.perf_counter() - started

    with freed_memory_kept():
        pairs = interleaved(epoch_of(prepared), theirs, rounds=61, warm=3)
    what = "batches from the cache beside memory"
    record(what, "tensors in memory", [theirs / ours for ours, theirs in pairs], at_least=0.95)
