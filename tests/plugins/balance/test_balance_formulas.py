"""Each balance gives the gradients of its formula, weight by weight, in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from balanced import batches, gradients, trainer, vectors
from torch import Tensor
from torch.nn import functional

from mmreg import Features
from mmreg.model.seeding import Draws
from mmreg.training.loop import Trainer

ROWS = (0, 1, 2, 3, 4, 5, 6, 7)
SOME_ABSENT = {"a": (1, 6), "b": (2, 3, 9)}
NO_B = {"b": range(24)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert expected.keys() <= found.keys()
    assert not any(found[name].any() for name in found.keys() - expected.keys())
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def without(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: each for name, each in found.items() if not name.startswith(prefix)}


def own_gradients(one: Trainer, batch: Any, detached: bool = False) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Of the weighted cross-entropy of each modality's own head: gradients by weight, and the mean probabilities."""
    found, present, given = vectors(one, batch)
    total = given.weights.double().sum()
    loss, sure = torch.zeros((), dtype=torch.float64), {}
    for place, (name, vector) in enumerate(found.items()):
        head = one.model.balance.heads[place]
        logits = (vector.detach() if detached else vector) @ head.weight.T + head.bias
        sums = [0.0, 0.0]
        for row in range(given.size):
            if present[row, place]:
                log_p = logits[row, given.targets[row]] - logits[row].exp().sum().log()
                loss = loss - given.weights[row] * log_p / total
                sums[0] += float(given.weights[row]) * math.exp(log_p.detach())
                sums[1] += float(given.weights[row])
        sure[name] = sums[0] / sums[1] if sums[1] else math.nan
    named = dict(one.model.named_parameters())
    tensors = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: each for name, each in zip(named, tensors, strict=True) if each is not None}, sure


@pytest.mark.parametrize("absent", [{}, SOME_ABSENT, NO_B], ids=["all there", "some absent", "one absent"])
@pytest.mark.parametrize(
    "fusion",
    ["concat", "low_rank", {"name": "concat", "of": ["a", {"name": "bilinear", "of": ["b", "c"]}]}],
    ids=["concat", "low_rank", "nested"],
)
def test_own_losses_are_added(absent: dict[str, Sequence[int]], fusion: Any) -> None:
    names = "ab" if isinstance(fusion, str) else "abc"
    plain, one = (
        trainer(each, names, fusion=fusion, absent=absent) for each in (None, {"name": "own_losses", "weight": 0.7})
    )
    joint, found = gradients(plain, batches(plain, ROWS)), gradients(one, batches(one, ROWS))
    own, _ = own_gradients(one, batches(one, ROWS)[0])
    zero = torch.zeros((), dtype=torch.float64)
    expected = {name: joint.get(name, zero) + 0.7 * own.get(name, zero) for name in found if name in {**joint, **own}}
    same(found, expected)
    assert set(joint) == set(without(found, "balance."))


def test_own_losses_of_weight_zero_leave_the_training_as_it_is() -> None:
    plain, one = trainer(None), trainer({"name": "own_losses", "weight": 0})
    found = gradients(one, batches(one, ROWS))
    same(without(found, "balance."), gradients(plain, batches(plain, ROWS)))
    own, _ = own_gradients(one, batches(one, ROWS)[0], detached=True)
    same({name: each for name, each in found.items() if name.startswith("balance.")}, own)


def factors_of(sure: dict[str, float], alpha: float) -> dict[str, float]:
    there = {name: each for name, each in sure.items() if not math.isnan(each)}
    factors = dict.fromkeys(sure, 1.0)
    for name, each in there.items():
        others = [other for key, other in there.items() if key != name]
        if others and (ratio := each / (sum(others) / len(others))) > 1:
            factors[name] = 1 - math.tanh(alpha * ratio)
    return factors


@pytest.mark.parametrize("names", ["ab", "abc"])
@pytest.mark.parametrize("absent", [{}, SOME_ABSENT, NO_B], ids=["all there", "some absent", "one absent"])
@pytest.mark.parametrize("noise", [False, True])
def test_ogm_ge_makes_the_gradients_of_the_surer_encoder_smaller(names: str, absent: Any, noise: bool) -> None:
    plain, one = (
        trainer(None, names, absent=absent),
        trainer({"name": "ogm_ge", "alpha": 0.4, "noise": noise}, names, absent=absent),
    )
    joint, found = gradients(plain, batches(plain, ROWS)), gradients(one, batches(one, ROWS), seed=7)
    own, sure = own_gradients(one, batches(one, ROWS)[0], detached=True)
    factors = factors_of(sure, 0.4)
    assert min(factors.values()) < 1 or len(names) - len(absent) < 2
    expected = {**own, **joint}
    Draws(7).reseed("balance/modulate")
    for name in names:
        for weight, _ in one.model.encoder_of(name).named_parameters():
            key = f"encoders.{name}.{weight}"
            expected[key] = joint[key] * factors[name]
            if noise and joint[key].ndim == 2:
                deviation = math.sqrt(float((joint[key] - joint[key].mean()).square().sum()) / (joint[key].numel() - 1))
                expected[key] = expected[key] + torch.randn(joint[key].shape, dtype=torch.float64) * deviation
    same(found, expected)


