import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mmreg_text.tokenizers import SubwordTokenizer, WordTokenizer

TEXTS = ["the black cat", "The cat, sleeping.", "a black dog", "the dog is black", "zebra"]


def subwords(method: str, size: int = 60, max_tokens: int = 50) -> SubwordTokenizer:
    return SubwordTokenizer.fit(method, max_tokens, iter(TEXTS), size, 1)


def definition(model: models.Model, **parts: object) -> str:
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer.to_str()


def test_basic_english_numbers_follow_a_count_by_hand() -> None:
    tokenizer = WordTokenizer.fit("basic_english", 10, iter(TEXTS), 100, 1)
    # the and black occur three times, cat and dog twice, the others once; equally frequent ones are in order.
    assert tokenizer.words == ["black", "the", "cat", "dog", ",", ".", "a", "is", "sleeping", "zebra"]
    assert tokenizer.size == 12
    assert tokenizer("The dog, a cat.").tolist() == [3, 5, 6, 8, 4, 7]


def test_whitespace_keeps_case_and_punctuation() -> None:
    tokenizer = WordTokenizer.fit("whitespace", 10, iter(TEXTS), 100, 1)
    assert tokenizer.words[:3] == ["black", "dog", "the"]
    assert "cat," in tokenizer.words
    assert tokenizer("The the THE").tolist() == [tokenizer.words.index("The") + 2, 4, 1]


def test_char_numbers_characters_with_spaces() -> None:
    tokenizer = WordTokenizer.fit("char", 10, iter(["aab ", "b a"]), 100, 1)
    assert tokenizer.words == ["a", " ", "b"]
    assert tokenizer("ab c").tolist() == [2, 4, 3, 1]


def test_words_beyond_the_vocabulary_or_too_rare_are_unknown() -> None:
    cut = WordTokenizer.fit("whitespace", 10, iter(["c c c b b a"]), 4, 1)
    assert cut.words == ["c", "b"]
    assert cut.size == 4
    assert cut("a b c").tolist() == [1, 3, 2]
    rare = WordTokenizer.fit("whitespace", 10, iter(["c c c b b a"]), 10, 3)
    assert rare.words == ["c"]


def test_a_text_that_spells_a_special_token_holds_an_unknown_word() -> None:
    tokenizer = WordTokenizer.fit("whitespace", 10, iter(["<pad> <unk> word"]), 10, 1)
    assert tokenizer.words == ["word"]
    assert tokenizer("<pad> <unk> word").tolist() == [1, 1, 2]


@pytest.mark.parametrize("method", ["basic_english", "whitespace", "char"])
def test_words_beyond_max_tokens_are_cut_off(method: str) -> None:
    whole = WordTokenizer.fit(method, 100, iter(TEXTS), 100, 1)
    cut = WordTokenizer(method, 2, whole.words)
    assert cut(TEXTS[3]).tolist() == whole(TEXTS[3])[:2].tolist()


def test_bpe_joins_the_most_frequent_pair_first() -> None:
    # Counts: ▁ 5, b 4, a 4, c 1. The pair (a, b) occurs 4 times, (▁, ab) 4 times, (▁, c) once.
    tokenizer = SubwordTokenizer.fit("bpe", 10, iter(["ab ab ab ab c"]), 8, 1)
    vocabulary = json.loads(tokenizer.definition)["model"]["vocab"]
    assert sorted(vocabulary, key=vocabulary.get) == ["<pad>", "<unk>", "a", "b", "c", "▁", "ab", "▁ab"]
    assert tokenizer("ab c").tolist() == [7, 5, 4]
    assert tokenizer("abx").tolist() == [7, 1]


