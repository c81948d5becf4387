"""Explanations as tables for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmreg.console import print_table
from mmreg.messages import plural, printable

if TYPE_CHECKING:
    from mmreg_explain.explanation import Explanation
    from mmreg_explain.within import Attribution


def print_explanation(found: Explanation, top: int) -> None:
    """The modalities over all rows, their pairs, and the first rows."""
    subsets = f"all {found.subsets} subsets" if found.exact else f"{found.subsets:,} random subsets"
    names = plural(len(found.modalities), "modality", "modalities")
    print_table(
        [_overall(line) for line in found.overall()],
        title=f"{found.what}: {plural(len(found), 'row')}, {names}, {subsets}",
    )
    pairs = sorted(found.pairs(), key=lambda line: -abs(line["mean"]))
    if pairs:
        print()
        shown = [
            {
                "together": f"{line['first']} and {line['second']}",
                "mean": _signed(line["mean"]),
                "mean size": _digits(line["mean_size"]),
                **({"error": _digits(line["standard_error"])} if "standard_error" in line else {}),
            }
            for line in pairs[:top]
        ]
        title = f"only together: InterSHAP {_digits(found.overall_intershap)} (0 each by itself, 1 only together)"
        print_table(shown, title=title)
    print()
    print_table([_row(found, number) for number in range(min(top, len(found)))], title="rows: what each modality adds")
    if len(found) > top:
        print(f"and {plural(len(found) - top, 'more row')}; --top shows more, --out writes all")


def print_attributions(found: Sequence[Attribution], top: int) -> None:
    """The largest parts over all rows where these have the same, and those of the first rows."""
    same = len(found) > 1 and len({tuple(each.names) for each in found}) == 1
    if same:
        sizes = np.mean([np.abs(each.shares) for each in found], 0)
        means = np.mean([each.shares for each in found], 0)
        order = np.argsort(-sizes, kind="stable")[:top].tolist()
        lines = [
            {"part": printable(found[0].names[k]), "mean size": _digits(sizes[k]), "mean": _signed(means[k])}
            for k in order
        ]
        title = f"{found[0].kind} of {found[0].modality}, {found[0].method}: {plural(len(found), 'row')}"
        print_table(lines, title=title)
    for number, each in enumerate(found[:top]):
        if number or same:
            print()
        order = np.argsort(-np.abs(each.shares), kind="stable")[:top].tolist()
        title = (
            f"{each.key_name} {each.key}, {each.modality}: {each.output} {_digits(each.value)}, with nothing "
            f"{_digits(each.base)}; {each.kind} by {each.method}"
        )
        print_table(
            [{"part": printable(each.names[k]), "adds": _signed(each.shares[k])} for k in order],
            ["part", "adds"],
            title=printable(title),
        )
        if len(each.names) > top:
            rest = len(each.names) - top
            print(f"and {rest:,} more {each.kind.removesuffix('s') if rest == 1 else each.kind}")
    if len(found) > top:
        print(f"and {plural(len(found) - top, 'more row')}; --top shows more, --out writes all")


def _overall(line: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "modality": line["modality"],
        "rows": line["rows"],
        "share": "" if line["share"] is None else f"{line['share']:.0%}",
        "decided": line["decided"],
        "mean size": _digits(line["mean_size"]),
        "mean": _signed(line["mean"]),
    }
    return shown if "standard_error" not in line else {**shown, "error": _digits(line["standard_error"])}


def _row(found: Explanation, number: int) -> dict[str, Any]:
    line: dict[str, Any] = {
        found.key: found.keys[number],
        "output": found.outputs[number],
        "predicted": _digits(found.values[number]),
        "prior": _digits(found.base[number]),
    }
    for place, name in enumerate(found.modalities):
        there = found.present[number, place]
        line[f"{name} " if name in line else name] = _signed(found.shapley[number, place]) if there else "absent"
    return {**line, "InterSHAP": _digits(found.intershap[number])}


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.3g}"
