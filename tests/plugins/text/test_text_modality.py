import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import MmregError, OptionError, ValueLoadError
from mmreg_text.modality import Text

TEXTS = ["the black cat", "the cat sleeps", "black dog", "the end"]
METHODS = ["basic_english", "whitespace", "char", "bpe", "wordpiece"]


def fitted(texts: list[Any] = TEXTS, **options: Any) -> Text:
    text = Text(**options)
    text.fit_values(iter(texts))
    return text


def padded(text: Text, values: list[str]) -> Signal:
    arrays = [text.load(value) for value in values]
    lengths = torch.tensor([len(array) for array in arrays])
    numbers = torch.zeros(len(arrays), int(lengths.max()), dtype=torch.int32)
    for row, array in zip(numbers, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    return Signal(numbers, lengths, lengths)


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    words = {"[UNK]": 0, "[PAD]": 1, "black": 2, "cat": 3}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_load_gives_the_numbers_of_a_count_by_hand() -> None:
    text = fitted()
    # the 3; black, cat 2; dog, end, sleeps 1
    assert text.load("Dog the cat").tolist() == [5, 2, 4]
    assert text.load("the bird").tolist() == [2, 1]
    assert text.spec == Spec("T", (None,), "int64", 8)
    assert text.stored == Spec("T", (None,), "int32", 8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", ["", "\n"])
def test_a_text_without_tokens_is_one_unknown_token(method: str, value: str) -> None:
    assert fitted(tokenizer=method).load(value).tolist() == [1]


@pytest.mark.parametrize("method", METHODS)
def test_load_gives_what_stored_promises(method: str) -> None:
    text = fitted(tokenizer=method, max_tokens=4)
    array = text.load("the black cat sleeps at the end")
    assert array.dtype == np.dtype(text.stored.dtype)
    assert array.shape == (4,)
    assert array.min() >= 1
    assert array.max() < text.spec.vocabulary_size


def test_numbers_truth_values_and_utf8_bytes_are_read_as_text() -> None:
    text = fitted(["7", "0.5", "True", "grün"], tokenizer="whitespace")
    values = [7, 0.5, True, "grün".encode(), np.int64(7), np.bool_(True)]
    words = ["7", "0.5", "True", "grün", "7", "True"]
    assert [text.load(value).tolist() for value in values] == [text.load(word).tolist() for word in words]
    assert 1 not in np.concatenate([text.load(value) for value in values])


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (b"\xff\xfe", "not UTF-8"),
        ({"a": 1}, "found dict"),
        (["a"], "found list"),
        (None, "found NoneType"),
        ("\ud83d", "surrogate"),
    ],
)
def test_what_is_no_text_is_refused_by_load_and_left_out_by_the_fit(value: Any, cause: str) -> None:
    text = fitted([*TEXTS, value])
    assert text.state() == fitted().state()
    with pytest.raises(ValueLoadError, match=cause):
        text.load(value)


def test_lower_folds_case_before_any_tokenizer() -> None:
    text = fitted(["Cat CAT"], tokenizer="whitespace", lower=True)
    assert text.load_state_key() == {"words": ["cat"]}
    assert text.load("cAt").tolist() == [2]


def test_the_spec_before_the_fit_is_an_upper_bound() -> None:
    assert Text(vocabulary_size=50).spec == Spec("T", (None,), "int64", 50)


def test_load_before_the_fit_says_what_is_missing() -> None:
    with pytest.raises(MmregError, match="call fit_values or load_state first"):
        Text().load("cat")


@pytest.mark.parametrize("method", METHODS)
def test_a_modality_rebuilt_from_its_json_state_is_equal(method: str) -> None:
    text = fitted(tokenizer=method, max_tokens=5)
    copy = Text(tokenizer=method, max_tokens=5)
    copy.load_state(json.loads(json.dumps(text.state())))
    assert copy.spec == text.spec
    assert copy.stored == text.stored
    assert json.dumps(copy.state()) == json.dumps(text.state())
    for value in [*TEXTS, "unseen words, cats", ""]:
        assert copy.load(value).tolist() == text.load(value).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_a_fitted_modality_goes_to_another_process(method: str) -> None:
    text = fitted(tokenizer=method)
    copy = pickle.loads(pickle.dumps(text))
    assert copy.load("the black bird").tolist() == text.load("the black bird").tolist()


def test_transform_gives_int64_and_leaves_evaluation_alone() -> None:
    text = fitted(token_dropout=0.9)
    signal = padded(text, TEXTS)
    result = text.transform(signal, training=False)
    assert result.values.dtype == torch.int64
    assert torch.equal(result.values, signal.values.long())
    assert result.host_lengths is signal.host_lengths


