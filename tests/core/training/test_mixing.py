"""Mixup and CutMix: against torchvision's, with absent modalities and sounds of several lengths, through a training."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small import make_folder
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

import mmreg
from mmreg import Signal, Spec, runs
from mmreg.data.batches import Batch
from mmreg.errors import RecipeError
from mmreg.model.model import Output
from mmreg.model.nodes import Supervised
from mmreg.model.seeding import Draws, generator
from mmreg.recipe.training_form import Training
from mmreg.training import mixing
from mmreg.training.mixing import Mixed, Mixing, partners_of

MODALITIES: Any = {
    "image": SimpleNamespace(spec=Spec("CHW", (3, 9, 13)), mixes={"mixup", "cutmix"}),
    "sound": SimpleNamespace(spec=Spec("CHW", (1, 4, None)), mixes={"mixup"}),
}


def batch(present: Tensor, seed: int = 0) -> Batch:
    """Rows with pictures and with sounds of several lengths, in whose padding there is something."""
    draws = torch.Generator().manual_seed(seed)
    signals, rows = {}, {}
    for column, name in enumerate(MODALITIES):
        having = present[:, column].nonzero()[:, 0]
        rows[name] = None if len(having) == len(present) else having
        if name == "image":
            signals[name] = Signal(torch.randn(len(having), 3, 9, 13, generator=draws))
        elif len(having):
            lengths = torch.randperm(len(having), generator=draws) + 1
            values = torch.randn(len(having), 1, 4, int(lengths.max()), generator=draws)
            signals[name] = Signal(values, lengths, lengths.clone())
    size = len(present)
    return Batch(
        signals=signals,
        rows=rows,
        present=present,
        targets=torch.randint(0, 4, (size,), generator=draws),
        weights=torch.rand(size, generator=draws),
        index=np.arange(size),
    )


def mix(given: Batch, seed: int = 5, **options: float) -> Mixed:
    return Mixing(Training(**options), MODALITIES)(given, given.present, Draws(seed))


class CrossEntropy:
    """As much of a task as a loss needs."""

    def loss_among(self, scores: Tensor, targets: Tensor, present: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(scores, targets, reduction="none")


def loss(mixed: Mixed, logits: Tensor, total: float = 1.0, **extra: Any) -> Any:
    present = torch.ones(len(logits), dtype=torch.bool)
    output = Output(logits, present, [Supervised("", logits, present, 1.0)], **extra)
    task: Any = CrossEntropy()
    return mixed.loss(output, task, total, 1.0, 0.0)


def images_alone(size: int = 6) -> Batch:
    return batch(torch.tensor([[True, False]]).expand(size, 2).contiguous())


def test_mixup_is_torchvisions() -> None:
    given = images_alone()
    mixed = mix(given, mixup=0.4)
    theirs = v2.MixUp(num_classes=4)
    lam = {"lam": float(mixed.share)}
    images, labels = given.signals["image"].values, given.targets
    expected = theirs.transform(images, {"labels": labels, "batch_size": 6, **lam})
    torch.testing.assert_close(mixed.batch.signals["image"].values, expected)
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    soft = theirs.transform(labels, {"labels": labels, "batch_size": 6, **lam})
    mixed.batch.weights[:] = 1.0
    reference = torch.nn.functional.cross_entropy(logits, soft)
    torch.testing.assert_close(loss(mixed, logits, 6.0)[0], reference)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("seed", range(6))
def test_cutmix_is_torchvisions(monkeypatch: pytest.MonkeyPatch, share: float, seed: int) -> None:
    monkeypatch.setattr(mixing, "_beta", lambda alpha, draws: torch.tensor(share))
    given = images_alone()
    mixed = mix(given, seed, cutmix=1.0)
    theirs = v2.CutMix(num_classes=4)
    theirs._dist = SimpleNamespace(sample=lambda _: share)
    y, x, _ = torch.rand(3, generator=generator("cpu", seed, "mix")).tolist()
    corners = iter([torch.tensor([int(x * 13)]), torch.tensor([int(y * 9)])])
    monkeypatch.setattr(torch, "randint", lambda *_, **__: next(corners))
    images, labels = given.signals["image"].values, given.targets
    parameters = theirs.make_params([images])
    expected = theirs.transform(images, {"labels": labels, "batch_size": 6, **parameters})
    assert torch.equal(mixed.batch.signals["image"].values, expected)
    assert float(mixed.share) == pytest.approx(parameters["lam_adjusted"], abs=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    draws = torch.Generator().manual_seed(0)
    shares = torch.stack([mixing._beta(alpha, draws) for _ in range(20_000)]).double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert float(shares.mean()) == pytest.approx(0.5, abs=5 * math.sqrt(variance / 20_000))
    assert float(shares.var()) == pytest.approx(variance, rel=0.03)
    uniform = np.random.default_rng(0).beta(alpha, alpha, 20_000)
    levels = np.linspace(0.05, 0.95, 19)
    assert np.quantile(shares.numpy(), levels) == pytest.approx(np.quantile(uniform, levels), abs=0.02)


def test_partners_have_the_same_modalities_and_each_is_one_once() -> None:
    present = torch.rand(40, 3, generator=torch.Generator().manual_seed(3)) < 0.6
    partners = partners_of(present)
    assert sorted(partners.tolist()) == list(range(40))
    assert torch.equal(present[partners], present)
    sizes = {tuple(row): sum(other == row for other in present.tolist()) for row in present.tolist()}
    alone = [sizes[tuple(row)] == 1 for row in present.tolist()]
    assert (partners == torch.arange(40)).tolist() == alone
    assert partners_of(torch.ones(5, 2, dtype=torch.bool)).tolist() == [4, 0, 1, 2, 3]


@pytest.mark.parametrize("options", [{"mixup": 0.5}, {"cutmix": 1.0}])
def test_rows_that_lack_modalities_are_mixed_with_their_like(options: dict[str, float]) -> None:
    present = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [0, 0], [0, 1], [1, 1], [1, 0]]).bool()
    given = batch(present)
    mixed = mix(given, **options)
    share = float(mixed.share)
    assert mixed.partners.tolist() == [7, 8, 6, 0, 1, 5, 2, 3, 4]
    for column, name in enumerate(MODALITIES):
        where = present[:, column].nonzero()[:, 0].tolist()
        before, after = given.signals[name], mixed.batch.signals[name]
        for place, row in enumerate(where):
            partner = where.index(int(mixed.partners[row]))
            own, other = before.values[place], before.values[partner]
            if name == "image" and "cutmix" in options:
                pasted = (after.values[place] == other).all(0) & (own != other).any(0)
                assert float(1 - pasted.float().mean()) == pytest.approx(share, abs=1e-6)
                assert torch.equal(after.values[place][:, ~pasted], own[:, ~pasted])
                continue
            expected = torch.zeros_like(own)
            if before.lengths is None:
                expected = share * own + (1 - share) * other
            else:
                ends = [int(before.lengths[each]) for each in (place, partner)]
                expected[..., : ends[0]] += share * own[..., : ends[0]]
                expected[..., : ends[1]] += (1 - share) * other[..., : ends[1]]
                assert after.lengths is not None
                assert after.host_lengths is not None
                assert int(after.lengths[place]) == max(ends) == int(after.host_lengths[place])
            torch.testing.assert_close(after.values[place], expected)


def test_the_loss_is_that_of_both_targets_with_their_own_weights() -> None:
    given = images_alone(7)
    mixed = mix(given, mixup=1.0)
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(2))
    share, log_p = float(mixed.share), logits.double().log_softmax(1)
    assert given.targets is not None
    assert given.weights is not None
    expected = 0.0
    for row in range(7):
        for part, other in ((share, row), (1 - share, int(mixed.partners[row]))):
            expected -= part * float(given.weights[other]) * float(log_p[row, int(given.targets[other])])
    total = float(given.weights.sum())
    found, terms = loss(mixed, logits, total, losses={("concat", "penalty"): torch.tensor(0.25)})
    assert float(found) == pytest.approx(expected / total + 0.25, rel=1e-5)  # an extra term counts once
    assert float(terms["concat", "penalty"]) == 0.25


def test_with_both_a_coin_decides() -> None:
    given = images_alone()
    own, other = (given.signals["image"].values[rows] for rows in (torch.arange(6), partners_of(given.present)))
    cut = 0
    for seed in range(200):
        values = mix(given, seed, mixup=1.0, cutmix=1.0).batch.signals["image"].values
        cut += bool(((values == own) | (values == other)).all())
    assert cut == pytest.approx(100, abs=25)


def test_nothing_waits_for_a_device() -> None:
    class Counting(TorchDispatchMode):
        calls: list[str] = []  # noqa: RUF012

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls.append(str(func))
            return func(*args, **(kwargs or {}))

    given = batch(torch.ones(8, 2, dtype=torch.bool))
    given.signals.pop("sound")
    with Counting() as counting:
        mix(given, mixup=0.3, cutmix=1.0)
    waits = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal.default")
    assert not [call for call in counting.calls if any(wait in call for wait in waits)]


RECIPE = """\
table: table.csv
split: split
target: {column: label}
modalities:
  image: {column: image, size: 16, encoder: {name: image_cnn, channels: [8], features: 8}}
  audio: {column: audio, sample_rate: 8000, encoder: {name: audio_cnn, channels: [8], features: 8}}
