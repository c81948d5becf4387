"""The demo's data set: what each modality tells of a digit, and what it does not."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmreg_demo import data, hints, tones

# ITU-T Q.23: the two frequencies of each key.
DTMF = {
    1: (697, 1209),
    2: (697, 1336),
    3: (697, 1477),
    4: (770, 1209),
    5: (770, 1336),
    6: (770, 1477),
    7: (852, 1209),
    8: (852, 1336),
    9: (852, 1477),
    0: (941, 1336),
}


@pytest.mark.parametrize("digit", range(10))
def test_a_tone_on_a_good_line_is_the_keys_pair_of_frequencies(digit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tones, "NOISE", 0)
    monkeypatch.setattr(tones, "LOST", 0)
    monkeypatch.setattr(tones, "SECONDS", (1, 1))
    spectrum = np.abs(np.fft.rfft(tones.tone(digit, np.random.default_rng(0))))
    assert tuple(np.sort(np.argsort(spectrum)[-2:])) == DTMF[digit]  # a second: a bin is a hertz


def test_a_bad_line_swallows_one_of_the_two_tones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tones, "NOISE", 0)
    monkeypatch.setattr(tones, "SECONDS", (1, 1))
    heard = []
    for seed in range(40):
        spectrum = np.abs(np.fft.rfft(tones.tone(5, np.random.default_rng(seed))))
        heard.append(tuple(frequency for frequency in DTMF[5] if spectrum[frequency] > 100))
    assert set(heard) == {(770,), (1336,), (770, 1336)}


def test_tones_vary_in_length_and_stay_in_range() -> None:
    generator = np.random.default_rng(0)
    sounds = [tones.tone(3, generator) for _ in range(50)]
    lengths = [len(sound) for sound in sounds]
    assert min(lengths) >= 0.15 * tones.SAMPLE_RATE
    assert max(lengths) <= 0.4 * tones.SAMPLE_RATE
    assert len(set(lengths)) > 40
    assert max(np.abs(sound).max() for sound in sounds) <= 1


def test_every_answer_is_true_of_its_digits_and_every_question_has_one_for_each_digit() -> None:
    parity, size, _, threes = hints.FACTS
    assert [digits for digits, _ in parity] == [{0, 2, 4, 6, 8}, {1, 3, 5, 7, 9}]
    assert [digits for digits, _ in size] == [set(range(5)), set(range(5, 10))]
    assert [digits for digits, _ in threes] == [{d for d in range(10) if d % 3 == 0}, {d for d in range(10) if d % 3}]
    for question in hints.FACTS:
        assert sorted(digit for digits, _ in question for digit in digits) == list(range(10))
    wordings = [wording for question in hints.FACTS for _, wordings in question for wording in wordings]
    assert len(set(wordings)) == len(wordings)


def candidates(sentence: str) -> set[int]:
    """The digits that a hint is true of."""
    left = set(range(10))
    for question in hints.FACTS:
        for digits, wordings in question:
            if any(re.search(rf"\b{wording}\b", sentence.lower()) for wording in map(str.lower, wordings)):
                left &= digits
    return left


def test_hints_are_true_vague_and_all_different() -> None:
    digits = list(range(10)) * 180
    sentences = hints.hints(digits, np.random.default_rng(0))
    assert len(set(sentences)) == len(digits)
    left = [candidates(sentence) for sentence in sentences]
    assert all(digit in possible for digit, possible in zip(digits, left, strict=True))
    # What the best guesser reaches.
    assert 0.5 < np.mean([1 / len(possible) for possible in left]) < 0.7
    assert all(re.fullmatch(r"[A-Z][a-zI ,]+\.", sentence) for sentence in sentences)


def test_a_picture_hides_a_square_of_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "NOISE", 0)
    scan = np.arange(64).reshape(8, 8) / 63
    picture = data.cover(scan, np.random.default_rng(0))
    assert picture.shape == (64, 64)
    pixels = picture[::8, ::8]
    assert np.array_equal(picture, np.kron(pixels, np.ones((8, 8), np.uint8)))
    hidden = pixels != np.round(scan * 255)
    rows, columns = np.nonzero(hidden)
    assert (np.ptp(rows), np.ptp(columns), hidden.sum()) == (3, 3, 16)
    assert set(pixels[hidden]) == {128}


def test_the_noise_has_the_deviation_that_is_said() -> None:
    scan = np.full((8, 8), 0.5)
    generator = np.random.default_rng(0)
    pixels = np.stack([data.cover(scan, generator)[::8, ::8] for _ in range(400)]) / 255
    # A quarter of the pixels is covered; what is left is clipped to 0..1, beyond 0.5/0.3 deviations.
    noise = np.clip(np.random.default_rng(1).normal(0, 0.3, 100_000), -0.5, 0.5)
    assert pixels.std() == pytest.approx(np.sqrt(0.75 * noise.var()), rel=0.02)


def test_the_data_set_is_whole_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    scans, digits = data.load_scans()
    assert scans.shape == (1797, 8, 8)
    assert (scans.min(), scans.max()) == (0, 1)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        data.write_data(tmp_path / name, scans[:100], digits[:100], seed)
    files = {name: contents(tmp_path / name) for name in ("one", "two", "other")}
    assert files["one"] == files["two"]
    assert files["one"] != files["other"]
    with (tmp_path / "one" / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["digit"]) for row in rows) == sorted(digits[:100])
    assert [row["split"] for row in rows] == ["train"] * 60 + ["validation"] * 15 + ["test"] * 25
    for row in rows:
        with Image.open(tmp_path / "one" / row["image"]) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "L")
        assert soundfile.info(tmp_path / "one" / row["tone"]).samplerate == 8000
        assert int(row["digit"]) in candidates(row["hint"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
