"""Comparing runs that are there: figures, pairs and verdicts, against loops over their predictions."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toys
from scipy.stats import binomtest
from sklearn.metrics import f1_score, mean_absolute_error

from mmreg.errors import OptionError, RunError
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import resolve
from mmreg.studies.compare import Comparison
from mmreg.studies.compare.analysis import compare_variants
from mmreg.studies.compare.predictions import TrainedRun, with_predictions
from mmreg.studies.compare.usage import read_usage
from mmreg.studies.compare.variants import group_runs

LABELS = "wxyz"
SEEN = {"classification": list(LABELS), "multilabel": ["w,x", "y", "z"], "regression": [0.0, 2.0]}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


class Made:
    """Run folders that hold predictions only."""

    def __init__(self, folder: Path, task: str = "classification", **recipe: Any) -> None:
        self.folder, self.task, self.recipe = folder, task, recipe
        self.count = itertools.count()

    def outcome(self, seed: int, targets: Sequence[Any], scores: np.ndarray, **changes: Any) -> TrainedRun:
        keys = changes.pop("keys", range(1, len(targets) + 1))
        fingerprint = changes.pop("fingerprint", "one table")
        split = changes.pop("split", "test")
        data = {**toys.recipe("table.csv", target={"column": "label", "task": self.task}), **self.recipe, **changes}
        plan = resolve(Recipe(data).replace({"training.seed": seed}))
        task = plan.task.cls(**plan.task.options)
        task.fit(
            [0.0, 2.0] if self.task == "regression" else ["w,x", "y", "z"] if self.task == "multilabel" else LABELS
        )
        folder = self.folder / f"run-{next(self.count)}"
        (folder / "predictions").mkdir(parents=True)
        columns = {"row": list(keys), "target": list(targets), "scores": scores.tolist()}
        pq.write_table(pa.table(columns), folder / "predictions" / f"{split}.parquet")
        usage = {"epochs": 3, "seconds": 1.5 + seed, "memory_bytes": 2**20 * (seed + 1)}
        return TrainedRun(folder, plan, task, fingerprint, 1234, usage)


def decided(classes: Sequence[int]) -> np.ndarray:
    """Scores that decide for these classes."""
    return np.log(np.where(np.eye(4)[np.asarray(classes)] > 0, 0.7, 0.1))


def guesses(random: np.random.Generator, truth: np.ndarray, accuracy: float) -> np.ndarray:
    return np.where(random.random(len(truth)) < accuracy, truth, (truth + random.integers(1, 4, len(truth))) % 4)


@pytest.fixture
def classified(tmp_path: Path) -> tuple[Comparison, np.ndarray, dict[str, list[np.ndarray]]]:
    """Three variants with three seeds each, on 200 rows."""
    random = np.random.default_rng(0)
    truth = random.integers(4, size=200)
    made = Made(tmp_path)
    targets = [LABELS[k] for k in truth]
    share = {"good": 0.85, "fair": 0.8, "poor": 0.5}
    found = {name: [guesses(random, truth, accuracy) for _ in range(3)] for name, accuracy in share.items()}
    variants = {
        name: [made.outcome(seed, targets, decided(classes)) for seed, classes in enumerate(seeds)]
        for name, seeds in found.items()
    }
    return compare_variants(variants, resamples=1000), truth, found


def test_means_and_deviations_are_over_seeds(classified: Any) -> None:
    comparison, truth, found = classified
    assert comparison.metric == "accuracy"
    assert comparison.rows == 200
    for variant in comparison.variants:
        accuracies = [(classes == truth).mean() for classes in found[variant.name]]
        assert variant.mean("accuracy") == pytest.approx(np.mean(accuracies))
        assert variant.deviation("accuracy") == pytest.approx(np.std(accuracies, ddof=1))
        f1 = [f1_score(truth, classes, average="macro") for classes in found[variant.name]]
        assert variant.mean("f1") == pytest.approx(np.mean(f1), rel=1e-6)
        assert (variant.parameters, variant.seconds, variant.memory_bytes) == (1234, 2.5, 3 * 2**20)
    means = [variant.mean("accuracy") for variant in comparison.variants]
    assert means == sorted(means, reverse=True)


def test_mcnemar_counts_the_rows_that_one_gets_right_in_more_seeds(classified: Any) -> None:
    comparison, truth, found = classified
    for pair in comparison.pairs:
        wins = losses = 0
        for row in range(200):
            lead = sum(c[row] == truth[row] for c in found[pair.first])
            lead -= sum(c[row] == truth[row] for c in found[pair.second])
            wins, losses = wins + (lead > 0), losses + (lead < 0)
        assert pair.mcnemar is not None
        assert pair.mcnemar[:2] == (wins, losses)
        assert pair.p == pytest.approx(binomtest(wins, wins + losses, 0.5).pvalue)
        assert pair.test == "mcnemar"


def test_intervals_of_differences_agree_with_the_closed_form(classified: Any) -> None:
    comparison, truth, found = classified
    for pair in comparison.pairs:
        right = {name: np.mean([classes == truth for classes in found[name]], axis=0) for name in found}
        per_row = right[pair.first] - right[pair.second]
        error = per_row.std(ddof=1) / math.sqrt(200)
        assert pair.difference == pytest.approx(per_row.mean())
        assert pair.interval == pytest.approx(
            (per_row.mean() - 1.96 * error, per_row.mean() + 1.96 * error), abs=0.25 * error
        )


def test_p_values_are_corrected_over_all_pairs(classified: Any) -> None:
    comparison, _, _ = classified
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [
        ("good", "fair"),
        ("good", "poor"),
        ("fair", "poor"),
    ]
    ordered = sorted(comparison.pairs, key=lambda pair: pair.p)
    highest = 0.0
    for rank, pair in enumerate(ordered):
        highest = max(highest, min(1.0, (3 - rank) * pair.p))
        assert pair.adjusted_p == pytest.approx(highest)


def test_the_conclusions_say_what_may_be_said(classified: Any) -> None:
    comparison, _, _ = classified
    pair = comparison.pair("poor", "good")
    assert pair.verdict == "better"
    assert comparison.sentence(pair).startswith(
        "good is better than poor on 200 test rows (difference in accuracy +0.3"
    )
    assert "p < 0.001 after Holm's correction for 3 pairs" in comparison.sentence(pair)
    assert comparison.conclusions[0].startswith("good has the best accuracy on 200 test rows: 0.8")
    assert comparison.conclusions[1:] == ["good is better than fair or poor on 200 test rows"]


def test_equal_models_are_not_distinguishable(tmp_path: Path) -> None:
    made = Made(tmp_path)
    truth = np.arange(40) % 4
    outcomes = [made.outcome(0, [LABELS[k] for k in truth], decided(truth)) for _ in range(2)]
    comparison = compare_variants({"low_rank": [outcomes[0]], "concat": [outcomes[1]]}, resamples=100)
    (pair,) = comparison.pairs
    assert (pair.difference, pair.p, pair.verdict, pair.mcnemar) == (0.0, 1.0, "not distinguishable", (0, 0, 1.0))
    assert comparison.conclusions == [
        "low_rank and concat have the same best accuracy on 40 test rows: 1.000",
        "low_rank is not distinguishable from concat on 40 test rows",
    ]
    assert comparison.variants[0].deviation("accuracy") is None


def test_seeds_that_disagree_forbid_a_verdict(tmp_path: Path) -> None:
    """Far better with one seed and a little worse with the other: significant on the rows, but not to be relied on."""
    made = Made(tmp_path)
    truth = np.zeros(300, int)
    targets = [LABELS[k] for k in truth]
    first = [np.where(np.arange(300) < 290, 0, 1), np.where(np.arange(300) < 198, 0, 1)]
    second = [np.where(np.arange(300) < 100, 0, 1), np.where(np.arange(300) < 200, 0, 1)]
    variants = {
        name: [made.outcome(seed, targets, decided(classes)) for seed, classes in enumerate(group)]
        for name, group in {"a": first, "b": second}.items()
    }
    (pair,) = compare_variants(variants, resamples=100).pairs
    assert pair.adjusted_p < 1e-6
    assert (pair.seeds_won, pair.seeds_lost) == (1, 1)
    assert pair.verdict == "not distinguishable"


def test_regression_is_compared_by_an_error_of_which_less_is_better(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    truth = random.normal(1, 1, 300)
    made = Made(tmp_path, "regression")
    found = {name: truth + random.normal(0, spread, 300) for name, spread in {"fine": 0.2, "rough": 0.4}.items()}
    # The toy task has the mean 1 and the deviation 1, so scores are values less 1.
    variants = {name: [made.outcome(0, truth.tolist(), values[:, None] - 1)] for name, values in found.items()}
    comparison = compare_variants(variants, resamples=2000)
    assert (comparison.metric, comparison.more_is_better, comparison.best.name) == ("mae", False, "fine")
    assert comparison.best.mean("mae") == pytest.approx(mean_absolute_error(truth, found["fine"]), rel=1e-5)
    (pair,) = comparison.pairs
    assert (pair.first, pair.verdict, pair.test, pair.mcnemar) == ("fine", "better", "bootstrap", None)
    per_row = np.abs(found["fine"] - truth) - np.abs(found["rough"] - truth)
    error = per_row.std(ddof=1) / math.sqrt(300)
    assert pair.difference == pytest.approx(per_row.mean(), rel=1e-4)
    assert pair.interval == pytest.approx(
        (per_row.mean() - 1.96 * error, per_row.mean() + 1.96 * error), abs=0.2 * error
    )
    assert comparison.pairs[0].seeds_won == 1


def test_multilabel_is_compared_by_its_own_metric(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    truth = random.random((150, 4)) < 0.4
    targets = [",".join(np.array(list(LABELS))[row]) or "," for row in truth]
    made = Made(tmp_path, "multilabel")
    found = {
        name: np.where(random.random(truth.shape) < share, truth, ~truth)
        for name, share in {"a": 0.95, "b": 0.7}.items()
    }
    variants = {name: [made.outcome(0, targets, np.where(labels, 2.0, -2.0))] for name, labels in found.items()}
    comparison = compare_variants(variants, resamples=200)
    assert comparison.metric == "f1_micro"
    assert comparison.variant("b").mean("f1_micro") == pytest.approx(f1_score(truth, found["b"], average="micro"))
    assert comparison.pairs[0].verdict == "better"


def test_another_metric_is_tested_by_the_bootstrap(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    truth = random.integers(4, size=100)
    made = Made(tmp_path)
    targets = [LABELS[k] for k in truth]
    variants = {
        name: [made.outcome(0, targets, decided(guesses(random, truth, share)))]
        for name, share in {"a": 0.9, "b": 0.4}.items()
    }
    comparison = compare_variants(variants, metric="log_loss", resamples=150)
    assert comparison.more_is_better is False
    assert comparison.best.name == "a"
    assert comparison.pairs[0].test == "bootstrap"
    assert comparison.pairs[0].mcnemar is not None
    with pytest.raises(OptionError, match="no metric 'lost'"):
        compare_variants(variants, metric="lost")


def test_rows_are_matched_by_key_whatever_their_order(tmp_path: Path) -> None:
    made = Made(tmp_path, key="id")
    truth = np.arange(40) % 4
    targets = [LABELS[k] for k in truth]
    keys = [f"r{n}" for n in range(40)]
    first = np.where(np.arange(40) < 30, truth, (truth + 1) % 4)
    order = np.random.default_rng(0).permutation(40)
    outcomes = {
        "a": [made.outcome(0, targets, decided(first), keys=keys, fingerprint="one")],
        "b": [
            made.outcome(
                0,
                [targets[n] for n in order] + ["w"],
                decided([*first[order], 0]),
                keys=[*(keys[n] for n in order), "more"],
                fingerprint="another",
            )
        ],
    }
    comparison = compare_variants(outcomes, resamples=100)
    assert comparison.rows == 40
    assert comparison.pairs[0].mcnemar == (0, 0, 1.0)
    assert any("up to 1 test row of a run is left out" in note for note in comparison.notes)


def test_each_seed_may_have_rows_of_its_own(tmp_path: Path) -> None:
    made = Made(tmp_path, split={"test": 0.5, "validation": 0.1})
    truth = np.arange(60) % 4
    rows = [np.arange(0, 40), np.arange(20, 60)]
    variants: dict[str, list[TrainedRun]] = {}
    for name, wrong in (("a", 4), ("b", 10)):
        for seed in range(2):
            own = truth[rows[seed]]
            classes = np.where(np.arange(40) < wrong, (own + 1) % 4, own)
            outcome = made.outcome(seed, [LABELS[k] for k in own], decided(classes), keys=(rows[seed] + 1).tolist())
            variants.setdefault(name, []).append(outcome)
    comparison = compare_variants(variants, resamples=200)
    assert comparison.rows == 60
    assert comparison.pairs[0].difference == pytest.approx(6 / 40)
    # Seed 0 has a lead on rows 4 to 9, seed 1 on rows 24 to 29.
    assert comparison.pairs[0].mcnemar is not None
    assert comparison.pairs[0].mcnemar[:2] == (12, 0)
    assert any("seeds have different test rows" in note for note in comparison.notes)


def test_variants_without_a_seed_in_common_are_paired_only_on_equal_rows(tmp_path: Path) -> None:
    made = Made(tmp_path)
    truth = np.arange(40) % 4
    targets = [LABELS[k] for k in truth]
    same = {"a": [made.outcome(0, targets, decided(truth))], "b": [made.outcome(1, targets, decided((truth + 1) % 4))]}
    pairs = compare_variants(same, resamples=100).pairs
    assert [pair.verdict for pair in pairs] == ["better"]
    other = {"a": same["a"], "b": [made.outcome(1, targets, decided(truth), keys=range(5, 45))]}
    comparison = compare_variants(
        {**other, "b": [made.outcome(1, targets[:20], decided(truth[:20]), keys=range(1, 21))]}, resamples=100
    )
    assert comparison.pairs == []
    assert any("1 pairs share no seed" in note for note in comparison.notes)
    assert [row["compared_to_best"] for row in csv.DictReader(comparison.to_csv().splitlines())] == [
        "best",
        "not tested",
    ]
    assert comparison.table()[1]["best"] == "?"
    assert "which not all variants have in common" in comparison.conclusions[0]


def test_validation_rows_stand_in_where_there_are_no_test_rows(tmp_path: Path) -> None:
    made = Made(tmp_path)
    truth = np.arange(40) % 4
    outcomes = {
        name: [made.outcome(0, [LABELS[k] for k in truth], decided(truth), split="validation")] for name in "ab"
    }
    comparison = compare_variants(outcomes, resamples=100)
    assert comparison.split == "validation"
    assert any("figures are too good" in note for note in comparison.notes)
    with pytest.raises(RunError, match="no predictions of test rows"):
        with_predictions([group[0] for group in outcomes.values()], "test", "accuracy")


@pytest.mark.parametrize(
    "kept", ["{}", "7", "[", "[" * 100_000, *(f'{{"peak_memory_bytes": {x}}}' for x in ('"a"', "1e999"))]
)
def test_what_a_training_used_is_not_told_where_the_file_is_damaged(tmp_path: Path, kept: str) -> None:
    (tmp_path / "usage.json").write_text(kept)
    assert read_usage(tmp_path)["process_bytes"] is None


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    made, other = Made(tmp_path / "1"), Made(tmp_path / "2", "regression")
    truth = np.arange(40) % 4
    targets = [LABELS[k] for k in truth]
    good = made.outcome(0, targets, decided(truth))

    def refused(match: str, outcome: TrainedRun) -> None:
        with pytest.raises(RunError, match=match):
            compare_variants({"a": [good], "b": [outcome]}, resamples=100)

    refused("is a classification, .* a regression", other.outcome(0, [0.0, 1.0], np.zeros((2, 1))))
    refused("matched by a key", made.outcome(0, targets, decided(truth), fingerprint="another"))
    refused("no row in common", made.outcome(0, targets, decided(truth), keys=range(100, 140)))
    refused("has the target 'x'", made.outcome(0, ["x", *targets[1:]], decided(truth)))
    refused("twice; keys must be unique", made.outcome(0, targets, decided(truth), keys=[1, *range(1, 40)]))
    with pytest.raises(RunError, match="a stands there twice with the same seed"):
        compare_variants({"a": [good, good], "b": [good]}, resamples=100)


def test_runs_are_grouped_by_their_recipes_and_named_by_what_differs(tmp_path: Path) -> None:
    made = Made(tmp_path)
    targets, scores = list("wxyz"), decided([0, 1, 2, 3])
    outcomes = [
        made.outcome(0, targets, scores),
        made.outcome(0, targets, scores, fusion="product"),
        made.outcome(1, targets, scores),
        made.outcome(0, targets, scores, fusion={"name": "low_rank", "rank": 3}),
        made.outcome(0, targets, scores, fusion={"name": "low_rank", "rank": 5}),
        made.outcome(0, targets, scores, fusion=None, modalities={"b": {"type": "numbers"}}),
        made.outcome(0, targets, scores, table="moved/table.csv", training={"epochs": 9}),
    ]
    groups = group_runs(outcomes)
    assert {name: [outcome.seed for outcome in group] for name, group in groups.items() if "concat" not in name} == {
        "product": [0],
        "low_rank (fusion.rank=3)": [0],
        "low_rank (fusion.rank=5)": [0],
        "b alone": [0],
    }
    concats = {name: [o.seed for o in group] for name, group in groups.items() if "concat" in name}
    assert sorted(concats.values()) == [[0], [0, 1]]
    assert all("training.epochs=" in name for name in concats)
    long = [{"name": "low_rank", "rank": rank, "of": ["a", {"name": "concat", "of": ["b"]}]} for rank in (3, 5)]
    long = [{"name": "mean", "of": [part], "own_loss": {"low_rank": 0.25}, "joint_loss": part["rank"]} for part in long]
    folders = [made.outcome(0, targets, scores, fusion=fusion, key="id") for fusion in long]
    assert [str(each.folder) in name for name, each in zip(group_runs(folders), folders, strict=True)] == [True, True]
    with pytest.raises(RunError, match="product stands there twice with the same seed"):
        compare_variants(group_runs([*outcomes, made.outcome(0, targets, scores, fusion="product")]))