def test_ogm_ge_goes_by_all_batches_of_a_step() -> None:
    plain, one = (trainer(each, accumulate=2) for each in (None, {"name": "ogm_ge", "alpha": 0.4, "noise": False}))
    parts = (ROWS, (8, 9, 10))
    joint, found = gradients(plain, batches(plain, *parts)), gradients(one, batches(one, *parts))
    whole = batches(one, (*ROWS, 8, 9, 10))[0]
    factors = factors_of(own_gradients(one, whole, detached=True)[1], 0.4)
    for key, gradient in joint.items():
        factor = factors[key.split(".")[1]] if key.startswith("encoders.") else 1.0
        torch.testing.assert_close(found[key], gradient * factor)


def test_equal_scores_change_nothing_but_for_the_noise() -> None:
    plain, one = trainer(None), trainer({"name": "ogm_ge", "noise": False})
    with torch.no_grad():
        for head in one.model.balance.heads:
            head.weight.zero_()
            head.bias.zero_()
    same(without(gradients(one, batches(one, ROWS)), "balance."), gradients(plain, batches(plain, ROWS)))


def least(joint: Tensor, own: Tensor) -> float:
    """The share of the first with which the sum of both is shortest, by golden sections."""
    low, high = 0.0, 1.0
    for _ in range(200):
        one, two = low + 0.382 * (high - low), low + 0.618 * (high - low)
        if (one * joint + (1 - one) * own).norm() < (two * joint + (1 - two) * own).norm():
            high = two
        else:
            low = one
    return (low + high) / 2


@pytest.mark.parametrize("sign", [1.0, -3.0], ids=["at odds", "agreeing"])
@pytest.mark.parametrize("absent", [{}, SOME_ABSENT, NO_B], ids=["all there", "some absent", "one absent"])
@pytest.mark.parametrize("parts", [(ROWS,), (ROWS, (8, 9, 10))], ids=["one batch", "two batches"])
def test_mmpareto_turns_the_gradients_of_each_encoder(sign: float, absent: Any, parts: Any) -> None:
    plain, one = (
        trainer(each, absent=absent, accumulate=len(parts)) for each in (None, {"name": "mmpareto", "gamma": 1.2})
    )
    with torch.no_grad():
        for each in (plain, one):
            each.model.head.weight.mul_(sign)
    joint, found = gradients(plain, batches(plain, *parts)), gradients(one, batches(one, *parts))
    own, _ = own_gradients(one, batches(one, [row for part in parts for row in part])[0])
    expected, conflicts = {**own, **joint}, 0
    for name in "ab":
        keys = [key for key in joint if key.startswith(f"encoders.{name}.")]
        g, u = (
            torch.cat([each.get(key, torch.zeros_like(joint[key])).flatten() for key in keys]) for each in (joint, own)
        )
        share = 0.5 if g @ u >= 0 else least(g, u)
        conflicts += share != 0.5
        h = 2 * share * g + 2 * (1 - share) * u
        stretch = max(1.0, float((g + u).norm() / h.norm())) if h.norm() > 0 else 1.0
        for key in keys:
            mine = own.get(key, torch.zeros_like(joint[key]))
            expected[key] = 1.2 * stretch * (2 * share * joint[key] + 2 * (1 - share) * mine)
    assert absent or (conflicts > 0) == (sign > 0)
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-5, atol=1e-9)  # the search ends at the root of rounding


def test_mmpareto_of_gradients_that_are_opposite_is_not_blown_up() -> None:
    from mmreg import EncoderGradients, registry

    method = registry.build("balance", "mmpareto", {"a": 2}, num_logits=2, num_outputs=2, space="log_probabilities")
    own = torch.tensor([0.1, -0.3])
    for factor in (-1.0, -2.0, -0.3):
        whole = own + factor * own
        method.modulate({"a": EncoderGradients([whole], [own])}, {})
        assert whole.norm() < 1e-5


def fused(one: Trainer, found: dict[str, Tensor], present: Tensor, kept: Sequence[int]) -> Tensor:
    """What the fused model gives with some modalities alone: scores (B, K)."""
    mask = torch.tensor([place in kept for place in range(present.shape[1])]) & present
    features = {name: Features(pooled=vector.detach()) for name, vector in found.items()}
    logits = one.model.head(one.model.root.fusion.eval()(features, mask).pooled)
    one.model.root.fusion.train()
    return torch.where(mask.any(1, keepdim=True), logits.log_softmax(1), one.model.prior)


