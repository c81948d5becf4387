"""What a run does with the tables that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import toys

from mmreg.data.table import read_table


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def test_a_table_that_is_predicted_stays_as_it_was(tmp_path: Path) -> None:
    run = toys.train(tmp_path / "run")
    table = read_table([{"a": row["a"]} for row in toys.rows(10)])
    assert [row["modalities"] for row in run.predict(table)] == ["a"] * 10
    assert table.columns == ["a"]
