"""A comparison in words, tables, CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmreg.files import write_json, write_text
from mmreg.studies.compare.plot import write_plot

if TYPE_CHECKING:
    from mmreg.studies.compare.results import Comparison, Pair, Variant

SHOWN_PAIRS = 60
"""How many pairs the Markdown page lists; of more, it lists those with the best variant and the best single one."""
COMPARED = {"best": "best", "=": "not distinguishable", "?": "not tested", "": "worse"}
"""What a table's mark of a variant means."""


def sentence(comparison: Comparison, pair: Pair) -> str:
    """What a reader may conclude of a pair."""
    on = f"on {pair.rows} {comparison.split} rows"
    between = f"difference in {comparison.metric} {pair.difference:+.3g}"
    if pair.interval is not None:
        between += f", 95% interval {pair.interval[0]:+.3g} to {pair.interval[1]:+.3g}"
    count = len(comparison.pairs)
    corrected = f"p {p_text(pair.adjusted_p)}" + (f" after Holm's correction for {count} pairs" if count > 1 else "")
    what = f"{pair.verdict} from" if pair.verdict == "not distinguishable" else f"{pair.verdict} than"
    return f"{pair.first} is {what} {pair.second} {on} ({between}; {corrected})"


def conclusions(comparison: Comparison) -> list[str]:
    """What a reader may conclude of all pairs: of the best variant, and of each fusion against the best single one."""
    best, single = comparison.best, comparison.best_single
    on = f"on {comparison.rows} {comparison.split} rows"
    shown = value_text(best, comparison.metric)
    count = len(comparison.variants)
    if len(comparison.pairs) < count * (count - 1) // 2:
        on = f"on {comparison.rows} {comparison.split} rows, which not all variants have in common"
    lines = [f"{best.name} has the best {comparison.metric} {on}: {shown}"]
    lines += _against(comparison, best, [v for v in comparison.variants if v not in (best, single)], on)
    if single is not None and single is not best:
        pair = comparison.pair(best.name, single.name)
        if pair is not None:
            lines.append(sentence(comparison, pair))
        fused = [variant for variant in comparison.variants if len(variant.modalities) > 1]
        found: dict[str, list[str]] = {}
        for variant in fused:
            pair = comparison.pair(variant.name, single.name)
            if variant is not best and pair is not None:
                found.setdefault(_verdict(pair, variant), []).append(variant.name)
        lines += _verdicts(found, f"the best single modality, {single.name}", on)
    return lines


def _against(comparison: Comparison, variant: Variant, others: Iterable[Variant], on: str) -> list[str]:
    """What a variant is against others, those of the same verdict in one line."""
    found: dict[str, list[str]] = {}
    for other in others:
        pair = comparison.pair(variant.name, other.name)
        if pair is not None:
            found.setdefault(_verdict(pair, variant), []).append(other.name)
    lines = []
    for verdict, names in found.items():
        word = "from" if verdict == "not distinguishable" else "than"
        lines.append(f"{variant.name} is {verdict} {word} {_listed(names, 'or')} {on}")
    return lines


def _verdicts(found: Mapping[str, list[str]], baseline: str, on: str) -> list[str]:
    lines = []
    for verdict, names in found.items():
        word = "from" if verdict == "not distinguishable" else "than"
        lines.append(f"{_listed(names, 'and')} {'is' if len(names) == 1 else 'are'} {verdict} {word} {baseline}, {on}")
    return lines


def _verdict(pair: Pair, variant: Variant) -> str:
    """What a variant is, seen from the other one of a pair."""
    if pair.verdict == "not distinguishable" or pair.first == variant.name:
        return pair.verdict
    return "worse" if pair.verdict == "better" else "better"


