"""Options come from a constructor's signature: types, bounds, defaults and documentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Le, Lt

from mmreg.errors import OptionError
from mmreg.registry.options import check_options, describe_options, find_problems, json_schema
from mmreg.registry.signature import argument_docs, documentation, parameters


class Thing:
    """A thing.

    It has two lines of text.

    Args:
        spec: what it is built from; no option.
        size: how large it is,
            in units.
        mode: what it does.
        share: a share.
        widths: several numbers.
        scale: an optional number.
    """

    passed_in = frozenset({"outputs"})

    def __init__(
        self,
        spec: object,
        *,
        size: Annotated[int, Ge(1)],
        mode: Literal["fast", "slow"] = "fast",
        share: Annotated[float, Ge(0), Lt(1)] = 0.5,
        widths: tuple[int, ...] = (1, 2),
        scale: float | None = None,
        outputs: str = "pooled",
    ) -> None: ...


def test_defaults_complete_the_options() -> None:
    assert check_options(Thing, {"size": 3}) == {
        "size": 3,
        "mode": "fast",
        "share": 0.5,
        "widths": (1, 2),
        "scale": None,
    }


def test_a_list_may_stand_for_a_tuple_and_an_int_for_a_float() -> None:
    checked = check_options(Thing, {"size": 3, "widths": [4, 5], "scale": 2})
    assert checked["widths"] == (4, 5)
    assert checked["scale"] == 2.0
    assert isinstance(checked["scale"], float)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "size: is missing"),
        ({"size": 0}, "size: must be greater than or equal to 1, found 0"),
        ({"size": "3"}, "size: must be a valid integer, found '3'"),
        ({"size": True}, "size: must be a valid integer, found True"),
        ({"size": 1.5}, "size: must be a valid integer"),
        ({"size": 1, "mode": "quick"}, "mode: must be 'fast' or 'slow', found 'quick'"),
        ({"size": 1, "share": 1.0}, "share: must be less than 1, found 1.0"),
        ({"size": 1, "share": float("nan")}, "share:"),
        ({"size": 1, "widths": [1, "x"]}, "widths.1: must be a valid integer, found 'x'"),
        ({"size": 1, "shar": 0.1}, "shar: is no option here; did you mean 'share'?"),
        ({"size": 1, "outputs": "tokens"}, "outputs: is no option here"),
        ({"size": 1, "scale": object()}, "plain data"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_found(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_options(Thing, options, "encoder 'thing'")
    assert "encoder 'thing'" in str(caught.value)
    assert message in str(caught.value)


def test_all_problems_are_found_at_once() -> None:
    assert {problem.path for problem in find_problems(Thing, {"mode": 1, "share": 2, "x": 0})} == {
        ("size",),
        ("mode",),
        ("share",),
        ("x",),
    }


def test_a_description_has_types_bounds_defaults_and_text() -> None:
    rows = {row["name"]: row for row in describe_options(Thing)}
    assert list(rows) == ["size", "mode", "share", "widths", "scale"]
    assert rows["size"] == {
        "name": "size",
        "type": "integer >= 1",
        "required": True,
        "bounds": {"minimum": 1},
        "description": "how large it is, in units.",
    }
    assert rows["mode"]["type"] == "one of fast, slow"
    assert rows["share"]["type"] == "number >= 0 and < 1"
    assert rows["share"]["bounds"] == {"minimum": 0, "exclusiveMaximum": 1}
    assert rows["widths"]["type"] == "list of integer"
    assert rows["widths"]["default"] == [1, 2]
    assert rows["scale"]["type"] == "number or null"
    assert rows["scale"]["default"] is None


def test_a_whole_bound_is_told_alike_however_it_was_written() -> None:
    class Bounded:
        """Bounded.

        Args:
            one: a.
            other: b.
        """

        def __init__(self, *, one: Annotated[float, Le(1e3)] = 1, other: Annotated[float, Le(0.5)] = 0.1) -> None: ...

    one, other = describe_options(Bounded)
    assert (one["type"], other["type"]) == ("number <= 1000", "number <= 0.5")
    assert str(one["bounds"]) == "{'maximum': 1000}"


class Base:
    """What several share.

    Args:
        inputs: what it is built from; no option.
        size: how large it is.
        depth: how deep it is.
    """

    def __init__(self, inputs: object, *, size: Annotated[int, Ge(1)] = 4, depth: int = 2) -> None:
        self.size = size


class Derived(Base):
    """Takes the base's options, has another default for one of them and says something else of another.

    Args:
        width: how wide it is.
        size: how large each of its parts is.
    """

    def __init__(self, inputs: object, *, depth: int = 3, width: float = 0.5, **options: Any) -> None:
        super().__init__(inputs, depth=depth, **options)


class Further(Derived):
    """Hands on everything."""

    def __init__(self, inputs: object, **options: Any) -> None:
        super().__init__(inputs, **options)


class Closed(Base):
    """Names what it takes, and so has no other option.

    Args:
        size: its size.
    """

    def __init__(self, inputs: object, *, size: int = 1) -> None:
        super().__init__(inputs, size=size, depth=1)


class Inheriting(Base):
    """Has no constructor of its own."""


def test_a_constructor_that_hands_options_on_has_those_of_its_base_class_too() -> None:
    rows = describe_options(Derived)
    assert [(row["name"], row["type"], row["default"], row["description"]) for row in rows] == [
        ("size", "integer >= 1", 4, "how large each of its parts is."),
        ("depth", "integer", 3, "how deep it is."),
        ("width", "number", 0.5, "how wide it is."),
    ]
    assert describe_options(Further) == rows
    checked = check_options(Derived, {"size": 9})
    assert Derived(None, **checked).size == 9


def test_what_is_handed_on_is_checked_as_one_s_own() -> None:
    assert [str(problem) for problem in find_problems(Further, {"size": 0, "wide": 1.0})] == [
        "size: must be greater than or equal to 1, found 0",
        "wide: is no option here; did you mean 'width'? (there are size, depth, width)",
    ]


def test_a_constructor_without_further_options_has_its_own_alone() -> None:
    assert [(row["name"], row["description"]) for row in describe_options(Closed)] == [("size", "its size.")]
    assert argument_docs(Closed) == {"size": "its size."}


def test_an_inherited_constructor_brings_its_options_and_their_documentation() -> None:
    assert describe_options(Inheriting) == describe_options(Base)
    assert [row["description"] for row in describe_options(Inheriting)] == ["how large it is.", "how deep it is."]


def test_parameters_have_resolved_types_and_are_named_ones_only() -> None:
    assert {name: each.annotation for name, each in parameters(Further).items()} == {
        "inputs": object,
        "size": Annotated[int, Ge(1)],
        "depth": int,
        "width": float,
    }


def test_the_documentation_leaves_the_arguments_out() -> None:
    assert documentation(Thing) == "A thing.\n\nIt has two lines of text."


def test_the_json_schema_allows_no_other_keys() -> None:
    schema = json_schema(Thing)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["size"]
    assert schema["properties"]["size"]["minimum"] == 1
