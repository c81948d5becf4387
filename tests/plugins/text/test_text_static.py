import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

import mmreg
from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import OptionError, RecipeError, SpecError
from mmreg_text import table as tables
from mmreg_text.modality import Text
from mmreg_text.rnn import TextRNN
from mmreg_text.static import StaticEmbedding

WORDS = {"[PAD]": 0, "[UNK]": 1, "red": 2, "bird": 3, "tree": 4}
TABLE = torch.tensor([[9.0, 9, 9], [0, 0, 1], [3, 0, 4], [1, 2, 2], [-1, 0, 0]])


def write(folder: Path, tensors: dict[str, torch.Tensor], words: dict[str, int] = WORDS) -> tuple[str, str]:
    """The paths of a table and of its tokenizer."""
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors")
    return str(folder / "model.safetensors"), str(folder / "tokenizer.json")


def made(path: str, **options: Any) -> tuple[Text, StaticEmbedding]:
    """An encoder, and the text modality that it asks for, fitted."""
    given = {"weights": path, "tokenizer": None, "pooling": "mean", **options}
    text = Text(**StaticEmbedding.modality_options(given))
    text.fit_values(iter(["red bird", "red tree red", 7.5, None]))
    return text, StaticEmbedding(text.spec, weights=path, **options)


