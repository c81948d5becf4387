"""What the commas in a column's numbers are taken for."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mmreg.data.lookalikes import ENOUGH, Commas, numbers_with_commas

EITHER = "a comma that may separate thousands or be a decimal comma"
THOUSANDS = "commas as thousands separators"
DECIMAL = "a decimal comma"


@pytest.mark.parametrize(
    ("cells", "count", "what"),
    [
        (["1,234"], 1, EITHER),
        (["1,234", "999", None, "-12,500"], 2, EITHER),
        (["1,234"] * (ENOUGH - 1), ENOUGH - 1, EITHER),
        (["1,234"] * ENOUGH, ENOUGH, THOUSANDS),
        (["1,234", "1,234,567"], 2, THOUSANDS),
        (["1,234.50"], 1, THOUSANDS),
        (["1,234", "999.50"], 1, THOUSANDS),  # the point is the decimal one
        (["1,234"] * 20 + ["0,500"], 21, DECIMAL),
        (["1,234"] * 20 + ["1234,567"], 21, DECIMAL),
        (["1,5", "2,25", "3"], 2, DECIMAL),
    ],
)
def test_commas_are_taken_for_what_all_cells_allow(cells: list[str | None], count: int, what: str) -> None:
    found = numbers_with_commas(pa.array(cells))
    assert found is not None
    assert (found.numbers, found.what) == (count, what)


@pytest.mark.parametrize("cells", [[], [None], ["12", "1.5"], ["1,234", "many"], ["1,234,567", "1,5"], ["1,,2"], [""]])
def test_other_texts_are_no_numbers_with_commas(cells: list[str | None]) -> None:
    found: Commas | None = numbers_with_commas(pa.array(cells, pa.string()))
    assert found is None
