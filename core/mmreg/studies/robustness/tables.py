"""The measurements of a robustness, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmreg.contract.metrics import numbers
from mmreg.notebook import harmless, html_table

Titled = list[tuple[str, list[dict[str, Any]]]]


class Robustness(dict[str, Any]):
    """What `evaluate_robustness` gives: a dict, which a notebook shows as tables."""

    @harmless
    def _repr_html_(self) -> str:
        return "".join(html_table(rows, title) for title, rows in tables(self))


def tables(robustness: Mapping[str, Any]) -> Titled:
    """A table with its title for each thing that was asked for."""
    split, seed, metric = robustness["split"], robustness["seed"], robustness["metric"]
    subsets, rates = robustness.get("subsets", []), robustness.get("rates", [])
    curves = robustness.get("corruptions", [])
    found: Titled = []
    if subsets:
        sampled = is_sampled(robustness)
        which = f"{len(subsets)} of {robustness['possible_subsets']:,} subsets" if sampled else "each subset"
        rows = [{"modalities": "+".join(each["modalities"]), **_row(each)} for each in subsets]
        found.append((f"{split} rows with {which} of the modalities", rows))
    if rates:
        rows = [{"missing rate": each["rate"], **_row(each)} for each in rates]
        found.append((f"{split} rows with each modality left out at random (seed {seed})", rows))
    for curve in curves:
        rows = []
        for point in curve["strengths"]:
            row = {"strength": point["strength"], **_row(point)}
            rows.append({**row, f"baseline {metric}": point["baseline"]} if "baseline" in point else row)
        found.append((f"{split} rows under {_name(curve)} (strength: {curve['unit']}; seed {seed})", rows))
    if curves:
        rows = [
            {
                "corruption": _name(curve),
                "relative robustness": curve["relative_robustness"],
                "effective robustness": curve["effective_robustness"],
            }
            for curve in curves
        ]
        better = "more" if robustness["more_is_better"] else "less"
        found.append((f"robustness by {metric} ({better} is better)", rows))
    return found


def is_sampled(robustness: Mapping[str, Any]) -> bool:
    """Whether some subsets of the modalities were not measured, as there are so many."""
    subsets = robustness.get("subsets", [])
    return bool(subsets) and len(subsets) < robustness["possible_subsets"]


def _name(curve: Mapping[str, Any]) -> str:
    return f"{curve['modality']}:{curve['corruption']}"


def _row(figures: Mapping[str, Any]) -> dict[str, Any]:
    """One measurement as a table's row."""
    row = {"rows": figures["rows"], **numbers(figures["metrics"])}
    if "rows_without_any_modality" in figures:
        row["without any"] = figures["rows_without_any_modality"]
    return row
