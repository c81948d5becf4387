"""What a run's folder says of it as the rows of tables, for the report in Markdown and the one in HTML."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from mmreg.console import by_target, detail_rows
from mmreg.messages import cell, listed, plural
from mmreg_report.reading import Facts

OTHERS = (("per_direction", "Directions"), ("per_quantile", "Quantiles"))
"""What figures are told apart by besides classes and labels, with the title of the table."""
SPLITS = {"validation": "validation", "out_of_fold": "out of fold", "test": "test"}
"""What is measured, and how it is called."""


def measured_split(facts: Facts) -> str | None:
    """The last split that was measured: the test rows, where there are such."""
    return next((split for split in reversed(SPLITS) if split in facts.report), None)


def rows_of(split: str | None) -> str:
    """What the rows of a split are called."""
    return "rows out of fold" if split == "out_of_fold" else f"{split} rows"


def summary(facts: Facts) -> list[str]:
    """Rows, epochs and which weights were kept, a line each; of a combination, its runs."""
    report = facts.report
    if "fused" in report:
        return [cell(run) for run in report["fused"]]
    table = facts.components["table"]
    rows = ", ".join(f"{count:,} {split}" for split, count in table["rows"].items())
    found = facts.components.get("batch_size")  # where the recipe left it open
    of = f" of {plural(found, 'row')}, as many as were found to pay" if found else ""
    return [
        f"table: {cell(table['name'])} ({rows} rows)",
        f"{plural(report['epochs'], 'epoch')}, {plural(report['steps'], 'step')}{of}",
        _weights(report),
    ]


def _weights(report: dict[str, Any]) -> str:
    best, soup = report.get("best"), report.get("soup")
    if best:
        return f"weights of epoch {best['epoch']}, the best by validation {best['metric']} ({cell(best['value'])})"
    if soup and len(soup["epochs"]) > 1:
        epochs, figure = listed(soup["epochs"]), f"validation {soup['metric']} {cell(soup['value'])}"
        return f"mean of the weights of the epochs {epochs} (soup; {figure})"
    if soup:
        best = f"the best by validation {soup['metric']} ({cell(soup['value'])})"
        return f"weights of epoch {soup['epochs'][0]}, {best}: no other epoch's made them better (soup)"
    return "weights of the last epoch"


def rows_of_parts(facts: Facts) -> str:
    """Why parts have other figures than where they stand alone; empty where each is measured on all rows."""
    measured = [facts.report[split] for split in SPLITS if split in facts.report]
    if all(part["rows"] == each["rows"] for each in measured for part in each["metrics"]["modalities"].values()):
        return ""
    told = "A part is measured on the rows that have something of what it reads."
    if "seeds" in facts.report:
        told += " The trainings are measured on all rows below; those that have nothing get the training prior."
    return told


def trainings(facts: Facts) -> list[tuple[str, list[dict[str, Any]]]]:
    """The figures of each of the folds or seeds that the run is made of, with their means and deviations, by title."""
    sections = {f"Seeds ({split} rows)": each for split, each in facts.report.get("seeds", {}).items()}
    if facts.report.get("folds"):
        sections[f"Folds ({rows_of('out_of_fold')})"] = facts.report["folds"]
    tables = []
    for title, trained in sections.items():
        names = [name for name in trained[0]["metrics"] if all(name in each["metrics"] for each in trained)]
        columns = {name: [each["metrics"][name] for each in trained] for name in names}
        rows = [{"training": each["name"], "rows": each["rows"], **each["metrics"]} for each in trained]
        rows.append({"training": "mean", **{name: mean(values) for name, values in columns.items()}})
        if len(trained) > 1:
            rows.append({"training": "deviation", **{name: stdev(values) for name, values in columns.items()}})
        tables.append((title, rows))
    return tables


def classes(facts: Facts) -> list[tuple[str, list[dict[str, Any]]]]:
    """The figures of each class, label or direction on the last split that there is, where the task has them."""
    split = measured_split(facts)
    return [
        (
            f"{title}{f' of {cell(target)}' if target else ''} ({rows_of(split)})",
            detail_rows(figures["metrics"][key]),
        )
        for target, figures in (by_target(facts.report[split]).items() if split else ())
        for key, title in (("per_class", "Classes"), ("per_label", "Labels"), *OTHERS)
        if figures["metrics"].get(key)
    ]
