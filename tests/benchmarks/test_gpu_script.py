"""The script that measures a GPU runs to its end where there is none, on a few rows."""

from __future__ import annotations

import dataclasses

import gpu
import pytest
import torch


@pytest.mark.parametrize("name", ["seed_model", "digits_product"])
def test_it_compares_trainings_with_the_bare_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.SCENARIOS, name, dataclasses.replace(gpu.SCENARIOS[name], rows=32, batch_size=16))
    (figures,) = gpu.measure(name, torch.device("cpu"), 0.0, ["eager"])
    assert figures["lowest"] <= figures["ratio"] <= figures["highest"]
    assert figures["rows_per_second"] > 0
    assert figures["told"] == []
