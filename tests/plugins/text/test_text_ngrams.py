import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import MmregError, OptionError
from mmreg_text.modality import Text
from mmreg_text.ngrams import NgramTokenizer

TEXTS = ["Red birds, red trees", "a bird", "the tree falls", "no", "red bird falls falls"]
SPECIAL = [*TEXTS, "", "zzz", "birdie"]


def fitted(texts: list[Any] = TEXTS, **options: Any) -> Text:
    text = Text(tokenizer="ngrams", **options)
    text.fit_values(iter(texts))
    return text


def weights(text: Text, value: str) -> np.ndarray:
    """What a text's n-grams weigh, by number."""
    loaded = text.load(value)
    assert isinstance(loaded, dict)
    assert loaded["tokens"].shape == loaded["weights"].shape
    assert len(set(loaded["tokens"].tolist())) == len(loaded["tokens"])
    dense = np.zeros(text.spec["tokens"].vocabulary_size)  # type: ignore[index]
    dense[loaded["tokens"]] = loaded["weights"]
    return dense


def words_of(text: str) -> list[str]:
    return text.lower().replace(",", " ,").split()


def word_runs(text: str) -> list[str]:
    words = words_of(text)
    return words + [f"{a} {b}" for a, b in itertools.pairwise(words)]


def character_runs(text: str) -> list[str]:
    return [f"<{w}>"[i : i + n] for w in words_of(text) for n in (3, 4, 5) for i in range(len(w) + 3 - n)]


@pytest.mark.parametrize("value", SPECIAL)
def test_weights_are_the_tf_idf_of_scikit_learn_for_each_half(value: str) -> None:
    text = fitted()
    wanted = []
    for runs in (word_runs, character_runs):
        vectorizer = TfidfVectorizer(analyzer=runs).fit(TEXTS)
        wanted += list(vectorizer.transform([value]).toarray()[0] * np.sqrt(0.5))
    found = weights(text, value)
    np.testing.assert_allclose(np.sort(found)[::-1][: len(wanted)], np.sort(wanted)[::-1], atol=1e-6)
    assert len(found) == len(wanted) + 2


def test_rows_are_as_alike_as_those_of_scikit_learn() -> None:
    text = fitted(char_ngrams=0)
    ours = np.stack([weights(text, value) for value in SPECIAL])
    theirs = TfidfVectorizer(analyzer=word_runs).fit(TEXTS).transform(SPECIAL).toarray()
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-6)


def test_mean_gives_every_occurrence_the_same_share() -> None:
    found = weights(fitted(weighting="mean", word_ngrams=1, char_ngrams=0), "red red bird unheard")
    assert sorted(found[found > 0].tolist()) == pytest.approx([1 / 3, 2 / 3])


def test_an_unknown_word_has_the_runs_of_characters_that_it_shares_with_known_ones() -> None:
    text = fitted()
    shared = weights(text, "birdie")
    assert shared.any()
    assert shared[weights(text, "bird") > 0].sum() == pytest.approx(shared.sum())


@pytest.mark.parametrize("value", ["", "  ", "日本", "\U0001f600"])
def test_a_text_without_known_ngrams_is_one_unknown_token_that_weighs_nothing(value: str) -> None:
    loaded = fitted().load(value)
    assert isinstance(loaded, dict)
    assert loaded["tokens"].tolist() == [1]
    assert loaded["weights"].tolist() == [0.0]


def test_of_too_many_ngrams_the_most_frequent_are_kept() -> None:
    text = fitted(char_ngrams=0, word_ngrams=1, vocabulary_size=5)
    kept = [value for value in ("red", "bird", "falls", "no", "the") if weights(text, value).any()]
    assert kept == ["red", "bird", "falls"]
    assert weights(fitted(char_ngrams=0, word_ngrams=1, min_frequency=2), "no the red").sum() == pytest.approx(1)


def test_words_beyond_max_tokens_are_cut_off() -> None:
    text = fitted(max_tokens=2)
    np.testing.assert_array_equal(weights(text, "red bird falls"), weights(text, "red bird"))
    assert text.notes(np.array([500])) == []


def test_a_restored_modality_gives_the_same() -> None:
    text, other = fitted(), Text(tokenizer="ngrams")
    assert other.spec == {"tokens": Spec("T", (None,), "int64", 30_000), "weights": Spec("T", (None,))}
    with pytest.raises(MmregError, match="no n-grams yet"):
        other.load("red")
    other.load_state(json.loads(json.dumps(text.state())))
    assert other.spec == text.spec
    for value in SPECIAL:
        np.testing.assert_array_equal(weights(other, value), weights(text, value))


def test_the_order_of_the_texts_makes_no_difference() -> None:
    assert fitted(TEXTS[::-1]).state() == fitted().state()


def test_ngrams_are_told_apart() -> None:
    tokenizer = NgramTokenizer(256, 3, 5, "tfidf")
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    tokenizer.fit([" ".join(words)], 100_000, 1)
    wanted = Counter(run for word in words for run in character_runs(word))
    runs = len(words) + (len(words) - 1) + (len(words) - 2) + len(wanted)
    assert runs - 3 <= tokenizer.size - 2 <= runs  # a hash may be shared


def test_training_drops_weights_and_nothing_else() -> None:
    text = fitted(token_dropout=0.5)
    loaded = text.load("red bird falls falls")
    assert isinstance(loaded, dict)
    values = {name: torch.from_numpy(array)[None] for name, array in loaded.items()}
    length = torch.tensor([len(loaded["tokens"])])
    signal = Signal(values, length, length)
    kept = text.transform(signal, training=False).values
    dropped = text.transform(signal, training=True, generator=torch.Generator().manual_seed(0)).values
    torch.testing.assert_close(kept["weights"], values["weights"])
    assert kept["tokens"].dtype == torch.int64
    torch.testing.assert_close(dropped["tokens"], kept["tokens"])
    same = dropped["weights"] == kept["weights"]
    assert 0 < same.sum() < len(loaded["tokens"])
    assert not dropped["weights"][~same].any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weighting": "tfidf"}, "weighting: tfidf belongs to the tokenizer ngrams"),
        ({"weighting": "sif"}, "weighting: sif belongs to a tokenizer_file"),
        ({"weighting": "sif", "tokenizer": "ngrams"}, "weighting: sif belongs to a tokenizer_file"),
        ({"tokenizer": "ngrams", "vectors": "x.txt"}, "vectors belong to words"),
        ({"tokenizer": "ngrams", "tokenizer_file": "x.json"}, "brings a tokenizer of its own"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        Text(**options)