fusion: product
training: {epochs: 3, batch_size: 16, mixup: 0.4, cutmix: 1.0, modality_dropout: 0.2, deterministic: true}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("mixing"))
    (folder / "mixed.yaml").write_text(RECIPE)
    return folder


def test_pictures_and_sounds_are_mixed_to_the_same_bits_again_and_when_resumed(folder: Path) -> None:
    class Stopping(mmreg.Callback):
        def on_step(self, step: Any) -> None:
            if step.step == 5:
                raise KeyboardInterrupt

    for name in ("one", "two"):
        mmreg.train(folder / "mixed.yaml", folder / name, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        mmreg.train(folder / "mixed.yaml", folder / "stopped", device="cpu", callback=Stopping())
    mmreg.train(folder / "mixed.yaml", folder / "stopped", device="cpu", resume=True)
    mmreg.train(
        folder / "mixed.yaml",
        folder / "plain",
        device="cpu",
        overrides=["training.mixup=null", "training.cutmix=null"],
    )
    weights = {name: (folder / name / runs.WEIGHTS).read_bytes() for name in ("one", "two", "stopped", "plain")}
    assert weights["one"] == weights["two"] == weights["stopped"] != weights["plain"]


@pytest.mark.parametrize(
    ("key", "modalities", "said"),
    [
        ("mixup", "image,title", r"training\.mixup: title cannot be blended, and rows are mixed as a whole"),
        ("cutmix", "image,title", r"training\.cutmix: title cannot be mixed, and rows are mixed as a whole"),
        ("cutmix", "audio", r"training\.cutmix: there are no pictures; leave cutmix out"),
    ],
)
def test_what_cannot_be_mixed_is_refused(folder: Path, key: str, modalities: str, said: str) -> None:
    inputs = {"image": {"size": 16}, "title": {"type": "text"}, "audio": {"sample_rate": 8000}}
    recipe = {
        "table": str(folder / "table.csv"),
        "split": "split",
        "target": {"column": "label"},
        "modalities": {name: inputs[name] for name in modalities.split(",")},
        "training": {key: 0.5},
    }
    with pytest.raises(RecipeError, match=said):
        mmreg.train(recipe, folder / "refused")