def test_token_dropout_replaces_its_share_of_tokens_and_no_padding() -> None:
    text = fitted(["a"], token_dropout=0.25)
    numbers = torch.full((400, 100), 2, dtype=torch.int32)
    numbers[:, 60:] = 0
    signal = Signal(numbers, torch.full((400,), 60), torch.full((400,), 60))
    result = text.transform(signal, training=True, generator=torch.Generator().manual_seed(0)).values
    assert (result[:, 60:] == 0).all()
    assert set(result[:, :60].unique().tolist()) == {1, 2}
    assert (result[:, :60] == 1).float().mean().item() == pytest.approx(0.25, abs=0.01)
    again = text.transform(signal, training=True, generator=torch.Generator().manual_seed(0)).values
    assert torch.equal(result, again)


def test_only_token_dropout_changes_nothing_that_load_stores() -> None:
    assert Text.transform_options == {"token_dropout"}
    plain, dropping = fitted(token_dropout=0.0), fitted(token_dropout=0.5)
    assert plain.load_state_key() == dropping.load_state_key()


def test_a_tokenizer_file_is_used_as_it_is(tokenizer_file: Path) -> None:
    text = Text(tokenizer_file=str(tokenizer_file))
    assert text.spec == Spec("T", (None,), "int64", 5)
    text.fit_values(iter(TEXTS))
    assert text.load("black bird cat").tolist() == [3, 1, 4]
    state = json.loads(json.dumps(text.state()))
    tokenizer_file.unlink()
    copy = Text(tokenizer_file=str(tokenizer_file))
    copy.load_state(state)
    assert copy.spec == text.spec
    assert copy.load("black bird cat").tolist() == [3, 1, 4]


def test_a_tokenizer_file_relative_to_the_working_directory(tokenizer_file: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tokenizer_file.parent)
    assert fitted(tokenizer="wordpiece", tokenizer_file="tokenizer.json").load("cat").tolist() == [4]


def test_a_tokenizer_file_of_another_kind_or_none_is_refused(tokenizer_file: Path) -> None:
    with pytest.raises(OptionError, match=r"'bpe', but the tokenizer_file .* holds a 'wordpiece'"):
        fitted(tokenizer="bpe", tokenizer_file=str(tokenizer_file))
    with pytest.raises(OptionError, match="leave out one"):
        Text(tokenizer="char", tokenizer_file=str(tokenizer_file))
    with pytest.raises(OptionError, match=r"missing\.json cannot be used"):
        _ = Text(tokenizer_file="missing.json").spec
    tokenizer_file.write_text("{}")
    with pytest.raises(OptionError, match="cannot be used"):
        fitted(tokenizer_file=str(tokenizer_file))


def test_the_fit_reads_an_iterator_once() -> None:
    def once() -> Iterator[str]:
        yield from TEXTS

    for method in METHODS:
        Text(tokenizer=method).fit_values(once())


@pytest.mark.parametrize("method", METHODS)
def test_texts_that_fill_max_tokens_are_counted(method: str) -> None:
    text = fitted(tokenizer=method, max_tokens=3)
    lengths = np.array([len(text.load(value)) for value in ("the", "the black cat sleeps", "the black cat", "q")])
    full = int((lengths == 3).sum())
    assert full >= 2
    assert text.notes(lengths) == [f"{full} of 4 texts reach max_tokens: 3, where longer ones are cut"]
    assert text.notes(np.array([1, 2])) == []


def test_a_tokenizer_file_that_must_not_be_opened_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe", "a FIFO"), (Path("/dev/zero"), "a device")):
        with pytest.raises(OptionError, match=f"tokenizer_file: {path} cannot be used: it is {what}"):
            fitted(tokenizer_file=str(path))


class _Panic(BaseException):
    """What a panic of a Rust extension is."""


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_a_panic_while_a_tokenizer_is_trained_is_an_error(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object) -> None:
        raise _Panic("index out of bounds")

    monkeypatch.setattr("mmreg_text.tokenizers.SubwordTokenizer.fit", panic)
    with pytest.raises(OptionError, match=f"tokenizer: {method} cannot be trained on these texts: index out of bounds"):
        fitted(tokenizer=method)


def test_a_text_that_the_tokenizer_cannot_cut_is_a_bad_cell(tokenizer_file: Path) -> None:
    data = json.loads(tokenizer_file.read_text())
    pattern = {"Regex": "(a+)+$"}
    data["pre_tokenizer"] = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    tokenizer_file.write_text(json.dumps(data))
    text = fitted(tokenizer_file=str(tokenizer_file))
    assert text.load("cat").tolist() == [4]
    with pytest.raises(ValueLoadError, match="text that the tokenizer cannot cut"):
        text.load("a" * 40 + "!")
