"""`mmreg init --target` several times: one recipe for all of them, that trains as it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from small import Caller


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two numbers that say a price, a kind and the tags of a row; the price is not known of every row."""
    random, lines = np.random.default_rng(0), ["area,rooms,asking price,kind,tags"]
    for number in range(120):
        area, rooms = random.normal(80, 20), int(random.integers(1, 7))
        price = "" if number % 9 == 0 else f"{10 * area + rooms:.2f}"
        kind = ("flat", "house")[area > 80] if number % 10 else ""
        tags = ";".join(["sunny"] * (rooms > 2) + ["quiet"] * (rooms < 5))
        lines.append(f"{area:.3f},{rooms},{price},{kind},{tags}")
    path = tmp_path / "homes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_several_targets_get_a_task_each_and_the_recipe_trains(cli: Caller, table: Path) -> None:
    out = table.with_suffix(".yaml")
    named = ["--target", "asking price", "--target", "kind", "--target", "tags", "--target", "kind"]
    done = cli("init", table, "--out", out, *named)
    assert done.code == 0, done.err
    recipe = yaml.safe_load(out.read_text())
    assert "target" not in recipe
    assert recipe["targets"] == {
        "asking_price": {"column": "asking price", "task": "regression"},
        "kind": {"column": "kind", "task": "classification"},
        "tags": {"column": "tags", "task": "multilabel", "separator": ";"},
    }
    assert recipe["split"]["stratify"] is True, "as of several labels"
    assert list(recipe["modalities"]) == ["tabular"]
    assert recipe["modalities"]["tabular"]["columns"] == ["area", "rooms"], "targets are no inputs"
    assert "on_bad" not in recipe, "each row has some target"
    assert "guessed" not in done.out
    trained = cli("train", out, "--out", table.with_name("run"), "--set", "training.epochs=1", "--device", "cpu")
    assert trained.code == 0, trained.err


def test_rows_that_lack_all_of_them_are_left_out(cli: Caller, table: Path) -> None:
    done = cli("init", table, "--out", table.with_suffix(".yaml"), "--target", "kind", "--target", "asking price")
    assert (
        "on_bad: skip  # 2 rows have no value in any of the target columns 'kind', 'asking price' (first: " in done.out
    )


def test_a_target_that_is_no_column_is_told(cli: Caller, table: Path) -> None:
    done = cli("init", table, "--out", table.with_suffix(".yaml"), "--target", "kind", "--target", "tag")
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert "no column 'tag'; did you mean 'tags'" in done.err


@pytest.mark.parametrize(
    ("time", "event", "told"),
    [
        (("days", "12", "30.5"), ("died", "yes", "no"), True),
        (("OS_time", "12", "30"), ("OS event", "1", "0"), True),
        (("days", "12", "30"), ("fur", "1", "0"), False),
        (("days", "12", "-30"), ("died", "1", "0"), False),
        (("days", "12", "30"), ("status", "old", "new"), False),
        (("days", "12", "long"), ("died", "1", "0"), False),
    ],
)
def test_a_time_and_an_event_beside_each_other_are_told_of(
    cli: Caller, tmp_path: Path, time: tuple[str, str, str], event: tuple[str, str, str], told: bool
) -> None:
    path = tmp_path / "patients.csv"
    for columns in ((time, event), (event, time)):
        names = [name for name, *_ in columns]
        lines = [f"{number % 3},{columns[0][1 + number % 2]},{columns[1][1 + number % 2]}" for number in range(30)]
        path.write_text("\n".join([f"label,{','.join(names)}", *lines]) + "\n")
        done = cli("init", path, "--out", tmp_path / "recipe.yaml", "--overwrite")
        assert done.code == 0, done.err
        target = f"target: {{columns: {{time: {time[0]}, event: {event[0]}}}, task: survival}}"
        assert (target in done.out) == told
        assert ("whether it happened" in done.out) == told


def test_a_table_is_trained_with_several_targets_at_once(cli: Caller, table: Path) -> None:
    given = ["--target", "kind", "--target", "tags", "--set", "training.epochs=1", "--device", "cpu"]
    done = cli("train", table, "--out", table.with_name("run"), *given)
    assert done.code == 0, done.err
    assert list(yaml.safe_load(table.with_name("run.yaml").read_text())["targets"]) == ["kind", "tags"]