def signal(text: Text, values: list[str]) -> Signal[Any]:
    arrays = [text.load(value) for value in values]
    lengths = torch.tensor([len(array) for array in arrays])
    numbers = torch.full((len(arrays), int(lengths.max()) + 2), 10_000, dtype=torch.int32)
    for row, array in zip(numbers, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(np.asarray(array))
    return Signal(numbers, lengths, lengths)


def encoded(text: Text, encoder: StaticEmbedding, values: list[str]) -> torch.Tensor:
    stored = signal(text, values)
    # the modality gets zeros as padding; an encoder must not read any
    clean = stored.replace(stored.values.masked_fill(stored.values == 10_000, 0))
    given = text.transform(clean, training=False)
    pooled = encoder(given).pooled
    assert pooled is not None
    if text.weighting is None:
        torch.testing.assert_close(encoder(stored).pooled, pooled)
    return pooled.detach()


def test_a_text_is_the_mean_of_its_tokens_rows(tmp_path: Path) -> None:
    text, encoder = made(write(tmp_path, {"embeddings": TABLE})[0], normalize=False)
    wanted = [TABLE[[2, 3]].mean(0), TABLE[4], TABLE[[2, 1, 4]].mean(0), TABLE[1]]
    torch.testing.assert_close(encoded(text, encoder, ["red bird", "tree", "red house tree", ""]), torch.stack(wanted))


def test_it_is_divided_by_its_length_and_multiplied_by_the_scale(tmp_path: Path) -> None:
    text, encoder = made(write(tmp_path, {"embeddings": TABLE})[0], scale=2.0)
    torch.testing.assert_close(encoded(text, encoder, ["red"]), torch.tensor([[1.2, 0.0, 1.6]]))


def test_without_a_scale_a_vector_divided_by_its_length_is_as_long_as_8(tmp_path: Path) -> None:
    path, _ = write(tmp_path, {"embeddings": TABLE})
    text, encoder = made(path)
    torch.testing.assert_close(encoded(text, encoder, ["red"]), torch.tensor([[4.8, 0.0, 6.4]]))
    torch.testing.assert_close(encoded(*made(path, normalize=False), ["red"]), TABLE[[2]])
    restored = StaticEmbedding(text.spec, weights=path, restored=True)
    restored.load_state(encoder.state())
    assert restored.scale == 8.0
    restored.load_state({name: value for name, value in encoder.state().items() if name != "scale"})
    assert restored.scale == 1.0  # which was the default before the state told it


def test_begun_from_another_run_it_has_the_scale_of_its_own_outputs_or_the_given_one(tmp_path: Path) -> None:
    path, _ = write(tmp_path, {"embeddings": TABLE})
    text, pooled = made(path)
    for options, scale in (
        ({"outputs": "tokens"}, 1.0),
        ({"outputs": "tokens", "scale": 3.0}, 3.0),
        ({"scale": 3.0}, 3.0),
    ):
        begun = StaticEmbedding(text.spec, weights=path, restored=True, **options)
        begun.load_state(pooled.state())
        assert begun.scale == scale
    tokens = StaticEmbedding(text.spec, weights=path, outputs="tokens")
    begun = StaticEmbedding(text.spec, weights=path, restored=True)
    begun.load_state(tokens.state())
    assert begun.scale == 8.0


def test_unknown_tokens_can_be_left_out_as_in_model2vec(tmp_path: Path) -> None:
    text, encoder = made(write(tmp_path, {"embeddings": TABLE})[0], normalize=False, skip_unknown=True)
    wanted = torch.stack([TABLE[[2, 4]].mean(0), torch.zeros(3)])
    torch.testing.assert_close(encoded(text, encoder, ["red house tree", "house"]), wanted)


def test_weights_and_mapping_of_model2vec_are_followed(tmp_path: Path) -> None:
    mapping, weights = torch.tensor([0, 1, 2, 2, 4]), torch.tensor([1.0, 1, 0.5, 2, 1], dtype=torch.float64)
    path, _ = write(tmp_path, {"embeddings": TABLE.half(), "mapping": mapping, "weights": weights})
    text, encoder = made(path, normalize=False)
    torch.testing.assert_close(encoded(text, encoder, ["red bird"])[0], (0.5 * TABLE[2] + 2 * TABLE[2]) / 2)


def test_sif_weighs_by_frequency_in_the_training_texts_and_is_restored(tmp_path: Path) -> None:
    text, encoder = made(write(tmp_path, {"vectors": TABLE})[0], pooling="sif", normalize=False)
    counts = {"red": 3, "bird": 1, "tree": 1}
    total = sum(counts.values()) + len(text.load("7.5"))
    shares = {word: count / total for word, count in counts.items()}
    a, b = (0.001 / (0.001 + shares[word]) for word in ("red", "bird"))
    wanted = (a * TABLE[2] + b * TABLE[3]) / (a + b)
    torch.testing.assert_close(encoded(text, encoder, ["red bird"])[0], wanted)
    needs = StaticEmbedding.modality_options({"weights": "x", "tokenizer": "gone.json", "pooling": "sif"})
    other = Text(**needs)
    other.load_state(json.loads(json.dumps(text.state())))
    torch.testing.assert_close(encoded(other, encoder, ["red bird"])[0], wanted)
    assert other.spec == text.spec


def test_tokens_are_given_with_their_mask(tmp_path: Path) -> None:
    path, _ = write(tmp_path, {"embedding.weight": TABLE})
    text, _ = made(path)
    stored = signal(text, ["red bird", "tree"])
    found = StaticEmbedding(text.spec, weights=path, outputs="tokens")(stored)
    assert found.mask.tolist() == [[True, True, False, False], [True, False, False, False]]
    torch.testing.assert_close(found.tokens[found.mask].detach(), TABLE[[2, 3, 4]])


def test_numbers_that_the_modality_raised_by_one_lead_to_the_same_rows(tmp_path: Path) -> None:
    words = {"[UNK]": 0, "red": 1, "[PAD]": 2, "bird": 3, "tree": 4}
    text, encoder = made(write(tmp_path, {"embeddings": TABLE}, words)[0], normalize=False)
    assert text.spec == Spec("T", (None,), "int64", 6)
    wanted = torch.stack([TABLE[[1, 3]].mean(0), TABLE[0]])
    torch.testing.assert_close(encoded(text, encoder, ["red bird", "house"]), wanted)


def test_it_equals_wordllama_on_its_own_weights() -> None:
    pytest.importorskip("wordllama")
    from wordllama.inference import WordLlamaInference

    text, encoder = made("wordllama", normalize=False)
    values = ["a red bird", "Birds; \t trees, 42 times!", "日本語 \U0001f600", "<s> </s> <unk>", "x" * 60, " "]
    files = tables.packaged("wordllama")
    assert files is not None
    weights = tables.read_weights(files[0])["embedding.weight"].numpy()
    theirs = WordLlamaInference(weights, Tokenizer.from_file(str(files[1])))
    np.testing.assert_allclose(encoded(text, encoder, values), theirs.embed(values), atol=1e-5)
    encoder.normalize = True
    np.testing.assert_allclose(encoded(text, encoder, values), theirs.embed(values, norm=True), atol=1e-5)


def test_a_name_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"wordllama is a table .* not installed.*pip install wordllama"):
        StaticEmbedding(Spec("T", (None,), "int64", 32_001), weights="wordllama")
    options = {"weights": "wordllama", "tokenizer": None, "pooling": "mean"}
    assert StaticEmbedding.modality_options(options) == {"special_tokens": False}
    assert StaticEmbedding.suggest("text", ["a red bird"], 100) is None


