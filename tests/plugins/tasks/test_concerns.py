"""What the tasks say about labels before a training."""

from __future__ import annotations

from typing import Any

import pytest

from mmreg_tasks.classification import Classification
from mmreg_tasks.concerns import FEW_ROWS, MOST
from mmreg_tasks.multilabel import Multilabel
from mmreg_tasks.regression import Regression


def concerns(task: Any, train: list[Any], **splits: list[Any]) -> list[Any]:
    task.fit(train)
    found = task.concerns({name: task.encode(values) for name, values in {"train": train, **splits}.items()})
    assert all("\n" not in concern.text for concern in found)
    return list(found)


def texts(*arguments: Any, **splits: Any) -> list[str]:
    return [concern.text for concern in concerns(*arguments, **splits)]


def test_nothing_is_said_of_classes_of_which_there_are_enough() -> None:
    ten = ["a"] * 10 + ["b"] * 10 + ["c"] * 20
    assert concerns(Classification(), ten, validation=["a", "b", "c"], test=["a", "b", "c"]) == []
    assert concerns(Classification(), ten) == []


def test_a_class_that_nearly_all_training_rows_have_is_told_with_what_helps() -> None:
    assert MOST == 0.8
    assert concerns(Classification(), ["no"] * 80 + ["yes"] * 20) == []
    (concern,) = concerns(Classification(), ["no"] * 81 + ["yes"] * 19)
    assert concern.text == (
        "'no' is the label of 81% of the training rows: accuracy says little, and the other labels may never be "
        "predicted; set class_weights: balanced in the target, and training.metric: balanced_accuracy"
    )
    assert (concern.options, concern.metric) == ({"class_weights": "balanced"}, "balanced_accuracy")
    assert concern.metric in Classification.metrics
    (concern,) = concerns(Classification(**concern.options), ["no"] * 1990 + ["yes"] * 10)
    said = (
        "'no' is the label of 99.5% of the training rows: class_weights make up for it in the loss, and "
        "balanced_accuracy says more than accuracy"
    )
    assert (concern.text, concern.options, concern.metric) == (said, {}, "balanced_accuracy")


def test_classes_with_few_rows_in_all_splits_are_counted_and_named() -> None:
    rows = ["a"] * 20 + ["b"] * 9 + [3 * "c"]
    assert texts(Classification(), rows, test=["a", "b", "ccc"]) == [
        f"1 of 3 classes has fewer than {FEW_ROWS} rows: 'ccc' (2); hardly anything can be learned of it"
    ]
    many = [f"c{number}" for number in range(7) for _ in range(2)]
    (text,) = texts(Classification(), many)
    assert text == (
        "7 of 7 classes have fewer than 10 rows: 'c0' (2), 'c1' (2), 'c2' (2), 'c3' (2), 'c4' (2) and 2 more; hardly "
        "anything can be learned of them"
    )


def test_classes_that_a_split_lacks_are_told_in_one_line() -> None:
    rows = [0] * 10 + [1] * 10 + [2] * 20
    assert texts(Classification(), rows, validation=[0, 1], test=[2]) == [
        "classes without a validation row: 2; without a test row: 0, 1; nothing is measured of them there"
    ]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["Cat", "cat", "dog"], ["'Cat' and 'cat'"]),
        ([" dog", "cat", "dog", "dog  "], ["' dog' and 'dog' and 'dog  '"]),
        (["1", "1.0", "x", "2"], ["'1' and '1.0'"]),
        (["a  b", "A b", "YES", "yes", "no"], ["'A b' and 'a  b', 'YES' and 'yes'"]),
        ([True, False], []),
        ([1.0, 2.0], []),
        (["nan", "inf", "a"], []),
    ],
)
def test_labels_that_are_hardly_different_are_told(labels: list[Any], told: list[str]) -> None:
    what = "labels that differ only in case, in blanks or in how a number is written count as different: "
    assert texts(Classification(), labels * 10) == [what + pairs for pairs in told]


def test_labels_of_rows_with_several_are_counted_one_by_one() -> None:
    rows = ["a,b"] * 12 + ["B"] * 10 + ["c"] * 3 + [""] * 100
    assert texts(Multilabel(), rows, validation=["a"], test=["a, b, B, c"]) == [
        "labels that differ only in case, in blanks or in how a number is written count as different: 'B' and 'b'",
        "1 of 4 labels has fewer than 10 rows: 'c' (4); hardly anything can be learned of it",
        "labels without a validation row: 'B', 'b', 'c'; nothing is measured of them there",
    ]


def test_nothing_is_said_of_numbers() -> None:
    assert concerns(Regression(), [1.0, 2.0, 2.0], test=[2.0]) == []
