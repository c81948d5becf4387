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


def test_safetensors_are_known_by_how_they_begin(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    save_file(state, tmp_path / "model.bin")
    assert all(torch.equal(tensor, state[name]) for name, tensor in read_weights(tmp_path / "model.bin").items())


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    for name, what in [
        ("pipe.pt", "a FIFO"),
        ("folder.pt", "a folder"),
        ("loop.safetensors", "a link that leads to itself"),
    ]:
        with pytest.raises(OptionError, match=f"weights: .*{name} is {what}, not a file"):
            read_weights(tmp_path / name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.ones(3, dtype=torch.complex64), "complex"),
        (torch.empty(3, device="meta"), "meta"),
        (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
    ],
)
def test_tensors_of_odd_kinds_are_refused_by_name(tmp_path: Path, tensor: torch.Tensor, kind: str) -> None:
    torch.save({"bias": torch.ones(2), "odd": tensor}, tmp_path / "w.pt")
    with pytest.raises(OptionError, match=rf"w\.pt holds a {kind} tensor \(odd\)"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_numbers_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, name: str, value: float, dtype: torch.dtype
) -> None:
    state = {"norm.weight": torch.ones(2), "layer.weight": torch.tensor([0.5, value]).to(dtype)}
    save_file(state, tmp_path / name) if name.endswith("safetensors") else torch.save(state, tmp_path / name)
    with pytest.raises(OptionError, match=rf"{name} holds numbers that are not finite \(layer\.weight\)"):
        read_weights(tmp_path / name)


def test_the_mask_that_attention_adds_is_read(tmp_path: Path) -> None:
    mask = torch.full((3, 3), -torch.inf).triu(1)
    save_file({"mask": mask}, tmp_path / "w.safetensors")
    assert torch.equal(read_weights(tmp_path / "w.safetensors")["mask"], mask)


def test_integers_and_variances_below_zero_are_not_loaded() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    weights = module.state_dict() | {
        "0.weight": torch.ones(2, 3, dtype=torch.int8),
        "1.running_var": torch.tensor([1.0, -0.1]),
    }
    with pytest.raises(OptionError) as error:
        load_weights(module, weights, "w.pt")
    assert "0.weight is int8 where float32 is needed; 1.running_var holds variances below zero" in str(error.value)
    assert "(5 of the network's 7 tensors are there and fit)" in str(error.value)


def test_what_torch_says_of_a_file_does_not_reach_the_user(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    layer = nn.Linear(3, 2)
    (tmp_path / "w.pt").write_bytes(b"")
    torch.jit.save(torch.jit.script(layer), tmp_path / "script.pt")
    recwarn.clear()
    for name in ("w.pt", "script.pt"):
        with pytest.raises(OptionError, match="cannot be read"):
            read_weights(tmp_path / name)
    assert not recwarn.list
