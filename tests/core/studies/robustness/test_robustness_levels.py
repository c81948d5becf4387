"""What `--missing-rate` and `--corrupt` say."""

from __future__ import annotations

import pytest

from mmreg.errors import OptionError
from mmreg.studies.robustness.levels import CorruptionRequest, read_corruptions, read_rates


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("0..0.9", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        ("0,0.25,0.5", [0.0, 0.25, 0.5]),
        ("0.3", [0.3]),
        ("0..1", [index / 10 for index in range(11)]),
        ("0.5, 0..0.25", [0.0, 0.1, 0.2, 0.5]),
        ("0.5,0.5", [0.5]),
    ],
)
def test_rates_are_numbers_lists_and_ranges(text: str, rates: list[float]) -> None:
    assert read_rates(text) == rates


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no number"),
        ("much", "no number"),
        ("0..", "no number"),
        ("0.9..0", "must rise"),
        ("nan", "finite"),
        ("0..1e12", "from 0 to 1, found 1e"),
        ("-0.1", "from 0 to 1, found -0.1"),
        ("0,,1", "no number"),
    ],
)
def test_other_rates_are_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_rates(text)


def test_corruptions_have_strengths_lists_and_ranges() -> None:
    text = "image:noise=0.1, image:blur=1,2,text:drop=0..0.5"
    assert read_corruptions(text) == [
        CorruptionRequest("image", "noise", (0.1,)),
        CorruptionRequest("image", "blur", (1.0, 2.0)),
        CorruptionRequest("text", "drop", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)),
    ]


def test_a_corruption_that_is_asked_for_twice_is_one_curve() -> None:
    assert read_corruptions(["a:noise=0.1,b:noise=1", "a:noise=0.3"]) == [
        CorruptionRequest("a", "noise", (0.1, 0.3)),
        CorruptionRequest("b", "noise", (1.0,)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image", "has no strength"),
        ("0.1", "has no strength"),
        ("image=0.1", "no MODALITY:CORRUPTION"),
        (":noise=0.1", "no MODALITY:CORRUPTION"),
        ("image:noise=", "no number"),
        ("image:noise=0.1,blur", "no number"),
        ("image:noise=inf", "finite"),
        ("image:noise=0.5..0.1", "must rise"),
    ],
)
def test_other_corruptions_are_refused_with_how_to_write_them(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_corruptions(text)