def test_wordpiece_takes_the_longest_known_piece_first() -> None:
    tokenizer = SubwordTokenizer.fit("wordpiece", 10, iter(["ab ab ab ab c"]), 9, 1)
    vocabulary = json.loads(tokenizer.definition)["model"]["vocab"]
    assert vocabulary["<pad>"] == 0
    assert vocabulary["<unk>"] == 1
    assert tokenizer("ab abc a").tolist() == [
        vocabulary["ab"],
        vocabulary["ab"],
        vocabulary["##c"],
        vocabulary["a"],
    ]
    assert tokenizer("abx c").tolist() == [1, vocabulary["c"]]


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_subwords_keep_to_the_vocabulary_size_and_cut_the_text(method: str) -> None:
    tokenizer = subwords(method, 20)
    assert tokenizer.size <= 20
    long = tokenizer("the black cat is sleeping" * 10)
    assert len(long) == 50
    assert long.max() < tokenizer.size
    assert subwords(method, 20, 3)("the black cat").tolist() == tokenizer("the black cat")[:3].tolist()


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_a_large_alphabet_does_not_exceed_the_vocabulary_size(method: str) -> None:
    texts = ["".join(chr(0x4E00 + i) for i in range(200)), "aaaa bbbb"]
    tokenizer = SubwordTokenizer.fit(method, 300, iter(texts), 50, 1)
    assert tokenizer.size <= 50
    assert 1 in tokenizer(texts[0])
    assert 1 not in tokenizer("aa")


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_characters_too_rare_are_unknown(method: str) -> None:
    tokenizer = SubwordTokenizer.fit(method, 10, iter(["aa aa aa z"]), 50, 2)
    assert tokenizer("z").tolist()[-1] == 1
    assert 1 not in tokenizer("aa")


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_a_text_cannot_spell_padding_to_subwords(method: str) -> None:
    assert 0 not in subwords(method)("<pad> black [PAD]")


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_any_white_space_divides_subwords_alike(method: str) -> None:
    tokenizer = subwords(method)
    assert tokenizer("\n the\t black \n").tolist() == tokenizer("the black").tolist()
    assert tokenizer(" \n").tolist() == []


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_training_subwords_gives_the_same_in_any_process_and_order(method: str) -> None:
    # Hugging Face's trainers iterate over hash tables with a new seed in every process.
    code = (
        "from mmreg_text.tokenizers import SubwordTokenizer\n"
        f"texts = {[f'{a}{b} {b}{c} {c}{a}' for a in 'abcdefgh' for b in 'ijklm' for c in 'nopq']!r}\n"
        f"print(SubwordTokenizer.fit({method!r}, 50, reversed(texts), 150, 1).definition)"
    )
    texts = [f"{a}{b} {b}{c} {c}{a}" for a in "abcdefgh" for b in "ijklm" for c in "nopq"]
    here = SubwordTokenizer.fit(method, 50, iter(texts), 150, 1).definition
    for _ in range(2):
        there = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert there.stdout.rstrip("\n") == here


@pytest.mark.parametrize("method", ["bpe", "wordpiece"])
def test_subwords_of_no_texts_know_nothing(method: str) -> None:
    tokenizer = SubwordTokenizer.fit(method, 10, iter([]), 50, 1)
    assert tokenizer.size == 2
    assert set(tokenizer("word").tolist()) <= {1}


def test_a_file_whose_padding_is_0_keeps_its_numbers() -> None:
    model = models.WordLevel({"[PAD]": 0, "a": 1, "[UNK]": 2}, unk_token="[UNK]")
    tokenizer = SubwordTokenizer(definition(model, pre_tokenizer=pre_tokenizers.Whitespace()), 10)
    assert (tokenizer.size, tokenizer.unknown) == (3, 2)
    assert tokenizer("a b a").tolist() == [1, 2, 1]


def test_a_file_whose_padding_is_elsewhere_has_its_numbers_raised_by_one() -> None:
    model = models.WordLevel({"a": 0, "<pad>": 1, "<unk>": 2}, unk_token="<unk>")
    tokenizer = SubwordTokenizer(definition(model, pre_tokenizer=pre_tokenizers.WhitespaceSplit()), 10)
    assert (tokenizer.size, tokenizer.unknown) == (4, 3)
    assert tokenizer("a b <pad>").tolist() == [1, 3, 3]


