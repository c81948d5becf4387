"""The contrastive task: its pairs, vectors, metrics and predictions."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from mmreg import registry
from mmreg.errors import OptionError, TargetError
from mmreg_tasks.contrastive import Contrastive
from mmreg_tasks.info_nce import info_nce, unit_vectors

TWO = ("image", "text")
THREE = ("image", "text", "sound")


def task_of(inputs=TWO, **options):
    task = Contrastive(inputs=inputs, **{"features": 4, **options})
    task.fit([None] * 3)
    return task


def random_logits(task, rows=12, absent=(), seed=0):
    """Logits (N, K) that are alike within a row, of which (row, modality) in `absent` are zeros."""
    generator = torch.Generator().manual_seed(seed)
    inputs = task.num_outputs // 4
    logits = torch.randn(rows, 1, 4, generator=generator) + 0.5 * torch.randn(rows, inputs, 4, generator=generator)
    for row, modality in absent:
        logits[row, modality] = 0
    return logits.flatten(1)


def nothing(scores):
    return torch.zeros(len(scores), 0)


@pytest.mark.parametrize(
    ("between", "pairs"), [(None, [(0, 1), (0, 2), (1, 2)]), ([["sound", "text"], ["text", "image"]], [(2, 1), (1, 0)])]
)
def test_the_loss_is_the_mean_over_pairs_of_modalities(between, pairs):
    task = task_of(THREE, between=between)
    logits = random_logits(task, absent=[(0, 0), (1, 2), (2, 0), (2, 1), (2, 2)])
    vectors = unit_vectors(logits.unflatten(1, (3, 4)))
    there = logits.unflatten(1, (3, 4)).any(2)
    expected = [
        info_nce(vectors[:, left], vectors[:, right], there[:, left] & there[:, right], torch.tensor(0.07))
        for left, right in pairs
    ]
    torch.testing.assert_close(task.loss(logits, nothing(logits)).detach(), torch.stack(expected).mean(0))


def test_rows_of_each_pair_are_measured_among_those_that_have_both_sides():
    task = task_of(THREE)
    logits = random_logits(task, absent=[(0, 0), (1, 2)])
    result = task.evaluate(task.scores(logits), nothing(logits), ["mrr"])
    assert [each["rows"] for each in result["per_direction"].values()] == [11, 11, 10, 10, 11, 11]
    both = task_of(TWO).evaluate(logits[1:, :8], nothing(logits[1:]))["per_direction"]
    for name in ("image to text", "text to image"):
        assert result["per_direction"][name] == both[name]
    for name in ("mrr", "recall_at_5", "median_rank"):
        assert result[name] == pytest.approx(np.mean([each[name] for each in result["per_direction"].values()]))


def test_figures_are_those_of_scikit_learn():
    task = task_of()
    logits = random_logits(task, rows=60)
    scores = task.scores(logits)
    similar = (scores[:, :4].double() @ scores[:, 4:].double().T).numpy()
    found = task.evaluate(scores, nothing(scores))["per_direction"]
    for name, matrix in (("image to text", similar), ("text to image", similar.T)):
        assert found[name]["mrr"] == pytest.approx(label_ranking_average_precision_score(np.eye(60), matrix))
        for k in (1, 5, 10):
            assert found[name][f"recall_at_{k}"] == pytest.approx(top_k_accuracy_score(range(60), matrix, k=k))


def test_predictions_are_similarities_where_a_row_has_both_sides():
    task = task_of(THREE)
    logits = random_logits(task, rows=3, absent=[(1, 1)])
    columns = task.predictions(task.scores(logits))
    assert list(columns) == ["similarity_image_text", "similarity_image_sound", "similarity_text_sound"]
    assert columns["similarity_image_text"][1] is None
    assert columns["similarity_text_sound"][1] is None
    expected = torch.cosine_similarity(logits[:, :4].double(), logits[:, 8:].double())
    np.testing.assert_allclose(columns["similarity_image_sound"], expected, rtol=1e-5)


def test_no_two_similarities_have_one_name():
    task = task_of(("a", "a_b", "b_c", "c"), between=[["a_b", "c"], ["a", "b_c"]])
    assert len(task.predictions(torch.zeros(2, 16))) == 2


def test_rows_without_any_pair_are_told_as_such():
    task = task_of()
    scores = torch.zeros(5, 8)
    result = task.evaluate(scores, nothing(scores))
    assert (result["mrr"], result["recall_at_1"], result["median_rank"]) == (0.0, 0.0, None)
    assert task.headline(result, 5) == "None of 5 rows has both sides of a pair"
    assert task.headline(result, 1) == "None of 1 row has both sides of a pair"
    json.dumps(result, allow_nan=False)


def test_the_headline_tells_chance():
    task = task_of()
    result = task.evaluate(torch.eye(8)[:4].repeat(1, 1) + torch.eye(8)[:4].roll(4, 1), nothing(torch.zeros(4)))
    assert task.headline(result, 4) == "Recall@1: 100% among 4 rows (by chance 25.0%), mean reciprocal rank 1.00"


@pytest.mark.parametrize(
    ("inputs", "between", "told"),
    [
        (("image",), None, "contrastive needs two modalities or more, found image; give it another one"),
        (TWO, [["image", "txt"]], "between: there is no modality 'txt'; did you mean 'text'\\?; there are image, text"),
        (TWO, [["image", "image"]], "different pairs of different modalities"),
        (TWO, [["image", "text"], ["text", "image"]], "different pairs of different modalities"),
        (THREE, [["image", "text"]], "between has no pair with sound; add one, or leave the modality out"),
    ],
)
def test_modalities_that_make_no_pairs_are_refused(inputs, between, told):
    with pytest.raises(OptionError, match=told):
        task_of(inputs, between=between)


@pytest.mark.parametrize("options", [{"temperature": 0.01}, {"temperature": 1}, {"features": 0}, {"between": [["a"]]}])
def test_options_out_of_bounds_are_refused(options):
    with pytest.raises(OptionError):
        registry.build("task", "contrastive", **options)


def test_no_rows_and_unknown_metrics_are_refused():
    task = task_of()
    with pytest.raises(TargetError, match="there are no rows"):
        task.evaluate(torch.zeros(0, 8), torch.zeros(0, 0))
    with pytest.raises(OptionError, match="unknown metric 'recall_at_2'"):
        task.evaluate(torch.zeros(3, 8), torch.zeros(3, 0), ["recall_at_2"])


def test_it_is_rebuilt_from_its_state():
    task = task_of(THREE, between=[["sound", "text"], ["text", "image"]])
    rebuilt = Contrastive(features=4, between=[["sound", "text"], ["text", "image"]])
    rebuilt.load_state(json.loads(json.dumps(task.state())))
    assert rebuilt.num_outputs == task.num_outputs == 12
    logits = random_logits(task)
    assert torch.equal(rebuilt.loss(logits, nothing(logits)), task.loss(logits, nothing(logits)))
