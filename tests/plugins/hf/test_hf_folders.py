"""Where models come from: folders, the cache and the hub; and that nothing of them is run."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from mmreg import Recipe, Spec
from mmreg.errors import OptionError, RecipeError
from mmreg.recipe.resolve import resolve
from mmreg_hf.at_hand import suggestion
from mmreg_hf.folders import find_folder
from mmreg_hf.models import plain_config, quiet
from mmreg_hf.text import HuggingFaceText

SPEC = Spec("T", (None,), "int64", 90)
NAME = "sentence-transformers/all-MiniLM-L6-v2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A model's folder of a test's own."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face's cache, empty, on a computer without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def keep(cache: Path, folder: Path, name: str = NAME) -> Path:
    """Put a model into the cache as the hub's client does."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, place / "snapshots" / COMMIT))


def built(model: Any, **options: Any) -> HuggingFaceText:
    torch.manual_seed(0)
    return HuggingFaceText(SPEC, model=str(model), **options)


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_pickle_is_not_read(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Evil(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with pytest.raises(OptionError, match=r"no model\.safetensors; pytorch_model\.bin is not read, as a pickle"):
        built(folder)
    assert not (tmp_path / "mark").exists()


def test_code_that_a_folder_brings_is_not_run(folder: Path, tmp_path: Path) -> None:
    auto = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel", "AutoTokenizer": "evil.EvilTokenizer"}
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'mark')!r}).touch()\n")
    plain = built(folder).state_dict()
    change(folder / "config.json", auto_map=auto)  # of a type that transformers has: its own class is taken
    change(folder / "tokenizer_config.json", auto_map=auto)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in built(folder).state_dict().items())
    change(folder / "config.json", model_type="evil")
    with pytest.raises(OptionError, match=r"brings code of its own for its type 'evil' .* which is never run"):
        built(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_kernel_of_the_hub_is_not_fetched(folder: Path, key: str) -> None:
    change(folder / "config.json", **{key: "someone/kernel"})
    encoder = built(folder)
    assert encoder.network.config._attn_implementation in ("sdpa", "eager")
    restored = HuggingFaceText(SPEC, model="gone", restored=True)
    state = json.loads(json.dumps(encoder.state()))
    state["config"][key] = "someone/kernel"  # as somebody may have put it into a run
    restored.load_state(state)
    assert restored.network.config._attn_implementation in ("sdpa", "eager")


def test_parts_of_a_configuration_are_as_plain() -> None:
    given = {"a": 1, "auto_map": {}, "part": {"_attn_implementation": "x/y", "b": [2], "dtype": "float16"}}
    assert plain_config(given) == {"a": 1, "part": {"b": [2]}}


def test_an_adapter_leads_to_no_other_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    with pytest.raises(OptionError, match=r"holds an adapter of peft .* merge them"):
        built(folder)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no mapping"),
        ('{"model_type": "nothing"}', "has no models of the type 'nothing'"),
        ('{"model_type": "t5"}', "a t5 is an encoder with a decoder; only encoders alone are taken"),
        ('{"model_type": "bert", "hidden_size": "x"}', "has 'x' as hidden_size, where an integer"),
        ('{"model_type": "bert", "layer_norm_eps": "x"}', "the configuration of a bert is wrong"),
        ('{"model_type": "siglip2", "text_config": {}}', "of whose parts none can be used alone"),
    ],
)
def test_a_configuration_that_is_of_no_use_is_told(folder: Path, settings: str, told: str) -> None:
    (folder / "config.json").write_text(settings)
    with pytest.raises(OptionError, match=told):
        built(folder)


def test_weights_that_are_used_must_all_be_there(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    used = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler")}
    save_file(used, folder / "model.safetensors")
    built(folder)
    with pytest.raises(OptionError, match=r"lack 2 tensors of .*: pooler\.dense\.bias, pooler\.dense\.weight"):
        built(folder, pooling="model")
    del used["encoder.layer.1.output.dense.weight"]
    save_file(used, folder / "model.safetensors")
    with pytest.raises(OptionError, match=r"lack 1 tensor of .*: encoder\.layer\.1\.output\.dense\.weight"):
        built(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    change(folder / "config.json", intermediate_size=32)
    with pytest.raises(OptionError, match=r"the weights in .* are not of its config\.json"):
        built(folder)


def test_weights_in_parts_and_in_half_precision_are_read(folder: Path) -> None:
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: weights[name] for name in held}, folder / part)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = built(folder).network.state_dict()
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in weights.items())
    index["weight_map"]["x"] = "../other.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(OptionError, match=r"names '\.\./other\.safetensors', and there is no such safetensors file"):
        built(folder)


