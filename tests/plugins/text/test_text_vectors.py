import gzip
import json
import os
import ssl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import OptionError
from mmreg_text.modality import Text
from mmreg_text.vectors import read_vectors, vector_size

VECTORS = {
    "the": [0.5, 0.25, -1.0],
    "The": [9.0, 9.0, 9.0],
    "cat": [1.0, 0.0, 2.0],
    "dog": [-1.5, 3.0, 0.125],
    "rare": [4.0, 4.0, 4.0],
}
TEXTS = ["the cat", "the cat bites", "dog"]


def lines(end: str = "") -> str:
    return "".join(f"{word} {' '.join(map(str, values))}{end}\n" for word, values in VECTORS.items())


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.3d.txt"
    path.write_text(lines(), "utf-8")
    return path


@pytest.fixture
def fasttext(tmp_path: Path) -> Path:
    path = tmp_path / "wiki.vec"
    path.write_text("5 3\n" + lines(" "), "utf-8")  # a header, and a space at the end of each line
    return path


def fitted(path: Path, **options: Any) -> Text:
    text = Text(vectors=str(path), **options)
    text.fit_values(iter(TEXTS))
    return text


def batch(text: Text, value: str, padding: int = 0) -> Signal:
    numbers = torch.from_numpy(text.load(value))[None]
    lengths = torch.tensor([numbers.shape[1]])
    return Signal(torch.nn.functional.pad(numbers, (0, padding)), lengths, lengths)


@pytest.mark.parametrize("file", ["glove", "fasttext"])
def test_words_become_their_vectors_and_padding_zero(file: str, request: pytest.FixtureRequest) -> None:
    text = fitted(request.getfixturevalue(file), vector_words=0)
    assert text.spec == Spec("TC", (None, 3), "float32")
    assert text.load_state_key() == {"words": ["cat", "the", "dog"]}  # those of the texts that have a vector
    result = text.transform(batch(text, "The dog bites", padding=2), training=False)
    mean = np.mean([VECTORS["cat"], VECTORS["the"], VECTORS["dog"]], 0)
    expected = np.array([VECTORS["the"], VECTORS["dog"], mean, np.zeros(3), np.zeros(3)], np.float32)
    np.testing.assert_allclose(result.values[0].numpy(), expected, rtol=1e-6)
    assert result.lengths is not None
    assert result.lengths.tolist() == [3]


def test_frequent_words_of_the_file_join_the_vocabulary(glove: Path) -> None:
    text = fitted(glove, vector_words=1)
    # "The" is no word of basic_english, so "rare" is the next that the texts lack.
    assert text.load_state_key() == {"words": ["cat", "the", "dog", "rare"]}
    assert text.transform(batch(text, "rare"), training=False).values[0, 0].tolist() == VECTORS["rare"]
    cased = fitted(glove, vector_words=1, tokenizer="whitespace")
    assert cased.load_state_key() == {"words": ["cat", "the", "dog", "The"]}


def test_the_state_holds_the_vectors_so_that_the_file_may_go(glove: Path) -> None:
    text = fitted(glove)
    state = json.loads(json.dumps(text.state()))
    glove.unlink()
    copy = Text(vectors=str(glove))
    copy.load_state(state)
    assert copy.spec == text.spec
    ours, theirs = (each.transform(batch(each, "the bird"), training=False).values for each in (text, copy))
    assert torch.equal(ours, theirs)
    assert "vectors" not in text.load_state_key()


def test_the_spec_is_known_before_the_fit(glove: Path, fasttext: Path) -> None:
    assert Text(vectors=str(glove)).spec == Spec("TC", (None, 3), "float32")
    assert Text(vectors=str(fasttext)).spec == Spec("TC", (None, 3), "float32")


def test_reading_leaves_nothing_beside_the_file_and_nothing_changed(
    glove: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(glove.parent)
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl.create_default_context)
    text = Text(vectors="glove.3d.txt")
    text.fit_values(iter(TEXTS))
    assert [path.name for path in glove.parent.iterdir()] == ["glove.3d.txt"]
    assert ssl._create_default_https_context is ssl.create_default_context  # torchtext would switch certificates off
    assert capfd.readouterr() == ("", "")


def test_a_compressed_file_is_read(glove: Path) -> None:
    packed = glove.with_suffix(".txt.gz")
    packed.write_bytes(gzip.compress(glove.read_bytes()))
    words, table = read_vectors(packed, ["dog", "cat"], 0, lambda word: True)
    assert words == ["dog", "cat"]
    np.testing.assert_array_equal(table, np.array([VECTORS["dog"], VECTORS["cat"]], np.float32))


