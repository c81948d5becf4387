"""The gallery has every operator, with the formulas of those that are built; page and pictures are up to date."""

from __future__ import annotations

import json
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmreg import FeatureFusion, Features, registry

DOCS = Path(__file__).resolve().parents[2] / "docs"
GALLERY = runpy.run_path(str(DOCS / "operators" / "gallery.py"))
ENTRIES: dict[str, dict[str, Any]] = GALLERY["ENTRIES"]
NAMES = [entry.spec.name for entry in registry.specs("fusion") if entry.distribution == "mmreg"]
RENEW = "run: python docs/operators/gallery.py"

SIZES = [
    {"M": 2, "D": 8, "T": 2, "K": 2},
    {"M": 3, "D": 8, "T": 4, "K": 5},
    {"M": 4, "D": 12, "T": 3, "K": 3},
]
OTHERS: dict[str, dict[str, Any]] = {
    "features": {"features": 24},
    "rank": {"rank": 3},
    "num_layers": {"num_layers": 3},
    "hidden": {"hidden": 20},
    "width": {"width": 16},
    "chunks": {"chunks": 4},
    "order": {"order": 3},
    "num_bottlenecks": {"num_bottlenecks": 6},
    "num_latents": {"num_latents": 5},
    "feedforward": {"feedforward": 40},
}
"""An option other than its default, for each that a formula names."""


def options_of(name: str) -> dict[str, Any]:
    return {
        key: value for each in ENTRIES.get(name, {}).get("letters", {}).values() for key, value in OTHERS[each].items()
    }


CASES = [
    (name, sizes, options) for name in NAMES for sizes, options in zip(SIZES, ({}, options_of(name), {}), strict=True)
]
IDS = [f"{name}-{sizes['M']}" for name, sizes, _ in CASES]


def products(operator: Any, sizes: dict[str, int]) -> float:
    """The multiply-adds of a row in matrix products, as torch counts them."""
    rows, names = 2, [f"x{number}" for number in range(sizes["M"])]
    present = torch.ones(rows, sizes["M"], dtype=torch.bool)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
        if isinstance(operator, FeatureFusion):
            shape = (rows, sizes["T"], sizes["D"]) if operator.takes == "tokens" else (rows, sizes["D"])
            operator({name: Features(**{operator.takes: torch.randn(shape)}) for name in names}, present)
        else:
            scores = {name: torch.randn(rows, sizes["K"]).log_softmax(1) for name in names}
            operator(scores, present, {name: torch.randn(rows, sizes["D"]) for name in names})
    return counter.get_total_flops() / 2 / rows


def test_every_operator_has_an_entry_with_all_facts() -> None:
    assert set(ENTRIES) == set(NAMES), "write it into docs/operators/entries.yaml"
    for name, entry in ENTRIES.items():
        assert (
            set(GALLERY["FACTS"]) <= set(entry) <= {*GALLERY["FACTS"], "letters", "where", "note", "fitted", "accuracy"}
        ), name
        assert all(entry[fact] for fact in GALLERY["FACTS"]), name


@pytest.mark.parametrize(("name", "sizes", "options"), CASES, ids=IDS)
def test_the_formulas_are_those_of_the_built_operator(
    name: str, sizes: dict[str, int], options: dict[str, Any]
) -> None:
    operator = GALLERY["build"](registry.find("fusion", name), sizes, options).eval().requires_grad_(False)
    parameters = sum(each.numel() for each in operator.parameters())
    assert GALLERY["evaluate"](name, "parameters", sizes, options) == parameters
    assert GALLERY["evaluate"](name, "products", sizes, options) == products(operator, sizes)
    # What is fitted on held-out rows is in buffers.
    assert ("fitted" in ENTRIES[name]) == getattr(operator, "fitted", False)
    if "fitted" in ENTRIES[name]:
        learned = [operator.get_buffer(each) for each in getattr(operator, "learned", ("temperature",))]
        assert GALLERY["evaluate"](name, "fitted", sizes) == sum(each.numel() for each in learned)


def test_the_forms_of_multiplicative_that_are_told_beside_the_formula_have_these_parameters() -> None:
    assert ENTRIES["multiplicative"]["note"].endswith(
        "`vector` has 3 M D F + F parameters, `scalar` M D (2 F + 1) + F."
    )
    M, D, F = 3, 8, 6
    for form, expected in {"vector": 3 * M * D * F + F, "scalar": M * D * (2 * F + 1) + F}.items():
        operator = GALLERY["build"](
            registry.find("fusion", "multiplicative"), {"M": M, "D": D}, {"form": form, "features": F}
        )
        assert sum(each.numel() for each in operator.parameters()) == expected


def test_the_page_is_up_to_date() -> None:
    assert GALLERY["page"]() == (DOCS / "operators.md").read_text(encoding="utf-8"), RENEW


def test_the_pictures_are_up_to_date_and_say_what_they_show() -> None:
    assert {path.stem for path in (DOCS / "operators").glob("*.svg")} == set(NAMES)
    for name in NAMES:
        text = (DOCS / "operators" / f"{name}.svg").read_text(encoding="utf-8")
        assert text == GALLERY["picture"](registry.find("fusion", name)), RENEW
        root = ET.fromstring(text)
        title, description = (root.findtext(f"{{http://www.w3.org/2000/svg}}{tag}") for tag in ("title", "desc"))
        assert title == f"How {name} fuses"
        assert str(description).endswith("comes out.")
        assert "prefers-color-scheme: dark" in text
        assert "href" not in text, "it needs no other file"


def test_every_operator_has_measured_figures() -> None:
    measured = json.loads((DOCS / "operators" / "measured.json").read_text(encoding="utf-8"))
    assert set(measured["operators"]) == set(NAMES), "run: python docs/operators/operator_times.py"
    assert measured["machine"]["cpu"]
    assert measured["date"]
    elsewhere = {name for name in NAMES if "accuracy" in ENTRIES[name]}
    assert set(GALLERY["accuracies"]()) >= set(NAMES) - elsewhere, "docs/figures.md says how to measure them"
    assert not set(GALLERY["accuracies"]()) & elsewhere, "what the entry says of it is out of date"
