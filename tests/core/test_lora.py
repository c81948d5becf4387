"""Adapters of low rank beside the linear layers of any module."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from mmreg.errors import OptionError
from mmreg.pretrained import add_lora


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ModuleDict({"query": nn.Linear(6, 6)})["query"])


def test_adapters_begin_as_nothing_and_are_trained_alone() -> None:
    values = torch.randn(5, 4)
    plain, adapted = network(), network()
    add_lora(adapted, 2)
    torch.testing.assert_close(adapted(values), plain(values))
    trained = {name: parameter.shape for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained == {
        "0.lora_A.default.weight": (2, 4),
        "0.lora_B.default.weight": (6, 2),
        "2.lora_A.default.weight": (2, 6),
        "2.lora_B.default.weight": (6, 2),
    }


def test_an_adapter_adds_its_product_times_alpha_by_rank() -> None:
    adapted = network()
    add_lora(adapted, {"rank": 3, "alpha": 12.0, "targets": ["2"]})
    layer, values = adapted[2], torch.randn(5, 6)
    assert not hasattr(adapted[0], "lora_A")
    nn.init.normal_(layer.lora_B["default"].weight)
    low, high = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = values @ layer.base_layer.weight.T + layer.base_layer.bias + 12 / 3 * (values @ low.T @ high.T)
    torch.testing.assert_close(layer(values), expected)


def test_a_rank_alone_is_scaled_by_two() -> None:
    adapted = network()
    add_lora(adapted, 3)
    assert adapted[0].scaling == {"default": 2.0}


def test_an_ending_is_that_of_a_whole_name() -> None:
    module = nn.ModuleDict({"value": nn.Linear(2, 2), "my_value": nn.Linear(2, 2)})
    add_lora(module, {"rank": 1, "targets": ["value"]})
    assert [hasattr(part, "lora_A") for part in module.values()] == [True, False]


def test_endings_of_no_layer_are_refused() -> None:
    with pytest.raises(OptionError, match="no linear layer's name ends in key; there are 0, 2"):
        add_lora(network(), {"rank": 1, "targets": ["key"]})


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(OptionError, match=r"lora: needs peft: pip install 'mmreg\[lora\]'"):
        add_lora(network(), 1)