def shapley(one: Trainer, batch: Any) -> tuple[list[Tensor], Tensor, Any]:
    """What each modality adds, as the mean over all orders in which they come."""
    found, present, given = vectors(one, batch)
    count = len(found)
    orders = list(itertools.permutations(range(count)))
    added = [torch.zeros(given.size, 3, dtype=torch.float64) for _ in range(count)]
    for order in orders:
        for place, modality in enumerate(order):
            with_it, before = (fused(one, found, present, order[: place + more]) for more in (1, 0))
            added[modality] = added[modality] + (with_it - before) / len(orders)
    return added, present, given


@torch.no_grad()
def goodness(one: Trainer, batch: Any) -> list[float]:
    added, present, given = shapley(one, batch)
    means = []
    for place, phi in enumerate(added):
        rows = [row for row in range(given.size) if present[row, place]]
        weights = [float(given.weights[row]) for row in rows]
        logs = [float(phi[row].log_softmax(0)[given.targets[row]]) for row in rows]
        means.append(sum(w * each for w, each in zip(weights, logs, strict=True)) / sum(weights) if rows else math.nan)
    return means


@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
@pytest.mark.parametrize("fusion", ["concat", "low_rank", "transformer"])
def test_agm_goes_by_exact_shapley_values_and_what_they_were(names: str, fusion: str) -> None:
    absent = SOME_ABSENT if fusion == "concat" else {}
    plain, one = (trainer(each, names, fusion=fusion, absent=absent) for each in (None, {"name": "agm", "alpha": 0.8}))
    first, second, third = (ROWS, (8, 9, 10, 11), (12, 13, 14, 15, 16))
    same(gradients(one, batches(one, first)), gradients(plain, batches(plain, first)))  # nothing to compare with yet
    gradients(one, batches(one, second))
    before = [goodness(one, batches(one, rows)[0]) for rows in (first, second)]
    found, joint = gradients(one, batches(one, third)), gradients(plain, batches(plain, third))
    now, mean = goodness(one, batches(one, third)[0]), [(x + y) / 2 for x, y in zip(*before, strict=True)]
    factors = {}
    for place, name in enumerate(names):
        others = [other for other in range(len(names)) if other != place]
        ratio, usual = (math.exp(sum(s[place] - s[other] for other in others) / len(others)) for s in (now, mean))
        factors[name] = math.exp(0.8 * min(usual - ratio, 10))
    assert any(abs(factor - 1) > 1e-3 for factor in factors.values())
    same(
        found,
        {
            key: each * factors[key.split(".")[1]] if key.startswith("encoders.") else each
            for key, each in joint.items()
        },
    )


def test_agm_of_a_modality_that_no_row_has_changes_nothing() -> None:
    plain, one = (trainer(each, absent=NO_B) for each in (None, "agm"))
    for rows in (ROWS, (8, 9, 10)):
        same(gradients(one, batches(one, rows)), gradients(plain, batches(plain, rows)))


def test_opm_leaves_out_the_surer_modality() -> None:
    one = trainer({"name": "opm", "base": 0.2, "strength": 0.5, "momentum": 0.75}, "abc")
    method: Any = one.model.balance
    assert method.probabilities().tolist() == [0, 0, 0]
    means: list[float] = []
    for rows in (ROWS, (8, 9, 10)):
        now = list(own_gradients(one, batches(one, rows)[0], detached=True)[1].values())
        gradients(one, batches(one, rows))
        means = [0.75 * old + 0.25 * new for old, new in zip(means, now, strict=True)] if means else now
    for place, mean in enumerate(means):
        ratio = mean / ((sum(means) - mean) / 2)
        expected = 0.2 * (1 + 0.5 * math.tanh(ratio - 1)) if ratio > 1 else 0
        assert method.probabilities()[place].item() == pytest.approx(expected)


