"""Text models give what transformers gives for the same texts, by the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from mmreg import Signal, Spec, registry
from mmreg.errors import OptionError, SpecError
from mmreg.testing import run_checks
from mmreg_hf.models import quiet
from mmreg_hf.text import HuggingFaceText
from mmreg_hf.tokens import read_tokens

TEXTS = [
    *tiny_models.SENTENCES,
    "[CLS] the [UNK] cat",
    "x" * 30,
    "the cat sat on the mat near the old tree and the dog ran away from the river; it rains, nobody is outside!",
    "",
]
FAMILIES = ["bert", "roberta", "distilbert", "gpt2", "clip", "siglip", "clap"]
POSITIONS = 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("texts")
    return {name: getattr(tiny_models, name)(place / name) for name in FAMILIES}


def read(folder: Path, texts: list[str] = TEXTS, **options: Any) -> tuple[Signal, Spec]:
    """Texts as the modality gives them to the encoder."""
    needed = {"max_tokens": POSITIONS, **HuggingFaceText.modality_options({"model": str(folder)}), **options}
    modality: Any = registry.get("modality", "text")(**needed)
    modality.fit_values(iter(texts))
    arrays = [torch.from_numpy(modality.load(text)) for text in texts]
    lengths = torch.tensor([len(array) for array in arrays])
    values = torch.nn.utils.rnn.pad_sequence(arrays, batch_first=True)
    return modality.transform(Signal(values, lengths, lengths), training=False), modality.spec


def built(folder: Path, spec: Spec, **options: Any) -> HuggingFaceText:
    torch.manual_seed(0)
    return HuggingFaceText(spec, model=str(folder), **options).eval()


def reference(folder: Path, texts: list[str] = TEXTS, **settings: Any) -> tuple[Any, Any, Any]:
    """The model of transformers, its tokens, and what it makes of them."""
    with quiet():
        model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
        chosen = {"padding": True, "truncation": True, "max_length": POSITIONS, "return_tensors": "pt", **settings}
        tokens = tokenizer(texts, **chosen)
    with torch.no_grad():
        tower = getattr(model, "text_model", model)
        given = {key: tokens[key] for key in ("input_ids", "attention_mask")}
        return model, tokens, tower(**given)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "gpt2", "clip", "clap"])
def test_texts_become_the_numbers_that_transformers_gives(folders: dict[str, Path], name: str) -> None:
    texts = [text for text in TEXTS if text or name != "gpt2"]  # of nothing at all, it makes no token
    signal, spec = read(folders[name], texts)
    encoder = built(folders[name], spec)
    _, tokens, _ = reference(folders[name], texts)
    assert signal.lengths is not None
    for row, length in enumerate(signal.lengths.tolist()):
        expected = tokens["input_ids"][row][tokens["attention_mask"][row].bool()]
        assert encoder._ids(signal.values[row : row + 1, :length], None)[0].tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "gpt2", "clip", "clap"])
def test_features_are_those_of_the_model_of_transformers(folders: dict[str, Path], name: str) -> None:
    texts = [text for text in TEXTS if text or name != "gpt2"]
    signal, spec = read(folders[name], texts)
    _, tokens, output = reference(folders[name], texts)
    mask = tokens["attention_mask"].bool()
    found = built(folders[name], spec, outputs="tokens")(signal)
    assert found.mask.equal(mask)
    torch.testing.assert_close(found.tokens[mask], output.last_hidden_state[mask], atol=1e-5, rtol=1e-5)
    mean = (output.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    expected = {"mean": mean, "cls": output.last_hidden_state[:, 0]}
    if name not in ("distilbert", "gpt2"):
        expected["model"] = output.pooler_output
    for pooling, pooled in expected.items():
        encoder = built(folders[name], spec, pooling=pooling)
        torch.testing.assert_close(encoder(signal).pooled, pooled, atol=1e-5, rtol=1e-5)
        assert encoder.out_features == pooled.shape[1]


@pytest.mark.parametrize("name", ["clip", "clap"])
def test_a_projection_leads_into_the_space_of_both_towers(folders: dict[str, Path], name: str) -> None:
    signal, spec = read(folders[name])
    model, tokens, output = reference(folders[name])
    encoder = built(folders[name], spec, pooling="projection")
    expected = model.text_projection(output.pooler_output)
    torch.testing.assert_close(encoder(signal).pooled, expected, atol=1e-5, rtol=1e-5)
    assert encoder.out_features == 12
    assert len(tokens["input_ids"]) == len(TEXTS)


def test_siglip_reads_texts_that_are_padded_to_all_its_positions(folders: dict[str, Path]) -> None:
    signal, spec = read(folders["siglip"])
    with quiet():
        model = AutoModel.from_pretrained(folders["siglip"]).eval()
        tokenizer = Tokenizer.from_file(str(folders["siglip"] / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=1, length=POSITIONS)
    tokenizer.enable_truncation(POSITIONS)
    ids = torch.tensor([tokenizer.encode(text).ids for text in TEXTS])
    with torch.no_grad():
        output = model.text_model(input_ids=ids)
        found = built(folders["siglip"], spec)(signal).pooled
    torch.testing.assert_close(found, output.pooler_output, atol=1e-5, rtol=1e-5)


def test_towers_pool_as_they_were_trained_to_and_others_by_a_mean(folders: dict[str, Path]) -> None:
    for name in FAMILIES:
        _, spec = read(folders[name])
        assert built(folders[name], spec).pooling == ("model" if name in ("clip", "siglip", "clap") else "mean"), name


@pytest.mark.parametrize("name", FAMILIES)
def test_what_has_no_part_in_the_features_is_not_trained(folders: dict[str, Path], name: str) -> None:
    signal, spec = read(folders[name])
    encoder = built(folders[name], spec, pooling="mean").train()
    encoder(signal).pooled.square().sum().backward()
    left = {name for name, parameter in encoder.network.named_parameters() if parameter.grad is None}
    assert left == set(encoder.unused)
    assert left <= {"pooler.dense.weight", "pooler.dense.bias", "head.weight", "head.bias"}


def test_rows_depend_neither_on_their_order_nor_on_what_the_padding_holds(folders: dict[str, Path]) -> None:
    for name in FAMILIES:
        signal, spec = read(folders[name])
        encoder = built(folders[name], spec)
        assert signal.lengths is not None
        order = torch.tensor([3, 0, 5, 2, 1])
        padding = torch.arange(signal.values.shape[1]) >= signal.lengths[:, None]
        hostile = signal.values.masked_fill(padding, 10_000)[order]
        torch.testing.assert_close(
            encoder(Signal(hostile, signal.lengths[order])).pooled, encoder(signal).pooled[order], atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_stays_near(folders: dict[str, Path], dtype: torch.dtype) -> None:
    signal, spec = read(folders["bert"])
    encoder = built(folders["bert"], spec)
    with torch.autocast("cpu", dtype), torch.no_grad():
        found = encoder(signal).pooled
    torch.testing.assert_close(found.float(), encoder(signal).pooled, atol=0.1, rtol=0.1)


def test_a_text_beyond_the_positions_is_refused_with_what_to_set(folders: dict[str, Path]) -> None:
    signal, spec = read(folders["roberta"], ["the cat ran " * 30], max_tokens=50)
    with pytest.raises(OptionError, match="a text of 50 tokens, where the model has 40 positions: set max_tokens: 40"):
        built(folders["roberta"], spec)(signal)


@pytest.mark.parametrize(
    ("name", "most"), [("bert", 40), ("roberta", 40), ("clip", 40), ("siglip", 20), ("gpt2", 64), ("clap", 40)]
)
def test_texts_keep_no_more_tokens_than_there_are_positions(folders: dict[str, Path], name: str, most: int) -> None:
    assert HuggingFaceText.modality_defaults({"model": str(folders[name])}) == {"max_tokens": most}


def test_a_tokenizers_own_limit_counts(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path)
    tiny_models.save_tokenizer(folder, tiny_models.tokenizer(0), model_max_length=7)
    assert HuggingFaceText.modality_defaults({"model": str(folder)}) == {"max_tokens": 7}


def test_another_tokenizers_numbers_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(SpecError, match="the model's tokenizer makes a vocabulary of 90; leave the modality's"):
        built(folders["bert"], Spec("T", (None,), "int64", 1000))


def test_a_tokenizer_that_ends_texts_by_padding_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path)
    made = tiny_models.tokenizer(0)
    made.enable_padding(pad_id=made.token_to_id("[SEP]"), pad_token="[SEP]")
    made.save(str(folder / "tokenizer.json"))
    with pytest.raises(OptionError, match="ends each text by its padding token"):
        HuggingFaceText.accepts(Spec("T", (None,), "int64", 90), {"model": str(folder)})


def test_a_tokenizer_with_more_numbers_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path)
    with pytest.raises(OptionError, match="numbers 90 tokens, but the model knows 50"):
        read_tokens(folder, {"vocab_size": 50})


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    with pytest.raises(OptionError, match="is no tokenizer"):
        read_tokens(tmp_path, {})


def test_a_pooling_that_the_model_has_not_is_refused(folders: dict[str, Path]) -> None:
    _, spec = read(folders["distilbert"])
    with pytest.raises(OptionError, match="a distilbert has no pooling of its own; choose mean or cls"):
        built(folders["distilbert"], spec, pooling="model")
    with pytest.raises(OptionError, match="a distilbert has no projection; clap, clip models have one"):
        built(folders["distilbert"], spec, pooling="projection")


def test_it_conforms(folders: dict[str, Path]) -> None:
    _, spec = read(folders["roberta"])
    report = run_checks("encoder/hf_text", options={"model": str(folders["roberta"])}, specs=[spec])
    assert report.ok, str(report)
    assert {result.check for result in report.of("skipped")} <= {"devices"}
