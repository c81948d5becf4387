"""What `mmreg compare` has found, out of its folder: conclusions, variants, tested pairs, learning curves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmreg.errors import MmregError, RunError
from mmreg.files import irregular
from mmreg.messages import byte_size, one_line, plural
from mmreg.sections import Block, Chart, Series, Table
from mmreg_report.reading import DAMAGED, read_run
from mmreg_report.sections.curves import curve_charts

RESULTS = "comparison.json"
MOST_CURVES = 6
"""Variants whose curves are drawn: the best, as many as have a colour of their own."""
MOST_PAIRS = 15
"""Pairs that are shown without being asked for."""


def comparison(folder: Path) -> list[Block]:
    """Blocks of the comparison in a folder; nothing where there is none."""
    path = folder / RESULTS
    if irregular(path) or not path.is_file():
        return []
    try:
        return _blocks(folder, json.loads(path.read_text(encoding="utf-8")))
    except (*DAMAGED, StopIteration) as error:
        raise RunError(f"{path} is damaged, or was edited: {one_line(error)}; mmreg compare writes it anew") from error


def _blocks(folder: Path, found: Mapping[str, Any]) -> list[Block]:
    metric, split, pairs = found["metric"], found["split"], found["pairs"]
    blocks: list[Block] = [f"{text}." for text in found["conclusions"]]
    variants = [_variant(each, found) for each in found["variants"]]
    shares = all(0 <= row[metric] <= 1 for row in variants)
    blocks.append(Table(f"Variants ({split} rows)", variants, bars=metric if shares else ""))
    blocks.append(
        f"Means over seeds of the {metric} on {plural(found['rows'], f'{split} row')}, their standard deviations over "
        f"seeds, and the 95% interval of the mean over {found['resamples']:,} draws of the rows (bootstrap). Time and "
        "memory are those of one training: its mean and its greatest peak."
    )
    if curves := _curves(folder, found):
        blocks.append(curves)
    if pairs:
        exact = any(pair["test"] == "mcnemar" for pair in pairs)
        test = "McNemar's exact test of the rows that one of the two gets right in more seeds" if exact else "bootstrap"
        blocks.append(
            f"Two by two: the first one's {metric} less the second's, with its 95% interval (bootstrap); p by {test}, "
            f"and after Holm's correction for {plural(len(pairs), 'pair')}. One is called better or worse where the "
            "corrected p is below 0.05 and it wins more seeds and rows than it loses."
        )
        rows = [_pair(pair) for pair in pairs]
        blocks.append(Table(f"Differences in {metric}", rows, folded=len(rows) > MOST_PAIRS))
    if found["failed"]:
        blocks.append(Table("Trainings that failed", [dict(each) for each in found["failed"]]))
    runs = [
        {"variant": each["name"], "seed": run["seed"], metric: run["metrics"][metric], "run": str(_place(folder, run))}
        for each in found["variants"]
        for run in each["runs"]
    ]
    notes = [f"{text}" for text in found["notes"]]
    return [*blocks, *notes, Table("Trainings; mmreg report RUN tells of each", runs, folded=True)]


def _variant(variant: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of variants."""
    figures = variant["metrics"][found["metric"]]
    low, high = variant["interval"] or (None, None)
    row = {"variant": variant["name"], found["metric"]: figures["mean"], "deviation": figures["deviation"]}
    row |= {"from": low, "to": high, "seeds": len(variant["seeds"])}
    if found["best_single"] is not None:
        alone = variant["name"] == found["best_single"]
        row["over the best single modality"] = "baseline" if alone else variant["gain_over_best_single"]
    row["beside the best"] = _standing(variant["name"], found)
    memory = variant["memory_bytes"]
    row |= {"parameters": variant["parameters"], "seconds": variant["seconds"]}
    return {**row, "memory": None if memory is None else byte_size(memory)}


def _standing(name: str, found: Mapping[str, Any]) -> str:
    """What a variant is beside the best one."""
    if name == found["best"]:
        return "best"
    pairs = (pair for pair in found["pairs"] if {pair["first"], pair["second"]} == {name, found["best"]})
    pair = next(pairs, None)
    if pair is None:
        return "not tested"
    return "not distinguishable" if pair["verdict"] == "not distinguishable" else "worse"


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    low, high = pair["interval"] or (None, None)
    row = {"first": pair["first"], "second": pair["second"], "difference": pair["difference"], "from": low, "to": high}
    if pair["mcnemar"] is not None:
        row |= {f"only {which} right": pair["mcnemar"][f"only_{which}_right"] for which in ("first", "second")}
    row["seeds won"] = f"{pair['seeds_won']} to {pair['seeds_lost']}"
    return {**row, "p": pair["p"], "p (Holm)": pair["adjusted_p"], "first is": pair["verdict"]}


def _curves(folder: Path, found: Mapping[str, Any]) -> Chart | None:
    """How the metric, or else the loss, of the best variants went, of the first seed of each."""
    drawn = [(each["name"], dict(_validation(folder, each["runs"][0]))) for each in found["variants"][:MOST_CURVES]]
    name = next((what for what in (found["metric"], "loss") if any(what in own for _, own in drawn)), None)
    if name is None:
        return None
    series = [Series(variant, own[name].x, own[name].y) for variant, own in drawn if name in own]
    left_out = len(found["variants"]) > MOST_CURVES
    of = f"the {MOST_CURVES} best variants, " * left_out + "the first seed of each"
    return Chart(f"Learning curves ({of})", "epoch", f"validation {name}", series)


def _validation(folder: Path, run: Mapping[str, Any]) -> Iterator[tuple[str, Series]]:
    """A run's validation curves of the whole model, by what they are of; none where its folder is gone."""
    try:
        charts = curve_charts(read_run(_place(folder, run)))
    except (MmregError, *DAMAGED):
        return
    for chart in charts:
        yield from ((chart.y, series) for series in chart.series if series.name == f"validation {chart.y}")


def _place(folder: Path, run: Mapping[str, Any]) -> Path:
    """Where a run is: within the comparison's folder, which may have been moved, or where it was."""
    was = Path(run["folder"])
    inside = folder.joinpath("runs", *was.parts[-2:])
    return inside if inside.is_dir() else was
