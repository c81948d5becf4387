"""Where a model's files are: in a folder, in Hugging Face's cache, or on its hub; nothing in them is ever run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmreg.errors import OptionError
from mmreg.messages import byte_size, one_line
from mmreg_hf.known import KNOWN
from mmreg_hf.settings import check_finite, check_values

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
SETTINGS = (CONFIG, TOKENIZER, TOKENIZER_CONFIG, *PROCESSORS)
"""Small files that say what a model is and how its inputs are made."""
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "tf_model.h5", "flax_model.msgpack")
"""Weights in formats that are not read."""
LARGEST_SETTINGS = 1 << 28
"""Of a file of settings, in bytes."""

Wanted = Sequence[Sequence[str]]
"""Names of files: of each inner sequence one has to be there."""


def find_folder(model: str, revision: str | None, wanted: Wanted, local: bool = False) -> Path | None:
    """The folder with a model's files, which are downloaded if need be.

    Args:
        model: an absolute path, or a model's name on the hub.
        revision: a branch, tag or commit on the hub; its main branch if None.
        wanted: what has to be in it.
        local: whether to look only at what is at hand.

    Returns:
        None where `local` is set and the folder, or a file of it, is not at hand.

    Raises:
        OptionError: it is neither a folder with these files nor can be had from the hub.
    """
    if os.path.isabs(model):  # noqa: PTH117 (of any text)
        folder = Path(model)
        lacking = _lacking(folder, wanted)
        if not lacking:
            return folder
        if local:
            return None
        raise OptionError(f"model: {_problem(folder, lacking)}")
    found = _cached(model, revision)
    if found is not None and not _lacking(found, wanted):
        return found
    if local:
        return None
    folder = _download(model, revision, wanted)
    if lacking := _lacking(folder, wanted):
        raise OptionError(f"model: {model} on the hub {_lacks(folder, lacking)}")
    return folder


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of Hugging Face's cache holds; None of another folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON file with a mapping.

    Raises:
        OptionError: it is none, or has values of a model or of its inputs that cannot be.
    """
    try:
        size = path.stat().st_size
        data = json.loads(path.read_text("utf-8")) if size <= LARGEST_SETTINGS else None
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"model: {path} cannot be read: {one_line(error)}") from error
    if size > LARGEST_SETTINGS:
        raise OptionError(f"model: {path} has {byte_size(size)}, far more than settings have")
    if not isinstance(data, dict):
        raise OptionError(f"model: {path} holds no mapping, as a file of settings does")
    check_finite(data, path)
    if path.name in (CONFIG, *PROCESSORS):
        check_values(data, path)
    return data


def read_processor(folder: Path, part: str) -> dict[str, Any]:
    """What a model's folder says of how its inputs are made: preprocessor_config.json, or a part of the later file.

    Raises:
        OptionError: it says nothing of it.
    """
    first, later = PROCESSORS
    if (folder / first).is_file():
        return read_settings(folder / first)
    found = read_settings(folder / later).get(part)
    if not isinstance(found, dict):
        raise OptionError(f"model: {folder / later} has no {part}, which says how the inputs are made")
    return found


def weights_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, in order.

    Raises:
        OptionError: the index names a file that is not there, or none of the folder's.
    """
    whole, index = (folder / name for name in WEIGHTS)
    if whole.is_file():
        return [whole]
    parts = read_settings(index).get("weight_map")
    names = sorted({str(name) for name in parts.values()}) if isinstance(parts, Mapping) else []
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file():
            raise OptionError(f"model: {index} names {name!r}, and there is no such safetensors file beside it")
    if not names:
        raise OptionError(f"model: {index} names no files")
    return [folder / name for name in names]


def _cached(model: str, revision: str | None) -> Path | None:
    """The folder of a model in Hugging Face's cache, if some of its files are there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, CONFIG, revision=revision)
    except HFValidationError as error:
        raise OptionError(
            f"model: {model!r} is neither a folder (relative to the recipe) nor the name of a model on Hugging Face's "
            "hub, such as sentence-transformers/all-MiniLM-L6-v2"
        ) from error
    return Path(found).parent if isinstance(found, str) else None


def _download(model: str, revision: str | None, wanted: Wanted) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    of_weights = any(name in WEIGHTS for names in wanted for name in names)
    patterns = [*SETTINGS, *(("model.safetensors", "model.safetensors.index.json", "model-*") if of_weights else ())]
    try:
        # A pattern of "model-*" takes the parts of weights alone.
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=patterns, ignore_patterns=["*.bin", "*.pt"])
        )
    except GatedRepoError:
        told = f"{model} asks for its terms to be accepted on its page on the hub; do so, then: hf auth login"
    except RevisionNotFoundError:
        told = f"{model} on the hub has no revision {revision!r}"
    except RepositoryNotFoundError:
        told = f"there is no model {model} on the hub (nor a folder of this name); for a private one: hf auth login"
    except (OSError, ValueError, RuntimeError) as error:
        size = next((f" ({known.size})" for known in KNOWN if known.name == model), "")
        told = (
            f"{model}{size} is not at hand and cannot be downloaded: {one_line(error)}; on a computer with a network "
            f"type: hf download {model}, and bring its files as a folder, which model: FOLDER names, or the cache "
            f"{HF_HUB_CACHE} (HF_HOME says where it is)"
        )
    raise OptionError(f"model: {told}")


def _lacking(folder: Path, wanted: Wanted) -> Sequence[str]:
    """The first of the wanted names that are all missing; empty if nothing is."""
    return next((names for names in wanted if not any((folder / name).is_file() for name in names)), ())


def _problem(folder: Path, lacking: Sequence[str]) -> str:
    if not folder.exists():
        return f"there is no folder {folder}"
    if not folder.is_dir():
        return f"{folder} is a file; name the folder that it is in, with {CONFIG} and {WEIGHTS[0]}"
    return f"{folder} {_lacks(folder, lacking)}"


def _lacks(folder: Path, lacking: Sequence[str]) -> str:
    """Why files are missing, and what to do."""
    if lacking[0] == WEIGHTS[0]:
        other = next((name for name in PICKLES if (folder / name).is_file()), None)
        why = f"; {other} is not read, as a pickle can run code" if other and other.endswith((".bin", ".pt")) else ""
        return (
            f"has no {WEIGHTS[0]}{why}. Where the model is trusted: "
            "transformers.AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER), and name OTHER"
        )
    if lacking[0] == TOKENIZER:
        return (
            f"has no {TOKENIZER}. Write one where the model is trusted: "
            "transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER); a tokenizer that has no such "
            "file, as it is written in Python, is not taken"
        )
    return f"has no {' or '.join(lacking)}, as folders of Hugging Face models have"
