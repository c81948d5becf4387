"""Pretrained weights: read from files of several kinds, fitted into modules, and found where they are at hand."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmreg.errors import OptionError
from mmreg.pretrained import find_weights, load_weights, read_weights, small_pictures, weights_at_hand, weights_folder


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMREG_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "wrapped.ckpt", "module.bin"])
def test_a_state_dict_is_read_from_whatever_holds_it_without_code(tmp_path: Path, name: str) -> None:
    state = nn.Linear(3, 2).state_dict()
    if name.endswith("safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save({"epoch": 3, "state_dict": state} if name == "wrapped.ckpt" else state, tmp_path / name)
    read = read_weights(tmp_path / name)
    assert set(read) == {"weight", "bias"}
    assert all(torch.equal(tensor, state[key]) for key, tensor in read.items())


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    for name in ("evil.pt", "plain.bin"):
        with pytest.raises(OptionError, match="would run code; save the state dict as safetensors"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_what_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    torch.save({3: torch.ones(2)}, tmp_path / "numbered.pt")
    for name, told in [
        ("absent.pt", "there is no file"),
        ("absent.safetensors", "there is no file"),
        ("cut.safetensors", "no safetensors file, or is damaged"),
        ("list.pt", "holds no weights by name"),
        ("none.pt", "holds no weights by name"),
        ("numbered.pt", "holds no weights by name"),
    ]:
        with pytest.raises(OptionError, match=told):
            read_weights(tmp_path / name)


def test_all_weights_of_a_file_must_fit_but_those_that_are_ignored() -> None:
    source = nn.ModuleDict({"body": nn.Linear(3, 2), "norm": nn.BatchNorm1d(2), "head": nn.Linear(2, 5)})
    target = nn.ModuleDict({"body": nn.Linear(3, 2), "norm": nn.BatchNorm1d(2)})
    weights = {name: tensor for name, tensor in source.state_dict().items() if "num_batches" not in name}
    load_weights(target, weights, "w.pt", ignored="head.")
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in weights.items() if "head" not in name)
    with pytest.raises(OptionError, match=r"w\.pt is not of this network: it has head\.weight, head\.bias, which the"):
        load_weights(target, weights, "w.pt")
    del weights["body.bias"]
    weights["norm.weight"] = torch.ones(3)
    with pytest.raises(OptionError, match=r"it lacks body\.bias; norm\.weight is \(3,\) where \(2,\) is needed"):
        load_weights(target, weights, "w.pt", ignored="head.")


def test_a_file_is_found_in_the_folder_of_weights_before_anything_is_downloaded(tmp_path: Path) -> None:
    url = (tmp_path / "far" / "tiny-0a1b2c3d.pth").as_uri()
    assert weights_at_hand(url) is None
    weights_folder().mkdir()
    torch.save({"weight": torch.ones(2)}, weights_folder() / "tiny-0a1b2c3d.pth")
    assert find_weights(url) == weights_at_hand(url) == weights_folder() / "tiny-0a1b2c3d.pth"


def test_a_download_is_kept_and_checked(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "source")
    digest = hashlib.sha256((tmp_path / "source").read_bytes()).hexdigest()[:8]
    right, wrong = tmp_path / f"tiny-{digest}.pth", tmp_path / "tiny-00000000.pth"
    for path in (right, wrong):
        path.write_bytes((tmp_path / "source").read_bytes())
    path = find_weights(right.as_uri())
    assert path.is_relative_to(tmp_path / "torch")
    right.unlink()
    assert find_weights(right.as_uri()) == path
    with pytest.raises(OptionError, match="cannot be downloaded: RuntimeError: invalid hash value"):
        find_weights(wrong.as_uri())


def test_offline_the_message_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    url = (tmp_path / "nowhere" / "resnet-f37072fd.pth").as_uri()
    with pytest.raises(OptionError) as error:
        find_weights(url, "45 MB")
    told = str(error.value)
    assert "resnet-f37072fd.pth (45 MB) are not at hand and cannot be downloaded" in told
    assert f"fetch {url} elsewhere and put it into {weights_folder()}" in told


@pytest.mark.parametrize(
    ("options", "small"), [(None, False), ({"size": 28}, True), ({"size": [64, 31]}, True), ({"size": 32}, False)]
)
def test_pictures_of_few_pixels_are_small(options: Any, small: bool) -> None:
    assert small_pictures(options) is small