def test_a_folder_that_lacks_files_says_which(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"there is no folder /.*gone"):
        built(tmp_path / "gone")
    with pytest.raises(OptionError, match=r"model\.safetensors is a file; name the folder that it is in"):
        built(folder / "model.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(OptionError, match=r"has no config\.json"):
        built(folder)


def test_a_model_of_the_cache_is_used_without_a_network(cache: Path, folder: Path) -> None:
    snapshot = keep(cache, folder)
    encoder = built(NAME)
    assert encoder.source == {"model": NAME, "commit": COMMIT}
    assert all(torch.equal(tensor, built(folder).state_dict()[name]) for name, tensor in encoder.state_dict().items())
    options = HuggingFaceText.modality_options({"model": NAME})
    assert options["tokenizer_file"] == str(snapshot / "tokenizer.json")


def test_offline_the_message_names_the_model_its_size_and_where_to_put_it(cache: Path) -> None:
    recipe = {
        "table": [{"text": "a b", "label": "x"}],
        "target": {"column": "label"},
        "modalities": {"text": {"column": "text", "encoder": {"name": "hf_text", "model": NAME}}},
    }
    with pytest.raises(RecipeError) as caught:
        resolve(Recipe(recipe))
    told = str(caught.value)
    assert f"{NAME} (91 MB) is not at hand and cannot be downloaded" in told
    assert f"hf download {NAME}" in told
    assert str(cache) in told
    assert caught.value.exit_code == 2


def test_a_text_that_names_nothing_is_told(cache: Path) -> None:
    with pytest.raises(OptionError, match="'no/such/thing' is neither a folder"):
        find_folder("no/such/thing", None, (("config.json",),))


def test_only_what_is_needed_is_downloaded(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"x")
    (folder / "modeling_evil.py").write_text("")
    asked: list[list[str]] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        assert (name, revision) == (NAME, None)
        names = [path.name for path in folder.iterdir()]
        names = [each for each in names if any(fnmatch.fnmatch(each, pattern) for pattern in allow_patterns)]
        asked.append(sorted(each for each in names if not any(fnmatch.fnmatch(each, p) for p in ignore_patterns)))
        shutil.rmtree(cache, ignore_errors=True)
        snapshot = keep(cache, folder)
        for path in snapshot.iterdir():
            if path.name not in asked[-1]:
                path.unlink()
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    HuggingFaceText.modality_options({"model": NAME})
    built(NAME)
    built(NAME)
    settings = ["config.json", "tokenizer.json", "tokenizer_config.json"]
    assert asked == [settings, sorted([*settings, "model.safetensors"])]


def test_known_models_of_the_cache_are_proposed(cache: Path, folder: Path) -> None:
    assert HuggingFaceText.suggest("text", ["a b"], 100) is None
    keep(cache, folder)
    found = HuggingFaceText.suggest("text", ["a b"], 100)
    assert found is not None
    assert found.options == {"model": NAME, "freeze": True}
    assert found.reason == "pretrained weights at hand (91 MB), frozen"
    assert suggestion("hf_text", "image") is None
    (keep(cache, folder, "facebook/dinov2-small") / "model.safetensors").unlink()
    assert suggestion("hf_image", "image") is None


def test_looking_for_what_is_at_hand_imports_nothing_heavy(cache: Path) -> None:
    script = (
        "import sys\n"
        "from mmreg_hf.text import HuggingFaceText\n"
        "assert HuggingFaceText.suggest('text', ['a b'], 9) is None\n"
        "assert not {'transformers', 'peft', 'tokenizers'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_transformers_says_nothing_and_gets_its_voice_back(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.utils import logging as voice

    level, shown = voice.get_verbosity(), voice.is_progress_bar_enabled()
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "cls.extra": torch.zeros(2)}, folder / "model.safetensors")
    change(folder / "config.json", eos_token_id=50_000)
    built(folder)
    with pytest.raises(ValueError, match="x"), quiet():
        raise ValueError("x")
    assert (voice.get_verbosity(), voice.is_progress_bar_enabled()) == (level, shown)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
