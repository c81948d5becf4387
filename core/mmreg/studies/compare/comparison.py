"""The result of a comparison, in words, tables, CSV, JSON, Markdown and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mmreg.files import csv_text, markdown_table, write_json, write_text
from mmreg.messages import listed, plural
from mmreg.notebook import harmless, html_table
from mmreg.studies.compare.own_figures import OwnFigure, own_figures
from mmreg.studies.compare.plot import draw_variants
from mmreg.studies.compare.results import FailedTraining, Pair, Variant, Verdict

RESAMPLES = 2000
"""The draws of the bootstrap unless another number is given."""
SHOWN_PAIRS = 60
"""How many pairs the Markdown page lists; of more, it lists those with the best variant and the best single one."""
Standing = Literal["best", "not distinguishable", "worse", "not tested"]
"""What a variant is beside the best one."""
MARKS: dict[Standing, str] = {"best": "best", "not distinguishable": "=", "worse": "", "not tested": "?"}
"""How a table shows that."""


@dataclass(repr=False)
class Comparison:
    """The result of comparing variants on the same rows.

    Attributes:
        metric: what they are compared by.
        more_is_better: its direction.
        split: the rows' split.
        rows: how many rows.
        variants: the best first.
        pairs: every pair, each once, the one that stands first in `variants` first.
        failed: trainings that did not end.
        notes: what a reader should know.
        resamples: the draws of the bootstrap.
    """

    metric: str
    more_is_better: bool
    split: str
    rows: int
    variants: list[Variant]
    pairs: list[Pair]
    failed: list[FailedTraining] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    resamples: int = RESAMPLES

    @harmless
    def __repr__(self) -> str:
        shown = listed((f"{each.name} {_mean_text(each, self.metric)}" for each in self.variants), 5)
        return f"<Comparison by {self.metric} on {plural(self.rows, f'{self.split} row')}: {shown}>"

    @harmless
    def _repr_html_(self) -> str:
        title = f"{self.metric} on {plural(self.rows, f'{self.split} row')}"
        conclusions = html_table({"conclusions": text} for text in self.conclusions)
        return html_table(self.table(), title) + conclusions

    @property
    def best(self) -> Variant:
        """The variant with the best mean."""
        return self.variants[0]

    @property
    def best_single(self) -> Variant | None:
        """The best variant of one modality alone: the baseline of every fusion."""
        return next((variant for variant in self.variants if len(variant.modalities) == 1), None)

    def variant(self, name: str) -> Variant:
        """A variant by name."""
        return next(variant for variant in self.variants if variant.name == name)

    def pair(self, one: str, other: str) -> Pair | None:
        """The pair of two variants, whichever stands first; None if they cannot be paired."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {one, other}), None)

    def gain(self, variant: Variant) -> float | None:
        """A variant's mean less that of the best single modality; None for a single one, or without any."""
        baseline = self.best_single
        if baseline is None or len(variant.modalities) == 1:
            return None
        return variant.mean(self.metric) - baseline.mean(self.metric)

    def own_figures(self, variant: Variant) -> dict[str, OwnFigure]:
        """What each modality of a variant reaches by itself, as far as it says something, beside trained alone."""
        return self._own_figures[variant.name]

    @cached_property
    def _own_figures(self) -> dict[str, dict[str, OwnFigure]]:
        """The same by the variant's name: every page and table of a comparison shows them."""
        return {variant.name: own_figures(variant, self.variants, self.metric) for variant in self.variants}

    def standing(self, variant: Variant) -> Standing:
        """What a variant is beside the best one."""
        if variant is self.best:
            return "best"
        pair = self.pair(self.best.name, variant.name)
        if pair is None:
            return "not tested"
        return "not distinguishable" if pair.verdict is Verdict.NOT_DISTINGUISHABLE else "worse"

    def sentence(self, pair: Pair) -> str:
        """What a reader may conclude of a pair."""
        between = f"difference in {self.metric} {pair.difference:+.3g}"
        if pair.interval is not None:
            between += f", 95% interval {pair.interval[0]:+.3g} to {pair.interval[1]:+.3g}"
        count = len(self.pairs)
        correction = f" after Holm's correction for {count} pairs" if count > 1 else ""
        p = "p < 0.001" if pair.adjusted_p < 0.001 else f"p = {pair.adjusted_p:.3f}"
        on = f"on {plural(pair.rows, f'{self.split} row')}"
        return f"{pair.first} is {pair.verdict.than(pair.second)} {on} ({between}; {p}{correction})"

    @property
    def conclusions(self) -> list[str]:
        """What a reader may conclude of the best variant, and of each fusion beside the best single modality."""
        best, single = self.best, self.best_single
        on = f"on {self._counted_rows}"
        if len(self.pairs) < len(self.variants) * (len(self.variants) - 1) // 2:
            on += ", which not all variants have in common"
        mean = best.mean(self.metric)
        equal = [each.name for each in self.variants if math.isclose(each.mean(self.metric), mean, rel_tol=1e-9)]
        lines = [f"{best.name} has the best {self.metric} {on}: {_mean_text(best, self.metric)}"]
        if len(equal) > 1:
            lines = [f"{_joined(equal, 'and')} have the same best {self.metric} {on}: {_number(mean)}"]
        others = [variant for variant in self.variants if variant is not best and variant is not single]
        for verdict, names in self._by_verdict(best, others).items():
            lines.append(f"{best.name} is {verdict.than(_joined(names, 'or'))} {on}")
        if single is None or single is best:
            return lines
        pair = self.pair(best.name, single.name)
        if pair is not None:
            lines.append(self.sentence(pair))
        fused = [variant for variant in others if len(variant.modalities) > 1]
        for verdict, names in self._by_verdict(single, fused).items():
            baseline = verdict.opposite.than(f"the best single modality, {single.name}")
            lines.append(f"{_joined(names, 'and')} {'is' if len(names) == 1 else 'are'} {baseline}, {on}")
        return lines

    def _by_verdict(self, variant: Variant, others: Sequence[Variant]) -> dict[Verdict, list[str]]:
        """The names of others by what a variant is beside them."""
        names: dict[Verdict, list[str]] = {}
        for other in others:
            pair = self.pair(variant.name, other.name)
            if pair is not None:
                names.setdefault(pair.verdict_of(variant.name), []).append(other.name)
        return names

    def table(self) -> list[dict[str, str]]:
        """The most important figures as rows of text, the best variant first."""
        single = self.best_single
        rows = []
        shown = list(dict.fromkeys(name for figures in self._own_figures.values() for name in figures))
        for variant in self.variants:
            row = {"variant": variant.name, self.metric: _mean_text(variant, self.metric)}
            for metric in self._further_metrics():
                row[metric] = _number(variant.mean(metric)) if metric in variant.metrics else ""
            if single is not None:
                gain = self.gain(variant)
                text = "" if gain is None else f"{gain:+.3f}" if abs(gain) < 10 else f"{gain:+.4g}"
                row["vs single"] = "baseline" if variant is single else text
            for name in shown:
                figure = self.own_figures(variant).get(name)
                row[f"{name} by itself"] = "" if figure is None else _own_text(figure)
            row["best"] = MARKS[self.standing(variant)]
            row["parameters"] = f"{variant.parameters:,}"
            row["time"] = "" if variant.seconds is None else f"{variant.seconds:.3g} s"
            row["memory"] = "" if variant.memory_bytes is None else f"{variant.memory_bytes / 2**20:,.0f} MB"
            rows.append(row)
        return rows

    def _further_metrics(self) -> list[str]:
        """The metrics shown beside the main one: each target's own main one, or those that the recipe asks for.

        Of a single target that asks for none it is the task's last one.
        """
        others, plan = [name for name in self.best.metrics if name != self.metric], self.best.runs[0].plan
        asked = [name for name in plan.metric_names if name in others]
        of_targets = [f"{name}.{part.cls.main_metric}" for name, part in plan.task.targets.items() if name]
        if of_targets:
            return [name for name in dict.fromkeys([*of_targets, *asked[:2]]) if name in others]
        return asked[:2] or others[-1:]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        single = self.best_single
        return {
            "metric": self.metric,
            "more_is_better": self.more_is_better,
            "split": self.split,
            "rows": self.rows,
            "resamples": self.resamples,
            "best": self.best.name,
            "best_single": None if single is None else single.name,
            "variants": [self._variant_data(variant) for variant in self.variants],
            "pairs": [self._pair_data(pair) for pair in self.pairs],
            "conclusions": self.conclusions,
            "failed": [dict(vars(training)) for training in self.failed],
            "notes": self.notes,
        }

    def _variant_data(self, variant: Variant) -> dict[str, Any]:
        return {
            "name": variant.name,
            "modalities": list(variant.modalities),
            "seeds": list(variant.seeds),
            "metrics": {
                name: {"mean": variant.mean(name), "deviation": variant.deviation(name)} for name in variant.metrics
            },
            "interval": variant.interval,
            "gain_over_best_single": self.gain(variant),
            "by_itself": {
                name: {"own": figure.own, "alone": figure.alone, "gap": figure.gap}
                for name, figure in self.own_figures(variant).items()
            },
            "parameters": variant.parameters,
            "seconds": variant.seconds,
            "memory_bytes": variant.memory_bytes,
            "runs": [
                {"seed": run.seed, "folder": str(run.folder), "metrics": dict(run.figures), **run.usage}
                for run in variant.runs
            ],
        }

    def _pair_data(self, pair: Pair) -> dict[str, Any]:
        data = {**vars(pair), "seeds": list(pair.seeds), "sentence": self.sentence(pair)}
        if pair.mcnemar is not None:
            data["mcnemar"] = dict(zip(("only_first_right", "only_second_right", "p"), pair.mcnemar, strict=True))
        return data

    def to_csv(self) -> str:
        """A row a variant, the best first, with every metric's mean and deviation."""
        rows = []
        for variant in self.variants:
            low, high = variant.interval or (None, None)
            row: dict[str, Any] = {"variant": variant.name, "modalities": "+".join(variant.modalities)}
            row["seeds"] = len(variant.seeds)
            for name in variant.metrics:
                row |= {f"{name}_mean": variant.mean(name), f"{name}_deviation": variant.deviation(name)}
            row |= {f"{self.metric}_low": low, f"{self.metric}_high": high}
            row |= {"gain_over_best_single": self.gain(variant), "parameters": variant.parameters}
            row |= {"seconds": variant.seconds, "memory_bytes": variant.memory_bytes}
            for name, figure in self.own_figures(variant).items():
                row |= {f"{name}_by_itself": figure.own, f"{name}_gap_to_alone": figure.gap}
            rows.append({**row, "compared_to_best": self.standing(variant)})
        return csv_text(rows)

    def to_markdown(self) -> str:
        """A page with the tables, the conclusions, and how the tests were made."""
        sections = [
            f"# Comparison by {self.metric}",
            _list(self.conclusions),
            markdown_table(self.table()),
            f"Means ± standard deviations over seeds, on {self._counted_rows}; "
            "`=` is not distinguishable from the best, `?` was not tested against it. "
            "Time and memory are those of one training (its mean and its greatest peak)." + self._own_note(),
        ]
        if self.failed:
            failures = [f"{training.variant}, seed {training.seed}: {training.reason}" for training in self.failed]
            sections += ["## Failed", _list(failures)]
        shown = self.pairs
        if len(shown) > SHOWN_PAIRS:
            chosen = {variant.name for variant in (self.best, self.best_single) if variant is not None}
            shown = [pair for pair in shown if {pair.first, pair.second} & chosen]
        sections += ["## Pairs", markdown_table(map(_pair_row, shown)), self._how_tested(len(self.pairs) - len(shown))]
        if self.notes:
            sections += ["## Notes", _list(self.notes)]
        return "\n\n".join(sections) + "\n"

    @property
    def _counted_rows(self) -> str:
        return plural(self.rows, f"{self.split} row")

    def _own_note(self) -> str:
        if not any(self._own_figures.values()):
            return ""
        return (
            f" By itself: the {self.metric} of what one modality tells within the fused model, on the rows that have "
            "it, and in brackets how far that is from the model trained on it alone."
        )

    def _how_tested(self, left_out: int) -> str:
        test = (
            "p is McNemar's exact test of the rows that one of the two gets right in more seeds than the other"
            if any(pair.test == "mcnemar" for pair in self.pairs)
            else "p comes from the bootstrap's standard error of the difference"
        )
        more = f" {plural(left_out, 'other pair stands', 'other pairs stand')} in comparison.json." if left_out else ""
        count = len(self.pairs)
        correction = "" if count == 1 else f", Holm's correction is over all {count} pairs"
        needed = "p below 0.05" if count == 1 else "corrected p below 0.05"
        return (
            f"Intervals are percentiles of {self.resamples:,} bootstrap draws of the {self.split} rows; "
            f"{test}{correction}. A verdict needs a {needed} and more seeds won than lost. "
            "The tests are about these trained models on new rows of the same kind; how far other seeds would differ, "
            f"the deviations and the seeds won show.{more}"
        )

    def write(self, folder: str | Path) -> list[Path]:
        """Write comparison.csv, .json, .md, and with matplotlib installed .png; returns what was written."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / f"comparison.{ending}" for ending in ("csv", "json", "md", "png")]
        table, data, page, picture = written
        write_text(table, self.to_csv())
        write_json(data, self.to_json())
        write_text(page, self.to_markdown())
        drawn = draw_variants(self.variants, self.metric, f"{self.metric} on {self._counted_rows}", picture)
        return written if drawn else written[:-1]


def _pair_row(pair: Pair) -> dict[str, str]:
    row = {"first": pair.first, "second": pair.second, "difference": f"{pair.difference:+.4g}"}
    row["95% interval"] = "" if pair.interval is None else f"{pair.interval[0]:+.4g} to {pair.interval[1]:+.4g}"
    row["seeds won / lost"] = f"{pair.seeds_won} / {pair.seeds_lost}"
    if pair.mcnemar is not None:
        row["only first / second right"] = f"{pair.mcnemar[0]} / {pair.mcnemar[1]}"
    for name, p in (("p", pair.p), ("p (Holm)", pair.adjusted_p)):
        row[name] = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return {**row, "first is": pair.verdict}


def _mean_text(variant: Variant, metric: str) -> str:
    """A mean with its deviation over seeds."""
    deviation = variant.deviation(metric)
    return _number(variant.mean(metric)) + ("" if deviation is None else f" ± {_number(deviation)}")


def _own_text(figure: OwnFigure) -> str:
    """A figure with its gap to training alone."""
    return _number(figure.own) + ("" if figure.gap is None else f" ({figure.gap:+.3f})")


def _number(figure: float) -> str:
    """Three decimals for shares and the like, four digits for larger numbers."""
    return f"{figure:.3f}" if abs(figure) < 10 else f"{figure:.4g}"


def _joined(names: Sequence[str], last: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