def test_of_a_word_given_twice_the_first_line_counts_and_words_with_spaces_are_passed_over(glove: Path) -> None:
    glove.write_text(lines() + "cat 7 7 7\ncat . . 8 8 8\n", "utf-8")
    _, table = read_vectors(glove, ["cat"], 0, lambda word: True)
    np.testing.assert_array_equal(table, [VECTORS["cat"]])


def test_token_dropout_gives_the_unknown_vector(glove: Path) -> None:
    text = fitted(glove, token_dropout=0.999999)
    result = text.transform(batch(text, "the cat"), training=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(result.values[0, 0], result.values[0, 1])


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_vectors_of_words_do_not_go_with_subwords(glove: Path, method: Any) -> None:
    with pytest.raises(OptionError, match="vectors belong to words"):
        Text(vectors=str(glove), tokenizer=method)


def test_a_file_that_is_missing_or_no_word_vectors_is_refused(tmp_path: Path, glove: Path) -> None:
    with pytest.raises(OptionError, match="no file"):
        vector_size(tmp_path / "none.txt")
    prose = tmp_path / "prose.txt"
    prose.write_text("the cat\nbites\n")
    with pytest.raises(OptionError, match="holds no word vectors"):
        vector_size(prose)
    prose.write_text("the cat bites the dog\n")
    with pytest.raises(OptionError, match=r"prose.txt, line 1: 'cat', where a finite number is needed"):
        read_vectors(prose, ["the"], 0, lambda word: True)


def test_what_must_not_be_opened_as_a_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe", "a FIFO"), (Path("/dev/zero"), "a device")):
        with pytest.raises(OptionError, match=f"vectors: {path} is {what}"):
            vector_size(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("bites 1 2", "line 6: 2 values, where others have 3"),
        ("bites", "line 6: 0 values, where others have 3"),
        ("bites 1 2 3e", "line 6: '3e', where a finite number is needed"),
        ("bites 1 nan 3", "line 6: 'nan', where a finite number is needed"),
        ("bites 1 2 inf", "line 6: 'inf', where a finite number is needed"),
        ("bites 1 2 1e999", "line 6: '1e999', where a finite number is needed"),
        ("bites 1 2 " + "3" * 1_000_001, "line 6: more than 1,000,000 bytes"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str, told: str, ending: str) -> None:
    path = tmp_path / f"vectors.txt{ending}"
    content = f"{lines()}{line}\n".encode()
    path.write_bytes(gzip.compress(content) if ending else content)
    with pytest.raises(OptionError, match=f"vectors: {path}, {told}"):
        read_vectors(path, ["cat", "bites"], 0, lambda word: True)


def test_lines_that_nobody_asks_for_may_be_damaged_and_words_may_be_no_text(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(lines().encode() + b"bites 1 2\n\n caf\xe9 1 2 3\ncaf\xe9 1 2 3\n")
    words, table = read_vectors(path, ["cat"], 0, lambda word: True)
    assert words == ["cat"]
    assert table.tolist() == [[1.0, 0.0, 2.0]]


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_compressed_file_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    rng = np.random.default_rng(0)
    content = "".join(f"w{n} {' '.join(map(str, rng.random(3)))}\n" for n in range(3000)).encode()
    squeezed = gzip.compress(content)
    path = tmp_path / "vectors.txt.gz"
    path.write_bytes(squeezed[: int(share * len(squeezed))])
    with pytest.raises(OptionError, match=r"cannot be read beyond line [\d,]+: Compressed file ended"):
        read_vectors(path, ["w1"], 0, lambda word: True)
    path.write_bytes(content)
    with pytest.raises(OptionError, match="cannot be read beyond line 0: Not a gzipped file"):
        vector_size(path)


def test_a_header_that_promises_more_than_there_is_or_another_size_is_refused(fasttext: Path) -> None:
    text = fasttext.read_text()
    fasttext.write_text(text.replace("5 3\n", "7000 3\n"))
    with pytest.raises(OptionError, match="is cut short: its first line promises 7,000 words, and 5 are there"):
        read_vectors(fasttext, ["cat"], 0, lambda word: True)
    for header in ("5 300", "5 -3", "-5 3", "many 3", "9999999999999 3"):
        fasttext.write_text(text.replace("5 3\n", f"{header}\n"))
        with pytest.raises(OptionError, match=f"line 1: '{header}' should tell how many words"):
            vector_size(fasttext)


def test_a_file_with_none_of_the_words_is_refused(glove: Path) -> None:
    for more in (0, 10):
        with pytest.raises(OptionError, match="none of the 1 words"):
            read_vectors(glove, ["chat"], more, lambda word: True)
