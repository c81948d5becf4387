"""Pretrained weights: where they are, reading them, and putting them into a module, with errors that say what to do."""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.parse
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Required

import platformdirs
import torch
from annotated_types import Ge, Gt, Lt, MinLen
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from typing_extensions import TypedDict

from mmreg.errors import OptionError
from mmreg.files import irregular
from mmreg.messages import listed, one_line, plural

WRAPPERS = ("state_dict", "model_state_dict", "model", "weights")
"""Keys under which files of whole trainings keep the weights."""
SMALL = 32
"""Pixels a side below which pictures hold little of what networks know that learned from large ones."""


def weights_folder() -> Path:
    """The folder of weights at hand: the environment variable MMREG_WEIGHTS_DIR, else one in the user's data folder.

    Encoders look for files there by name before anything is downloaded.
    """
    chosen = os.environ.get("MMREG_WEIGHTS_DIR")
    return Path(chosen) if chosen else platformdirs.user_data_path("mmreg") / "weights"


def small_pictures(options: Mapping[str, Any] | None) -> bool:
    """Whether pictures are too small for networks that learned from large ones, by a modality's option `size`."""
    size = (options or {}).get("size", SMALL)
    sides = [size] if isinstance(size, int) else size
    return min(sides) < SMALL


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name, in host memory: of safetensors, or of what torch saved without any code in it.

    Raises:
        OptionError: there is no such file, it is damaged, would run code, holds no weights, or some that no network can
            compute with.
    """
    if what := irregular(Path(path)):
        raise OptionError(f"weights: {path} is {what}, not a file")
    try:
        if _is_safetensors(path):
            return _usable(load_file(path), path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of a file's kind is for whoever wrote it
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise OptionError(f"weights: there is no file {path}") from error
    except (MemoryError, OptionError):
        raise  # the first says nothing of the file
    except SafetensorError as error:
        raise OptionError(f"weights: {path} is no safetensors file, or is damaged: {one_line(error)}") from error
    except Exception as error:  # torch raises several kinds
        told = "it holds no plain tensors, is damaged, or would run code; save the state dict as safetensors"
        raise OptionError(f"weights: {path} cannot be read: {told}") from error
    for key in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)} if _is_named(found) else {}
    if not tensors:
        raise OptionError(f"weights: {path} holds no weights by name, such as a state dict has")
    return _usable(tensors, path)


def _is_safetensors(path: str | Path) -> bool:
    """Whether a file is to be read as safetensors, by its name or as it begins: the header's length, then its JSON."""
    if str(path).lower().endswith(".safetensors"):
        return True
    with Path(path).open("rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        return start[8:] == b"{" and length <= os.fstat(file.fileno()).st_size


def _usable(tensors: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Tensors of a file, none of which is of a kind, or holds numbers, that no network can compute with."""
    for name, tensor in tensors.items():
        if kind := _odd_kind(tensor):
            raise OptionError(f"weights: {path} holds a {kind} tensor ({name}); save the weights as plain real numbers")
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        raise OptionError(f"weights: {path} holds numbers that are not finite ({listed(bad, 3)})")
    return tensors


def _odd_kind(tensor: Tensor) -> str:
    """What is odd about a tensor; empty for plain numbers."""
    if tensor.is_meta:
        return "meta"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantised"
    return "complex" if tensor.is_complex() else ""


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite, or zeros and minus infinity: a mask that attention adds, kept as a buffer."""
    if not tensor.is_floating_point():
        return True
    values = tensor if tensor.itemsize > 1 else tensor.float()  # torch looks into no number of eight bits
    if bool(torch.isfinite(values).all()):
        return True
    zero = values == 0
    return bool(zero.any()) and bool((zero | (values == -torch.inf)).all())


def _is_named(found: Any) -> bool:
    return isinstance(found, Mapping) and all(isinstance(name, str) for name in found)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str | Path, ignored: str = "") -> None:
    """Put weights into a module, all of them and nothing else.

    Args:
        module: it has to have been made already.
        weights: by name.
        source: where they come from, for messages.
        ignored: how the names begin of weights that the module has no use for, such as those of a last layer that was
            left out; nothing of the file is ignored if it is empty.

    Raises:
        OptionError: some are missing, of another shape, not the module's, integers where real numbers belong, or
            variances below zero; names the first ones.
    """
    own = module.state_dict()
    given = {name: tensor for name, tensor in weights.items() if not (ignored and name.startswith(ignored))}
    given = {name: tensor for name, tensor in given.items() if name in own or not _is_count(name)}
    missing = [name for name in own if name not in given and not _is_count(name)]
    others = [name for name in given if name not in own]
    misfits = [text for name, tensor in given.items() if name in own and (text := _misfit(name, tensor, own[name]))]
    problems = [f"it lacks {listed(missing, 3)}"] if missing else []
    problems += [f"it has {listed(others, 3)}, which the network has not"] if others else []
    problems += misfits[:3]
    if problems:
        there = len(own) - len(missing) - len(misfits)
        told = f"{'; '.join(problems)} ({there:,} of the network's {plural(len(own), 'tensor')} are there and fit)"
        raise OptionError(f"weights: {source} is not of this network: {told}")
    module.load_state_dict(given, strict=False)


def _misfit(name: str, tensor: Tensor, own: Tensor) -> str:
    """Why a tensor cannot take the place of a module's; empty if it can."""
    if own.shape != tensor.shape:
        return f"{name} is {tuple(tensor.shape)} where {tuple(own.shape)} is needed"
    if own.is_floating_point() and not tensor.is_floating_point():
        kinds = [str(each.dtype).removeprefix("torch.") for each in (tensor, own)]
        return f"{name} is {kinds[0]} where {kinds[1]} is needed"
    if name.rpartition(".")[2] == "running_var" and bool((tensor < 0).any()):
        return f"{name} holds variances below zero"
    return ""


def _is_count(name: str) -> bool:
    """Whether a tensor only counts batches, which old files have not."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def find_weights(url: str, size: str = "") -> Path:
    """The file of a URL: from `weights_folder`, from torch's own cache, or downloaded there with progress.

    Args:
        url: of the file; eight hexadecimal digits before its ending, as in resnet18-f37072fd.pth, are the beginning of
            its SHA-256, and are checked.
        size: of the file, for people, such as "45 MB".

    Raises:
        OptionError: it is not at hand and cannot be downloaded; says where to put it.
    """
    at_hand = weights_at_hand(url)
    if at_hand is not None:
        return at_hand
    name = _file_name(url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    with downloading(name, url, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        match = torch.hub.HASH_REGEX.search(name)
        torch.hub.download_url_to_file(url, str(path), match.group(1) if match else None, sys.stderr.isatty())
    return path


def weights_at_hand(url: str) -> Path | None:
    """The file of a URL, if it need not be downloaded."""
    places = (weights_folder(), Path(torch.hub.get_dir()) / "checkpoints")
    return next((place / _file_name(url) for place in places if (place / _file_name(url)).is_file()), None)


def _file_name(url: str) -> str:
    return Path(urllib.parse.urlparse(url).path).name


@contextmanager
def downloading(name: str, url: str, size: str = "") -> Iterator[None]:
    """Say of a download that fails which file it was, how large it is, and where to put it.

    Raises:
        OptionError: the block raised an error of the network or the disk.
    """
    try:
        yield
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        of = f"{name} ({size})" if size else name
        raise OptionError(
            f"the weights {of} are not at hand and cannot be downloaded: {one_line(error)}; fetch {url} elsewhere and "
            f"put it into {weights_folder()} as {name}, or name a file by weights"
        ) from error


class Lora(TypedDict, total=False):
    """How adapters of low rank are made (LoRA, Hu et al. 2022): an option's type, beside a rank alone."""

    rank: Required[Annotated[int, Ge(1)]]
    """How many numbers an adapter passes on."""
    alpha: Annotated[float, Gt(0)]
    """An adapter's result is multiplied by alpha / rank; twice the rank if it is not given."""
    dropout: Annotated[float, Ge(0), Lt(1)]
    """The share of an adapter's inputs that training drops; 0 if it is not given."""
    targets: Annotated[list[str], MinLen(1)]
    """How the names of the layers end that get one, such as "query"; all linear layers if it is not given."""


def add_lora(module: nn.Module, lora: int | Lora) -> None:
    """Put adapters of low rank beside a module's linear layers: they alone are trained, all else stays as it is.

    They begin as nothing, so that the module computes what it did. Adapters are part of its weights: a component that
    is restored adds them before its weights are loaded.

    Args:
        module: it has its weights already.
        lora: the rank, or how they are made.

    Raises:
        OptionError: peft is not installed, or there are no such layers.
    """
    chosen: Lora = {"rank": lora} if isinstance(lora, int) else lora
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise OptionError("lora: needs peft: pip install 'mmreg[lora]'") from error
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    endings = chosen.get("targets")
    targets = [name for name in linear if endings is None or any(f".{name}".endswith(f".{end}") for end in endings)]
    if not targets:
        told = listed(sorted({name.rpartition(".")[2] for name in linear}))
        raise OptionError(f"lora: no linear layer's name ends in {listed(endings or [])}; there are {told or 'none'}")
    # A pattern rather than a list, which peft takes for endings: of one layer's name another's may be the ending.
    pattern = "|".join(re.escape(name) for name in targets)
    rank, alpha = chosen["rank"], chosen.get("alpha", 2 * chosen["rank"])
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=chosen.get("dropout", 0.0), target_modules=pattern, bias="none"
    )
    inject_adapter_in_model(config, module)