def _listed(names: Sequence[str], last: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def table(comparison: Comparison) -> list[dict[str, str]]:
    """The most important figures as rows of text, the best variant first, with `COMPARED`'s marks."""
    single = comparison.best_single
    rows = []
    for variant in comparison.variants:
        row = {"variant": variant.name}
        row[comparison.metric] = value_text(variant, comparison.metric)
        for metric in _further(comparison):
            row[metric] = _number(variant.mean(metric)) if metric in variant.metrics else ""
        if single is not None and len(comparison.variants) > 1:
            gain = comparison.gain(variant)
            row["vs single"] = "" if gain is None else f"{gain:+.3f}" if abs(gain) < 10 else f"{gain:+.4g}"
            if variant is single:
                row["vs single"] = "baseline"
        row["best"] = _mark(comparison, variant)
        row["parameters"] = f"{variant.parameters:,}"
        row["time"] = "" if variant.seconds is None else f"{variant.seconds:.3g} s"
        row["memory"] = "" if variant.memory_bytes is None else f"{variant.memory_bytes / 2**20:,.0f} MB"
        rows.append(row)
    return rows


def _mark(comparison: Comparison, variant: Variant) -> str:
    if variant is comparison.best:
        return "best"
    pair = comparison.pair(comparison.best.name, variant.name)
    if pair is None:
        return "?"
    return "=" if pair.verdict == "not distinguishable" else ""


def _further(comparison: Comparison) -> list[str]:
    """The metrics shown beside the main one: those that the recipe asks for, else the task's last one."""
    first = comparison.best
    asked = [name for name in first.runs[0].plan.metric_names if name in first.metrics]
    own = [name for name in first.metrics if name != comparison.metric]
    return [name for name in asked if name != comparison.metric][:2] or own[-1:]


def value_text(variant: Variant, metric: str) -> str:
    """A mean with its deviation over seeds."""
    deviation = variant.deviation(metric)
    return _number(variant.mean(metric)) + ("" if deviation is None else f" ± {_number(deviation)}")


def _number(value: float) -> str:
    """Three decimals for shares and the like, four digits for larger numbers."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def p_text(p: float) -> str:
    """A p-value as papers print it, after "p"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything as plain data."""
    single = comparison.best_single
    return {
        "metric": comparison.metric,
        "more_is_better": comparison.more_is_better,
        "split": comparison.split,
        "rows": comparison.rows,
        "resamples": comparison.resamples,
        "best": comparison.best.name,
        "best_single": None if single is None else single.name,
        "variants": [_variant_data(comparison, variant) for variant in comparison.variants],
        "pairs": [_pair_data(comparison, pair) for pair in comparison.pairs],
        "conclusions": comparison.conclusions,
        "failed": [vars(failure) for failure in comparison.failed],
        "notes": comparison.notes,
    }


def _variant_data(comparison: Comparison, variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "modalities": list(variant.modalities),
        "seeds": list(variant.seeds),
        "metrics": {
            name: {"mean": variant.mean(name), "deviation": variant.deviation(name)} for name in variant.metrics
        },
        "interval": variant.interval,
        "gain_over_best_single": comparison.gain(variant),
        "parameters": variant.parameters,
        "seconds": variant.seconds,
        "memory_bytes": variant.memory_bytes,
        "runs": [
            {"seed": run.seed, "folder": str(run.folder), "metrics": dict(figures), **run.usage}
            for run, figures in zip(variant.runs, variant.figures, strict=True)
        ],
    }


def _pair_data(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    data = {**vars(pair), "seeds": list(pair.seeds), "sentence": comparison.sentence(pair)}
    if pair.mcnemar is not None:
        only_first, only_second, p = pair.mcnemar
        data["mcnemar"] = {"only_first_right": only_first, "only_second_right": only_second, "p": p}
    return data


def to_csv(comparison: Comparison) -> str:
    """A row a variant, the best first, with every metric's mean and deviation."""
    rows = []
    for data, variant in zip(to_json(comparison)["variants"], comparison.variants, strict=True):
        low, high = data["interval"] or (None, None)
        row = {"variant": data["name"], "modalities": "+".join(data["modalities"]), "seeds": len(data["seeds"])}
        for name, figures in data["metrics"].items():
            row |= {f"{name}_mean": figures["mean"], f"{name}_deviation": figures["deviation"]}
        row |= {f"{comparison.metric}_low": low, f"{comparison.metric}_high": high}
        row |= {name: data[name] for name in ("gain_over_best_single", "parameters", "seconds", "memory_bytes")}
        row["compared_to_best"] = COMPARED[_mark(comparison, variant)]
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """A page with the tables, the conclusions, and how the tests were made."""
    rows = table(comparison)
    lines = [f"# Comparison by {comparison.metric}", ""]
    lines += [f"- {text}" for text in comparison.conclusions]
    lines += ["", *_markdown_table(rows), ""]
    lines += [
        f"Means ± standard deviations over seeds, on {comparison.rows} {comparison.split} rows; "
        "`=` is not distinguishable from the best, `?` was not tested against it. "
        "Time and memory are those of one training (its mean and its greatest peak)."
    ]
    if comparison.failed:
        lines += ["", "## Failed", ""]
        lines += [f"- {failure.variant}, seed {failure.seed}: {failure.reason}" for failure in comparison.failed]
    lines += ["", "## Pairs", "", *_markdown_table(_pair_rows(comparison)), "", _how(comparison)]
    if comparison.notes:
        lines += ["", "## Notes", ""] + [f"- {note}" for note in comparison.notes]
    return "\n".join(lines) + "\n"


def _pair_rows(comparison: Comparison) -> list[dict[str, str]]:
    pairs = comparison.pairs
    if len(pairs) > SHOWN_PAIRS:
        single = comparison.best_single
        chosen = {comparison.best.name, *([single.name] if single is not None else [])}
        pairs = [pair for pair in pairs if {pair.first, pair.second} & chosen]
    rows = []
    for pair in pairs:
        row = {"first": pair.first, "second": pair.second, "difference": f"{pair.difference:+.4g}"}
        row["95% interval"] = "" if pair.interval is None else f"{pair.interval[0]:+.4g} to {pair.interval[1]:+.4g}"
        row["seeds won / lost"] = f"{pair.seeds_won} / {pair.seeds_lost}"
        if pair.mcnemar is not None:
            row["only first / second right"] = f"{pair.mcnemar[0]} / {pair.mcnemar[1]}"
        row |= {
            "p": p_text(pair.p).removeprefix("= "),
            "p (Holm)": p_text(pair.adjusted_p).removeprefix("= "),
            "first is": pair.verdict,
        }
        rows.append(row)
    return rows


def _how(comparison: Comparison) -> str:
    uses_mcnemar = any(pair.test == "mcnemar" for pair in comparison.pairs)
    test = (
        "p is McNemar's exact test of the rows that one of the two gets right in more seeds than the other"
        if uses_mcnemar
        else "p comes from the bootstrap's standard error of the difference"
    )
    shown = len(_pair_rows(comparison))
    left_out = (
        ""
        if shown == len(comparison.pairs)
        else f" The other {len(comparison.pairs) - shown} pairs stand in comparison.json."
    )
    return (
        f"Intervals are percentiles of {comparison.resamples:,} bootstrap draws of the {comparison.split} rows; "
        f"{test}, Holm's correction is over all {len(comparison.pairs)} pairs. A verdict needs a corrected p below "
        "0.05 and more seeds won than lost. "
        "The tests are about these trained models on new rows of the same kind; how far other seeds would differ, the "
        f"deviations and the seeds won show.{left_out}"
    )


def _markdown_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    if not rows:
        return []
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write comparison.csv, .json, .md, and with matplotlib installed .png; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "comparison.csv", to_csv(comparison))
    write_json(folder / "comparison.json", to_json(comparison))
    write_text(folder / "comparison.md", to_markdown(comparison))
    written = [folder / f"comparison.{ending}" for ending in ("csv", "json", "md")]
    if write_plot(comparison, folder / "comparison.png"):
        written.append(folder / "comparison.png")
    return written
