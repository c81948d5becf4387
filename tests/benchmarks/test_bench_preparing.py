"""What preparing costs beside one loop over the same decoders, and batches of kept files beside batches of arrays.

400 JPEG pictures of 480 x 360 pixels as 128, and 200 sounds of 5 seconds (16-bit WAV of 22.05 kHz) as 16 kHz.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from mmreg import Modality, registry
from mmreg.data.batches import Batches
from mmreg.data.decode import num_workers
from mmreg.data.prepare import Prepared, prepare
from mmreg.data.table import Table, read_table

SHARE = 0.85
"""Of what all cores could do, how much preparing is to reach."""
ROUNDS = 5
BATCH = 64


def pictures(folder: Path) -> Table:
    random = np.random.default_rng(0)
    for number in range(400):
        coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((480, 360), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return read_table({"file": [f"{number}.jpg" for number in range(400)]}, folder)


def sounds(folder: Path) -> Table:
    random = np.random.default_rng(0)
    for number in range(200):
        samples = (random.normal(0, 3000, 5 * 22050)).astype(np.int16)
        wavfile.write(folder / f"{number}.wav", 22050, samples)
    return read_table({"file": [f"{number}.wav" for number in range(200)]}, folder)


DATA: dict[str, tuple[Callable[[Path], Table], Callable[[], Modality]]] = {
    "pictures": (pictures, lambda: registry.build("modality", "image", size=128)),
    "sounds": (sounds, lambda: registry.build("modality", "audio", sample_rate=16000, max_seconds=5.0)),
}


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock time, and processor time of all threads."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def processes(modality: Modality, paths: list[Path], count: int) -> float:
    """How long so many processes take that share the files, decode them and keep nothing."""
    started = time.perf_counter()
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            for path in paths[number::count]:
                modality.load(path)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return time.perf_counter() - started


@pytest.mark.bench
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("one_thread")  # a fork of a process that has had several would wait for them forever
@pytest.mark.parametrize("store", ["decoded", "encoded"])
@pytest.mark.parametrize("what", DATA)
def test_preparing_beside_bare_loops_over_the_decoder(tmp_path: Path, what: str, store: Any) -> None:
    make, build = DATA[what]
    table, modality, cores = make(tmp_path), build(), num_workers()
    paths = [tmp_path / name for name in table.column("file").to_pylist()]
    modality.load(paths[0])  # imports
    found: list[list[float]] = []
    for number in range(ROUNDS):
        cache = tmp_path / f"cache{number}"
        one, all_cores = processes(modality, paths, 1), processes(modality, paths, cores)
        alone = seconds(lambda: [modality.load(path) for path in paths])
        ours = seconds(
            lambda: prepare(modality, table, ["file"], name=what, cache_dir=cache, store=store)  # noqa: B023
        )
        found.append([one / ours[0], all_cores / ours[0], ours[1] / alone[1]])
    speed, beside, processor = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"\n{what}, {store}: {speed:.2f} x one loop on {cores} cores ({speed / cores / SHARE:.2f} of the bound),")
    # On a machine that others use as well this is what counts: both get what is left of it.
    print(f"{beside:.2f} x {cores} processes with a loop each, {processor:.2f} x the loop's processor time")


@pytest.mark.bench
@pytest.mark.parametrize("what", DATA)
def test_batches_of_kept_files_beside_arrays_and_decoding_in_one_loop(tmp_path: Path, what: str) -> None:
    make, build = DATA[what]
    table, modality = make(tmp_path), build()
    paths = [tmp_path / name for name in table.column("file").to_pylist()]
    order = np.random.default_rng(0).permutation(len(paths))
    prepared: dict[str, Prepared] = {
        store: prepare(modality, table, ["file"], name=what, cache_dir=tmp_path / "cache", store=store)  # type: ignore[arg-type]
        for store in ("decoded", "encoded")
    }

    def batches(store: str) -> None:
        for _ in Batches({what: prepared[store]}, order, batch_size=BATCH, prefetch=True):
            pass

    def loop() -> None:
        """As a DataLoader without workers does."""
        for first in range(0, len(order), BATCH):
            arrays = [modality.load(paths[number]) for number in order[first : first + BATCH].tolist()]
            longest = max(map(len, arrays))
            np.stack([np.pad(array, [(0, longest - len(array))] + [(0, 0)] * (array.ndim - 1)) for array in arrays])

    batches("decoded")  # its checksums are compared once
    rates: dict[str, list[float]] = {"decoded": [], "encoded": [], "loop": []}
    for _ in range(ROUNDS):
        for name, call in (
            ("decoded", lambda: batches("decoded")),
            ("encoded", lambda: batches("encoded")),
            ("loop", loop),
        ):
            rates[name].append(-(-len(order) // BATCH) / seconds(call)[0])
    rate = {name: statistics.median(found) for name, found in rates.items()}
    print(f"\n{what}: batches of {BATCH} a second: " + ", ".join(f"{name} {found:.1f}" for name, found in rate.items()))
    print(f"encoded is {rate['encoded'] / rate['loop']:.2f} x the loop, decoded {rate['decoded'] / rate['loop']:.1f} x")