def test_the_padding_that_a_file_declares_counts() -> None:
    tokenizer = Tokenizer(models.WordLevel({"nothing": 0, "a": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.enable_padding(pad_id=0, pad_token="nothing", length=7)
    wrapped = SubwordTokenizer(tokenizer.to_str(), 10)
    assert wrapped.size == 3
    assert wrapped("a").tolist() == [1]  # and it is not padded to the file's length


def test_a_file_without_an_unknown_token_gets_one_number_more() -> None:
    alphabet = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    model = models.BPE(vocab=alphabet, merges=[])
    tokenizer = SubwordTokenizer(definition(model, pre_tokenizer=pre_tokenizers.ByteLevel()), 10)
    assert (tokenizer.size, tokenizer.unknown) == (258, 257)
    assert tokenizer("a").tolist() == [alphabet["Ġ"] + 1, alphabet["a"] + 1]


def test_a_unigram_file_has_its_unknown_by_number() -> None:
    model = models.Unigram([("<pad>", 0.0), ("a", -1.0), ("?", -2.0)], unk_id=2)
    tokenizer = SubwordTokenizer(definition(model), 10)
    assert (tokenizer.size, tokenizer.unknown) == (3, 2)
    assert tokenizer.model == "unigram"


def test_a_text_cut_short_keeps_the_tokens_that_a_file_adds() -> None:
    model = models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}, unk_token="[UNK]")
    frame = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    source = definition(model, pre_tokenizer=pre_tokenizers.Whitespace(), post_processor=frame)
    assert SubwordTokenizer(source, 4)("a a a a a").tolist() == [2, 4, 4, 3]
    with pytest.raises(ValueError, match="max_tokens is 2, but it adds 2 tokens"):
        SubwordTokenizer(source, 2)


def test_a_definition_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError):
        SubwordTokenizer('{"model": "nothing"}', 10)


def changed(**model: object) -> str:
    """A word-level tokenizer of three tokens, with something else in its model."""
    data = json.loads(definition(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]")))
    data["model"].update(model)
    return json.dumps(data)


def with_part(name: str, part: object) -> str:
    return json.dumps({**json.loads(changed()), name: part})


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (changed()[:90], "line 1 column 90"),
        ("", "EOF while parsing"),
        ("[" * 100_000, "line 1 column 1"),
        ('{"version": "1.0"}', "Model missing"),
        (changed(type="Magic"), "did not match any variant"),
        (changed(vocab={"[UNK]": 0, "a": -1}), "invalid value: integer `-1`"),
        (changed(vocab={"[UNK]": 0, "a": 2**32}), "invalid value"),
        (changed(vocab={"[UNK]": 0, "a": 2**31}), "numbers 2 tokens up to 2,147,483,649; at most 10,000,000 are taken"),
        (changed(vocab={"[UNK]": 0, "a": 2_000_000_000}), "numbers 2 tokens up to 2,000,000,001"),
        (with_part("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "Precompiled"),
        (with_part("post_processor", {**TEMPLATE, "special_tokens": {}}), "no entry found"),
        (
            with_part(
                "post_processor",
                {**TEMPLATE, "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [4 * 10**9], "tokens": ["[CLS]"]}}},
            ),
            "adds a token of the number 4,000,000,000, which its vocabulary does not have",
        ),
    ],
)
def test_a_damaged_definition_is_refused_by_an_error_and_no_panic(source: str, told: str, capfd: object) -> None:
    with pytest.raises(ValueError) as caught:
        SubwordTokenizer(source, 10)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            with_part(
                "pre_tokenizer",
                {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
            ),
            "a" * 40 + "!",
        ),
        (changed(vocab={"a": 0}, unk_token="[UNK]"), "q"),
    ],
)
def test_a_text_that_a_tokenizer_cannot_cut_is_an_error_and_no_panic(source: str, text: str) -> None:
    with pytest.raises(ValueError):
        SubwordTokenizer(source, 10)(text)


def test_numbers_are_int32() -> None:
    assert WordTokenizer("whitespace", 3, ["a"])("a").dtype == np.int32
    assert subwords("bpe")("a").dtype == np.int32
