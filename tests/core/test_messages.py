"""Counts, lists and cells as people read them."""

from __future__ import annotations

from mmreg.messages import cell, listed, plural


def test_a_count_has_its_noun_in_the_plural_unless_it_is_one() -> None:
    assert [plural(count, "row") for count in (0, 1, 2, 2000)] == ["0 rows", "1 row", "2 rows", "2,000 rows"]


def test_of_many_names_the_first_ones_are_listed() -> None:
    assert listed([]) == ""
    assert listed("abc", most=3) == "a, b, c"
    assert listed("abcd", most=3) == "a, b, c and 1 more"
    assert listed(map(str, range(1010))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,000 more"


def test_a_cell_is_one_line_with_four_digits_of_a_fraction() -> None:
    assert [cell(value) for value in (None, 2 / 3, 1e-9, 12345, True)] == ["", "0.6667", "1e-09", "12345", "True"]
    assert cell("one\n two\tthree") == "one  two\tthree"