def test_opm_never_leaves_a_row_without_anything() -> None:
    one = trainer({"name": "opm", "base": 1.0}, "abc")
    method: Any = one.model.balance
    method.sure.copy_(torch.tensor([0.9, 0.8, 0.1]))
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]]).bool()
    assert (
        method.keep(present).tolist()
        == torch.tensor([[0, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]).bool().tolist()
    )


def test_opm_gives_the_gradients_of_rows_that_lack_what_is_left_out() -> None:
    one = trainer({"name": "opm", "base": 1.0})
    one.model.balance.sure.copy_(torch.tensor([0.9, 0.1]))  # type: ignore[union-attr]
    found = gradients(one, batches(one, ROWS))
    lacking = trainer(None, absent={"a": range(24)})
    lacking.model.load_state_dict({k: v for k, v in one.model.state_dict().items() if not k.startswith("balance.")})
    expected = gradients(lacking, batches(lacking, ROWS))
    own, _ = own_gradients(one, batches(one, ROWS)[0], detached=True)
    same(found, {**expected, **own})
    assert not any(found[key].any() for key in found if key.startswith("encoders.a."))


def test_opm_drops_as_often_as_it_says() -> None:
    method: Any = trainer({"name": "opm", "base": 0.3, "strength": 0.5}).model.balance
    method.sure.copy_(torch.tensor([0.9, 0.3]))
    torch.manual_seed(0)
    kept = method.keep(torch.ones(20_000, 2, dtype=torch.bool))
    expected = 0.3 * (1 + 0.5 * math.tanh(2.0))
    assert 1 - kept[:, 0].double().mean().item() == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 20_000))
    assert kept[:, 1].all()


@pytest.mark.parametrize("absent", [{}, SOME_ABSENT], ids=["all there", "some absent"])
def test_pmr_pulls_the_weaker_modality_to_its_prototypes(absent: Any) -> None:
    plain, one = (
        trainer(each, "abc", absent=absent) for each in (None, {"name": "pmr", "alpha": 0.6, "momentum": 0.8})
    )
    first, second = ROWS, (8, 9, 10, 11, 12, 13)
    same(gradients(one, batches(one, first)), gradients(plain, batches(plain, first)))  # there are no prototypes yet
    found, joint = gradients(one, batches(one, second)), gradients(plain, batches(plain, second))
    earlier, had, before = vectors(one, batches(one, first)[0])
    given, present, now = vectors(one, batches(one, second)[0])
    terms, sure = [], []
    for place, name in enumerate("abc"):
        prototypes = {}
        for kind in range(3):
            own = [
                earlier[name][row].detach()
                for row in range(before.size)
                if had[row, place] and before.targets[row] == kind
            ]
            if own:
                prototypes[kind] = torch.stack(own).mean(0)
        term, sums = torch.zeros((), dtype=torch.float64), [0.0, 0.0]
        for row in range(now.size):
            kind, weight = int(now.targets[row]), float(now.weights[row])
            if present[row, place] and kind in prototypes:
                logits = {key: -(given[name][row] - each).norm() for key, each in prototypes.items()}
                log_p = logits[kind] - torch.stack(list(logits.values())).logsumexp(0)
                term = term - weight * log_p / now.weights.double().sum()
                sums = [sums[0] + weight * math.exp(log_p.detach()), sums[1] + weight]
        terms.append(term)
        sure.append(sums[0] / sums[1])
        for kind, each in prototypes.items():  # which have moved since
            rows = [
                given[name][row].detach() for row in range(now.size) if present[row, place] and now.targets[row] == kind
            ]
            moved = 0.8 * each + 0.2 * torch.stack(rows).mean(0) if rows else each
            torch.testing.assert_close(getattr(one.model.balance, f"prototypes_{place}")[kind], moved)
    loss = torch.zeros((), dtype=torch.float64)
    for place in range(3):
        ratio = sure[place] / ((sum(sure) - sure[place]) / 2)
        if ratio < 1:
            loss = loss + 0.6 * min(1 / ratio - 1, 1) * terms[place]
    named = dict(plain.model.named_parameters())
    assert loss > 0
    pulls = torch.autograd.grad(loss, [dict(one.model.named_parameters())[key] for key in named], allow_unused=True)
    same(found, {key: joint[key] + (0 if pull is None else pull) for key, pull in zip(named, pulls, strict=True)})


def test_a_class_that_no_row_had_counts_for_nothing() -> None:
    one = trainer("pmr")
    targets = batches(one, ROWS)[0].to(torch.device("cpu")).targets
    rows = [row for row, kind in zip(ROWS, targets.tolist(), strict=True) if kind == targets[0]]
    gradients(one, batches(one, rows))
    found = gradients(one, batches(one, ROWS))
    assert all(each.isfinite().all() for each in found.values())
    assert functional.one_hot(targets[:1], 3).bool().tolist() != one.model.balance.known.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("task", ["multilabel", "regression"])
@pytest.mark.parametrize("name", ["own_losses", "ogm_ge", "agm", "mmpareto", "opm"])
def test_other_tasks_are_balanced_as_well(task: str, name: str) -> None:
    one = trainer(name, task=task, absent=SOME_ABSENT)
    for rows in (ROWS, (8, 9, 10), (11,)):
        found = gradients(one, batches(one, rows))
        assert all(each.isfinite().all() for each in found.values())
    assert any(each.any() for key, each in found.items() if key.startswith("encoders."))