def test_the_package_is_not_imported_for_its_files() -> None:
    pytest.importorskip("wordllama")
    before = {name for name in sys.modules if name.startswith("wordllama")}
    assert tables.packaged("wordllama") is not None
    assert {name for name in sys.modules if name.startswith("wordllama")} == before


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a": TABLE, "b": TABLE.clone()}, r"no table, or several: a \(5, 3\), b \(5, 3\)"),
        ({"a": TABLE[0]}, r"no table, or several: a \(3,\)"),
        ({"a": TABLE[:4]}, "has 4 rows for the 5 tokens"),
        ({"a": TABLE.to(torch.int8)}, "a .* is torch.int8, where floating-point"),
        ({"a": TABLE / 0}, r"holds numbers that are not finite \(a\)"),
        ({"a": TABLE, "weights": torch.ones(4)}, "has 4 weights for 5 rows"),
        ({"a": TABLE, "mapping": torch.tensor([0, 1, 2, 3, 5])}, "mapping .* should be numbers of the table's 5 rows"),
    ],
)
def test_what_is_no_table_for_this_tokenizer_is_refused(
    tensors: dict[str, torch.Tensor], said: str, tmp_path: Path
) -> None:
    if "finite" in said:
        tensors = {"a": TABLE.clone()}
        tensors["a"][2, 1] = torch.nan
    path, _ = write(tmp_path, tensors)
    with pytest.raises(OptionError, match=said):
        made(path)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    spec = Spec("T", (None,), "int64", 5)
    path, tokenizer = write(tmp_path, {"a": TABLE})
    with pytest.raises(OptionError, match="'glove' is no file or folder, and no name of a table"):
        StaticEmbedding(spec, weights="glove")
    with pytest.raises(OptionError, match="tokenizer: there is no file"):
        StaticEmbedding(spec, weights=path, tokenizer=str(tmp_path / "other.json"))
    with pytest.raises(OptionError, match="has 5 tokens, but the text modality gives 9"):
        StaticEmbedding(Spec("T", (None,), "int64", 9), weights=path, tokenizer=tokenizer)
    assert StaticEmbedding(spec, weights=str(tmp_path)).out_features == 3
    Path(path).unlink()
    with pytest.raises(OptionError, match=r"should hold model\.safetensors, or one such file; it has 0"):
        StaticEmbedding(spec, weights=str(tmp_path))


def test_weights_go_with_sif_alone() -> None:
    tokens = Spec("T", (None,), "int64", 5)
    weighted = {"tokens": tokens, "weights": Spec("T", (None,))}
    for spec, pooling in ((weighted, "mean"), (tokens, "sif"), (Spec("C", (5,)), "mean")):
        assert StaticEmbedding.accepts(spec, {"pooling": pooling})
        with pytest.raises(SpecError, match="it takes tokens"):
            StaticEmbedding(spec, weights="x", pooling=pooling)  # type: ignore[arg-type]


def trained(tmp_path: Path, **text: Any) -> Path:
    table = tmp_path / "table.csv"
    table.write_text("text,label\n" + "red bird,a\ntree house,b\n" * 20)
    path, tokenizer = write(tmp_path, {"embeddings": TABLE})
    encoder = {"name": "static_embedding", "weights": path, "tokenizer": tokenizer, "freeze": True}
    recipe = {
        "table": str(table),
        "target": {"column": "label"},
        "modalities": {"text": {"encoder": encoder, **text}},
        "training": {"epochs": 2, "batch_size": 8},
    }
    mmreg.train(recipe, out=tmp_path / "run", device="cpu")
    return tmp_path / "run"


def test_a_run_needs_neither_table_nor_tokenizer_and_a_frozen_table_stays_as_it_is(tmp_path: Path) -> None:
    run = trained(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).unlink()
    loaded = mmreg.load(run, device="cpu")
    assert loaded.predict([{"text": "red bird"}])[0]["label"] in ("a", "b")
    (table,) = [value for name, value in loaded.model.state_dict().items() if name.endswith("embedding.weight")]
    torch.testing.assert_close(table[2:].cpu(), TABLE[2:])


def test_a_recurrent_encoder_begins_with_the_table_and_is_restored_without_it(tmp_path: Path) -> None:
    path, _ = write(tmp_path, {"embeddings": TABLE})
    options = {"embeddings": path, "hidden_size": 2, "features": 2, "num_layers": 1}
    text = Text(**TextRNN.modality_options({**options, "tokenizer": None}))
    text.fit_values(iter([]))
    encoder = TextRNN(text.spec, **options)  # type: ignore[arg-type]
    assert encoder.embedding is not None
    torch.testing.assert_close(encoder.embedding.weight[1:].detach(), TABLE[1:])
    assert not encoder.embedding.weight[0].any()
    Path(path).unlink()
    other = TextRNN(text.spec, restored=True, **options)  # type: ignore[arg-type]
    other.load_state(json.loads(json.dumps(encoder.state())))
    other.load_state_dict(encoder.state_dict())
    given = signal(text, ["red bird", "tree"])
    torch.testing.assert_close(other.eval()(given).pooled, encoder.eval()(given).pooled)
    assert TextRNN.modality_options({"embeddings": None, "tokenizer": None}) == {}
    assert TextRNN(text.spec, hidden_size=2).state() == {}  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="its embeddings are for tokens"):
        TextRNN(Spec("TC", (None, 3)), embeddings=path)


def test_another_tokenizer_file_is_refused_and_a_copy_is_taken(tmp_path: Path) -> None:
    _, tokenizer = write(tmp_path, {"embeddings": TABLE})
    copy = tmp_path / "copy.json"
    copy.write_text(Path(tokenizer).read_text())
    trained(tmp_path, tokenizer_file=str(copy))
    copy.write_text(Path(tokenizer).read_text().replace("tree", "trees"))
    with pytest.raises(RecipeError, match=r"modalities.text.tokenizer_file: must be .*tokenizer.json'"):
        trained(tmp_path, tokenizer_file=str(copy))
