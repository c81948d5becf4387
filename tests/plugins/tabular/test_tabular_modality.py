"""What the tabular modality makes of columns: their kinds, scales, categories, what is missing and what is new."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmreg
from mmreg import Recipe, Signal
from mmreg.errors import DataError, MmregError, OptionError, ValueLoadError
from mmreg_tabular.columns import OTHER
from mmreg_tabular.modality import Tabular


def fitted(columns: dict[str, list[Any]], **options: Any) -> Tabular:
    modality = Tabular(**options)
    modality.columns = tuple(columns)
    modality.fit_values(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return modality


def kind(values: list[Any]) -> str:
    return str(fitted({"x": values}).state()["columns"]["x"]["kind"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2.5, None], "number"),
        (["1", "2.5", "-3e2"], "number"),
        ([Decimal("1.5"), Decimal(2)], "number"),
        ([time(12, 30), time(1)], "number"),
        ([timedelta(days=1), timedelta(0)], "number"),
        ([True, False], "category"),
        ([1, 0, True], "category"),
        (["1", "2", "red"], "category"),
        (["nan", "inf"], "category"),
        ([date(2024, 1, 1), datetime(2024, 1, 2, 12)], "date"),
        (["2024-01-31", "2024-05-01T12:00:00+02:00"], "date"),
        (["2024-01-31", "soon"], "category"),
        (["20240131", "20240201"], "number"),
        ([None, None], "number"),
        ([np.float32(1), np.int64(2)], "number"),
    ],
)
def test_a_column_is_what_all_of_its_cells_can_be(values: list[Any], expected: str) -> None:
    assert kind(values) == expected


def test_a_recipe_may_say_what_a_column_is() -> None:
    modality = fitted({"floor": [1, 2, 2, 3]}, kinds={"floor": "category"})
    assert modality.state()["columns"]["floor"]["names"] == ["2", "1", "3"]
    with pytest.raises(OptionError, match="names colour, but the columns are floor"):
        fitted({"floor": [1]}, kinds={"colour": "category"})


def test_what_is_no_cell_of_a_table_is_refused_with_its_column() -> None:
    with pytest.raises(OptionError, match="columns: x holds a list, where a number, a date or a category is needed"):
        fitted({"x": [[1, 2]]})


def test_numbers_are_scaled_and_their_absence_is_told() -> None:
    modality = fitted({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"]}, scaling="standard")
    loaded = modality.load({"a": 3.0, "b": None})
    assert loaded["numbers"] == pytest.approx([(3 - 2) / math.sqrt(2 / 3)])
    signal = modality.transform(
        Signal(
            {
                "numbers": torch.tensor([[1.5], [math.nan]]),
                "categories": torch.tensor([[0], [2]], dtype=torch.int32),
            }
        ),
        training=False,
    )
    assert signal.values["numbers"].tolist() == [[1.5], [0.0]]
    assert signal.values["missing"].tolist() == [[0.0], [1.0]]
    assert np.isnan(modality.load({"a": None})["numbers"]).all()


def test_categories_have_numbers_of_their_own_in_each_column() -> None:
    modality = fitted({"a": ["x", "y", "x"], "b": [True, False, True], "c": ["x", "z", "z"]})
    assert modality.spec["categories"].vocabulary_size == 12
    empty, other = 0, 1
    found = [
        modality.load(dict(zip("abc", row, strict=True)))["categories"].tolist()
        for row in (
            ("x", True, "z"),
            ("y", False, "x"),
            (None, None, None),
            ("new", "new", "y"),
        )
    ]
    assert found == [[2, 6, 10], [3, 7, 11], [empty, 4 + empty, 8 + empty], [other, 4 + other, 8 + other]]
    assert "numbers" not in modality.spec


def test_seldom_categories_and_those_beyond_the_most_are_unknown() -> None:
    values = ["a"] * 5 + ["b"] * 3 + ["c"] * 3 + ["d"]
    assert fitted({"x": values}, min_frequency=2).state()["columns"]["x"]["names"] == ["a", "b", "c"]
    assert fitted({"x": values}, max_categories=2).state()["columns"]["x"]["names"] == ["a", "b"]


def test_the_same_category_is_known_however_a_table_writes_its_number() -> None:
    modality = fitted({"x": ["3", "4", "red"]})
    assert modality.load({"x": 3})["categories"] == modality.load({"x": 3.0})["categories"]
    assert modality.load({"x": 3})["categories"] == modality.load({"x": "3"})["categories"]


def test_dates_are_a_time_and_places_in_cycles() -> None:
    days = [date(2020, 1, 1) + timedelta(days=37 * number) for number in range(40)]
    modality = fitted({"d": days}, scaling="none")
    assert modality.state()["columns"]["d"]["cycles"] == ["day of the year", "day of the week"]
    found = modality.load({"d": "1970-01-08T06:00:00+00:00"})["numbers"]
    year, week = 2 * math.pi * 7.25 / 365.2425, 2 * math.pi * 0.25 / 7
    assert found == pytest.approx([7.25, math.sin(year), math.cos(year), math.sin(week), math.cos(week)], rel=1e-6)
    assert modality.load({"d": datetime(1970, 1, 8, 8, tzinfo=timezone(timedelta(hours=2)))})["numbers"] == (
        pytest.approx(found)
    )
    hours = fitted({"d": [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in range(24)]})
    assert hours.state()["columns"]["d"]["cycles"] == ["time of the day"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("n", float("inf"), "n: inf is no finite number"),
        ("n", 10**400, "n: .* is no finite number"),
        ("n", "many", "n: 'many' is no number"),
        ("n", "1e999", "n: 1e999 is no finite number"),
        ("n", True, "n: "),
        ("d", "2024-02-30", "d: '2024-02-30' is no date"),
        ("d", 20240131, "d: 20240131 is no date"),
        ("c", b"x", "c: a bytes, where a category is needed"),
        ("c", [1], "c: a list"),
    ],
)
def test_a_cell_of_another_kind_is_refused_with_its_column(column: str, value: Any, message: str) -> None:
    modality = fitted({"n": [1.5, 2.0], "d": [date(2024, 1, 1)] * 2, "c": ["x", "y"]})
    if value is True:
        assert modality.load({"n": True})["numbers"].shape == (2,)
        return
    with pytest.raises(ValueLoadError, match=message):
        modality.load({column: value})


def test_training_drops_categories_of_cells_that_are_there() -> None:
    modality = fitted({"a": ["x", "y"], "b": ["u", "v"]}, category_dropout=0.5)
    categories = torch.tensor([[2, 6], [0, 7]] * 500, dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    given = Signal({"categories": categories})
    found = modality.transform(given, training=True, generator=generator).values["categories"]
    kept = found == categories
    assert torch.equal(found[~kept], torch.tensor([1, 5]).expand_as(found)[~kept])
    assert kept[1::2, 0].all(), "an empty cell stays empty"
    assert 0.4 < float(kept[:, 1].float().mean()) < 0.6
    assert torch.equal(modality.transform(given, training=False).values["categories"], categories.long())


def test_many_categories_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmreg_tabular.columns.MOST_SEEN", 100)
    values = [f"v{number}" for number in range(5000)]
    values[::10] = ["often"] * 500
    modality = fitted({"x": values}, min_frequency=3)
    assert modality.state()["columns"]["x"]["names"] == ["often"]


def test_the_state_is_plain_data() -> None:
    modality = fitted({"n": [1, 2, 5], "c": ["x", "y", "x"], "d": [date(2024, 1, day) for day in (1, 9, 30)]})
    other = Tabular()
    other.load_state(json.loads(json.dumps(modality.state())))
    row = {"n": 4, "c": "y", "d": "2024-01-05"}
    for name, array in modality.load(row).items():
        np.testing.assert_array_equal(other.load(row)[name], array)
    assert other.spec == modality.spec


def test_it_says_so_where_it_is_not_fitted() -> None:
    with pytest.raises(MmregError, match="call fit_values or load_state first"):
        Tabular().load({"x": 1})


def rows(count: int = 240) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    table = []
    for number in range(count):
        price, kind, new = random.normal(), random.choice(["flat", "house", "barn"]), bool(random.random() < 0.5)
        label = "good" if (price > 0) == (kind == "flat") else "bad"
        table.append(
            {
                "price": None if random.random() < 0.1 else float(price),
                "kind": None if number % 17 == 0 else str(kind),
                "new": new,
                "built": date(1950, 1, 1) + timedelta(days=int(random.integers(20_000))),
                "label": label,
                "split": ["train", "train", "train", "validation", "test"][number % 5],
            }
        )
    return table


COLUMNS = ["price", "kind", "new", "built"]


@pytest.mark.parametrize("encoder", ["tabular_mlp", "ft_transformer", "tabm"])
def test_a_table_of_facts_trains_and_predicts_from_its_folder(tmp_path: Path, encoder: str) -> None:
    small = {"ft_transformer": {"hidden_size": 16, "num_heads": 2, "num_layers": 2}, "tabm": {"members": 4}}
    recipe = {
        "table": rows(),
        "split": "split",
        "target": {"column": "label"},
        "modalities": {
            "facts": {"type": "tabular", "columns": COLUMNS, "encoder": {"name": encoder, **small.get(encoder, {})}}
        },
        "training": {"epochs": 25, "batch_size": 24, "optimizer": {"name": "AdamW", "lr": 0.005}},
    }
    run = mmreg.train(recipe, tmp_path / "run", device="cpu")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["test"]["metrics"]["accuracy"] > 0.75  # the majority has about a half
    new = [{**rows()[3], "kind": "castle", "price": None}, {**rows()[4], "built": None}]
    assert mmreg.load(tmp_path / "run").predict(new) == run.predict(new)


@pytest.fixture(scope="module")
def facts_run(tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    """Trained on `rows`, for an epoch."""
    recipe = {
        "table": rows(60),
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"facts": {"type": "tabular", "columns": COLUMNS}},
        "training": {"epochs": 1},
    }
    return mmreg.train(recipe, tmp_path_factory.mktemp("facts") / "run", device="cpu")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"kind": "castle"}, "column 'kind' has no category that training knows, so that it tells the model nothing"),
        ({"kind": "castle", "new": "maybe"}, "columns 'kind', 'new' have no category that training knows"),
        ({"kind": None}, ""),  # nothing there is nothing unknown
        ({"price": 1e9, "built": date(2090, 1, 1)}, ""),
    ],
)
@pytest.mark.parametrize("use", ["predict", "evaluate"])
def test_a_column_that_holds_unknown_categories_alone_is_noted_once(
    facts_run: mmreg.Run, caplog: pytest.LogCaptureFixture, changed: dict[str, Any], told: str, use: str
) -> None:
    table = [{**row, **changed} for row in rows(60)]
    getattr(facts_run, use)(table)
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == bool(told)
    assert not told or notes[0].startswith(f"note: facts: {told}")


def test_a_column_with_one_known_category_among_unknown_ones_is_not_noted(
    facts_run: mmreg.Run, caplog: pytest.LogCaptureFixture
) -> None:
    table = [{**row, "kind": "castle" if number else "flat"} for number, row in enumerate(rows(60))]
    facts_run.predict(table)
    assert not caplog.records


def test_a_bad_cell_is_told_with_its_row_and_column(tmp_path: Path) -> None:
    table = rows(60)
    table[7]["price"] = float("inf")
    recipe = {
        "table": table,
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"facts": {"type": "tabular", "columns": COLUMNS}},
        "training": {"epochs": 1},
    }
    with pytest.raises(DataError, match=r"row 8, column price, kind, new, built: .*: price: inf is no finite number"):
        mmreg.train(recipe, tmp_path / "run", device="cpu")


def test_a_bad_cell_may_count_as_empty_and_leave_the_others_be() -> None:
    columns = {"n": [1.5, 2.0], "d": [date(2024, 1, 1), date(2025, 1, 1)], "c": ["x", "y"]}
    modality = fitted(columns, bad_cells="empty")
    for column, value in (("n", float("inf")), ("n", 10**400), ("d", "0000-01-01"), ("c", b"x")):
        row = {"n": 1.5, "d": "2024-01-01", "c": "y"}
        for name, array in modality.load({**row, column: value}).items():
            np.testing.assert_array_equal(array, modality.load({**row, column: None})[name])


def test_numbers_of_all_sizes_and_ways_to_write_them_are_columns_of_numbers() -> None:
    absurd = [1e308, -1e308, 5e-324, 2**64, 10**300, Decimal("0.1"), np.float64(1.5), 10**400, float("-inf"), 3]
    texts = ["1e999" if value == -math.inf else str(value) for value in absurd]  # a text "inf" is a word
    modality = fitted({"n": absurd, "m": texts}, bad_cells="empty")
    assert [kind["kind"] for kind in modality.state()["columns"].values()] == ["number", "number"]
    for value, text in zip(absurd, texts, strict=True):
        loaded = modality.load({"n": value, "m": text})["numbers"]
        assert loaded[0] == loaded[1] or np.isnan(loaded).all()
    assert "Infinity" not in json.dumps(modality.state())


@pytest.mark.parametrize("rows", [3, 10])
def test_numbers_before_a_text_are_counted_as_the_categories_that_they_are(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr("mmreg_tabular.modality.MOST_ROWS", rows)  # learned from in one part, or in several
    modality = fitted({"x": [1, 2, 2.0, 3, 2, "red", 1, None]})
    assert modality.state()["columns"]["x"]["names"] == ["2", "1", "3", "red"]


def test_of_thousands_of_columns_little_is_kept_of_each() -> None:
    columns = {f"n{number}": [float(number * row % 7919) for row in range(120)] for number in range(2000)}
    modality = fitted(columns)
    assert modality.spec["numbers"].shape == (2000,)
    facts = [len(column["facts"]) for column in modality.state()["columns"].values()]
    assert sum(facts) == 200_000
    assert modality.load({name: values[0] for name, values in columns.items()})["numbers"].shape == (2000,)


def test_init_takes_dates_and_numbers_with_a_few_bad_cells_and_says_so() -> None:
    days = [f"2024-01-{1 + number:02d}" for number in range(30)]
    columns: dict[str, list[Any]] = {
        "when": [*days[:-1], "20260-01-01"],
        "ratio": [0.5 * number for number in range(29)] + [float("inf")],
        "zip": [*map(str, range(10_000, 10_029)), "unknown"],
        "price": [*(f"{number}.95" for number in range(28)), "12,50", "ask"],
        "quote": [*(f"{number}.95" for number in range(26)), *"abcd"],
    }
    found = Tabular.suggest_columns(columns)
    assert found is not None
    taken, options = found
    assert taken == ["when", "ratio", "price"]
    told = "when holds 29 dates, and 1 other cell, price holds 28 numbers, and 2 other cells"
    assert options["kinds"] == ({"when": "date", "price": "number"}, told)
    assert "2 of 30 in price, such as 12,50" in options["bad_cells"][1]
    assert options["bad_cells"][0] == "empty"
    assert "1 of 30 in when, such as 20260-01-01" in options["bad_cells"][1]
    assert "1 of 30 in ratio, such as inf" in options["bad_cells"][1]


def test_init_takes_no_numbers_of_rows_and_knows_those_that_are_names() -> None:
    random = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {
        "order_id": random.permutation(10**6)[:100].tolist(),
        "userId": random.integers(5, size=100).tolist(),
        "valid": random.permutation(10**6)[:100].tolist(),
    }
    found = Tabular.suggest_columns(columns)
    assert found == (["userId", "valid"], {"kinds": ({"userId": "category"}, "userId holds numbers that are names")})


def test_init_takes_what_looks_like_facts_together() -> None:
    columns: dict[str, list[Any]] = {
        "price": [1.5, 2.25, 9.0, 4.0],
        "row": [1, 2, 3, 4],
        "kind": ["a", "b", "a", "a"],
        "name": ["Anna", "Bert", "Carl", "Dora"],
        "day": [date(2024, 1, 1), date(2024, 2, 1), date(2024, 2, 7), date(2023, 1, 1)],
        "new": [True, False, True, True],
        "file": ["a.png", "b.png", "a.png", "b.png"],
        "same": [3.0] * 4,
        "blob": [b"x"] * 4,
        "essay": ["long " * 30] * 4,
    }
    found = Tabular.suggest_columns(columns)
    assert found is not None
    assert found[0] == ["price", "kind", "day", "new"]
    assert Tabular.suggest_columns({"blob": [b"x"]}) is None


def test_the_recipe_s_schema_knows_its_options() -> None:
    with pytest.raises(MmregError, match="scaling"):
        mmreg.build_model(
            Recipe(
                {
                    "table": rows(20),
                    "target": {"column": "label"},
                    "modalities": {"facts": {"type": "tabular", "columns": COLUMNS, "scaling": "wild"}},
                }
            )
        )


@pytest.mark.parametrize(("learned", "met"), [([True, False], ["True", "FALSE"]), (["True", "False"], [True, False])])
def test_truth_values_are_the_same_as_texts_and_as_such(learned: list[Any], met: list[Any]) -> None:
    modality = Tabular()
    modality.columns = ("flag",)
    modality.fit_values(iter([{"flag": value} for value in learned] * 20))
    own, theirs = ([modality.load({"flag": value}) for value in values] for values in (learned, met))
    for left, right in zip(own, theirs, strict=True):
        assert {name: array.tolist() for name, array in left.items()} == {
            name: array.tolist() for name, array in right.items()
        }
    assert own[0]["categories"].tolist() != own[1]["categories"].tolist()


def flags(learned: list[Any], **options: Any) -> Tabular:
    modality = Tabular(**options)
    modality.columns = ("flag",)
    modality.fit_values(iter([{"flag": value} for value in learned]))
    return modality


def flag(modality: Tabular, value: Any) -> int:
    return int(modality.load({"flag": value})["categories"][0])


@pytest.mark.parametrize("learned", [[True, False] * 5, ["True", "False"] * 5, ["TRUE", False] * 5])
def test_one_and_zero_are_met_by_a_column_of_truth_values_alone(learned: list[Any]) -> None:
    modality = flags(learned)
    restored = Tabular()
    restored.columns = ("flag",)
    restored.load_state(json.loads(json.dumps(modality.state())))
    for fitted in (modality, restored):
        for yes, no in ((1, 0), (1.0, 0.0), ("1", "0"), ("1.0", "0.0"), (np.float32(1), np.int64(0))):
            assert (
                (flag(fitted, yes), flag(fitted, no)) == (flag(fitted, True), flag(fitted, "FALSE")) != (OTHER, OTHER)
            )
        assert flag(fitted, 2) == flag(fitted, "yes") == OTHER


def test_one_is_unknown_where_training_held_truth_values_among_others() -> None:
    rare = flags([*["true", "false"] * 5, "maybe"], min_frequency=2)  # of which only truth values are known
    assert rare.state()["columns"]["flag"]["names"] == ["false", "true"]
    assert flag(rare, 1) == flag(rare, "0") == OTHER
    mixed = flags([*["true", "x"] * 5, 1, 1])
    assert len({flag(mixed, True), flag(mixed, 1), OTHER}) == 3


def test_what_an_earlier_version_learned_of_truth_values_keeps_its_meaning() -> None:
    def earlier(names: list[str]) -> Tabular:
        state = {"columns": {"flag": {"kind": "category", "names": names}}}
        modality = Tabular()
        modality.columns = ("flag",)
        modality.load_state(Tabular.migrate(json.loads(json.dumps(state)), 1))
        return modality

    texts = earlier(["True", "x", "False"])  # as CSV files had them
    assert [flag(texts, value) for value in ("True", "x", "False", True, "false", 1)] == [2, 3, 4, 2, 4, OTHER]
    both = earlier(["True", "false", "true"])  # the most frequent spelling is what is met
    assert [flag(both, value) for value in ("True", True, "False")] == [2, 2, 3]
    assert both.spec["categories"].vocabulary_size == 5  # as many embeddings as were saved
