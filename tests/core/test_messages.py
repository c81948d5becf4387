"""Counts, lists and values as messages show them."""

from __future__ import annotations

import pytest

from mmreg.errors import ValueLoadError
from mmreg.messages import LONGEST, byte_size, listed, one_line, plural, shortened


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2_000, ("row",), "2,000 rows"),
        (1, ("row has", "rows have"), "1 row has"),
        (3, ("row has", "rows have"), "3 rows have"),
    ],
)
def test_a_count_agrees_with_its_noun(count: int, words: tuple[str, ...], said: str) -> None:
    assert plural(count, *words) == said


def test_a_long_list_says_how_many_more_there_are() -> None:
    assert listed("abc") == "a, b, c"
    assert listed("abcdef", 3) == "a, b, c and 3 more"
    assert listed("abc", 3) == "a, b, c"
    assert listed(range(3000), 1) == "0 and 2,999 more"
    assert listed([]) == ""


def test_a_text_is_shown_in_one_short_printable_line() -> None:
    assert shortened("two\n lines\x1b") == "two lines?"
    assert shortened("\u0645\u06cc\u200c\u062e \u202e👩\u200d👧") == "\u0645\u06cc\u200c\u062e ?👩\u200d👧"
    assert shortened("x" * 80) == "x" * 80
    assert shortened("x" * 81) == "x" * 80 + " ..."


def test_an_error_is_shown_with_its_type_unless_it_is_ours() -> None:
    assert one_line(ValueError("wrong\nthere")) == "ValueError: wrong there"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueLoadError("no numbers")) == "no numbers"
    assert one_line(ValueError("x" * 600)) == "ValueError: " + "x" * LONGEST + " ..."


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (67_108_864, "67.1 MB"), (4e12, "4.0 TB"), (8e15, "8,000.0 TB")],
)
def test_a_number_of_bytes_in_words(number: float, text: str) -> None:
    assert byte_size(number) == text
