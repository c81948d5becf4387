"""Training by several processes: which rows each takes, and that it comes to what one process comes to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trained_together
from safetensors.torch import load_file
from trained_together import (
    CASES,
    QUICK,
    QUICK_SHARDED,
    SHARDED,
    STOPPED_AT,
    figures,
    layers,
    recipe,
    start,
    stopped_recipe,
    train_all,
    write_table,
)

import mmreg
from mmreg import runs
from mmreg.errors import OptionError
from mmreg.layers import MaskedBatchNorm, masked_batch_norm
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.training.checkpoint import load_checkpoint
from mmreg.training.peers import Part, Peers, check_plan, part_of
from mmreg.training.together import slow_process

SCRIPT = str(Path(trained_together.__file__))
TOLERANCE = 2e-5
"""Of losses and weights: sums in another order, over some ten steps."""


def parts_of(batch: list[int], present: Any, size: int, weights: Any = None) -> list[Part]:
    there = np.asarray(present, bool)
    weighs = np.ones(len(there)) if weights is None else np.asarray(weights)
    return [part_of(np.array(batch), there, weighs, rank, size) for rank in range(size)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_every_row_is_taken_once(size: int, rows: int) -> None:
    batch = np.random.default_rng(rows).permutation(20)[:rows].tolist()
    parts = parts_of(batch, np.ones((20, 2)), size)
    own = [place for part in parts for place in part.places[: part.own].tolist()]
    assert sorted(own) == sorted(batch)
    assert [part.rows for part in parts] == [rows] * size
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert max(part.own for part in parts) - min(part.own for part in parts) <= 1


def test_a_process_without_a_row_borrows_one_that_has_no_loss() -> None:
    first, second = parts_of([3], np.ones((5, 2)), 2)
    assert (first.own, second.own) == (1, 0)
    assert second.places.tolist() == [3]


def test_each_process_has_a_row_of_each_modality_of_the_batch() -> None:
    present = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]]
    for part in parts_of([0, 1, 2, 3], present, 2):
        there = np.asarray(present, bool)[part.places]
        assert there.any(0).tolist() == [True, True, False]
    assert [part.places.tolist() for part in parts_of([0, 1, 2, 3], present, 2)] == [[0, 2], [1, 3, 2]]


def test_the_weight_is_that_of_all_rows() -> None:
    parts = parts_of([0, 2, 3], np.ones((4, 1)), 2, [0.5, 9.0, 1.5, 1.0])
    assert [part.weight for part in parts] == [3.0, 3.0]


@pytest.mark.parametrize(
    ("seconds", "named"),
    [
        ([0.1, 0.1], None),
        ([0.1, 0.12, 0.11, 0.1], None),
        ([0.1, 0.5], 1),
        ([0.007, 0.019], None),  # a short step is easily disturbed
        ([0.4, 0.1, 0.1, 0.2], 0),
        ([0.1, 0.0], None),  # not known of all of them
        ([0.3], None),
    ],
)
def test_a_process_that_the_others_wait_for_is_named(seconds: list[float], named: int | None) -> None:
    rank, told = slow_process(seconds)
    assert rank == named
    assert (told == "") == (named is None)
    if named is not None:
        assert told.startswith(f"process {named} takes {max(seconds) / 0.1:.1f} times as long")


def test_the_sums_of_a_norm_give_what_torch_gives() -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 3, 5, requires_grad=True)
    ours, theirs = MaskedBatchNorm(3), torch.nn.BatchNorm1d(3)
    for step in range(3):
        found, expected = masked_batch_norm(ours, values * (step + 1), None), theirs(values * (step + 1))
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad((each**3).sum(), values)[0] for each in (found, expected)]
        torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


def slow_but(names: Sequence[str], quick: Sequence[str]) -> list[Any]:
    """Cases as parameters, of which only these are quick."""
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in names]


def asked(request: pytest.FixtureRequest, test: str) -> list[str]:
    """The cases that a test is going to be run with; the first one is always there."""
    items = [each for each in request.session.items if isinstance(each, pytest.Function)]
    own = [each for each in items if each.module is request.module and each.originalname == test]
    return list(dict.fromkeys([next(iter(CASES)), *(each.callspec.params["name"] for each in own)]))


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By the number of processes, where each case was trained."""
    folder = tmp_path_factory.mktemp("together")
    sharded = asked(request, "test_so_do_two_that_share_out_the_weights")
    cases = list(dict.fromkeys([*asked(request, "test_two_processes_come_to_what_one_comes_to"), *sharded]))
    write_table(folder)
    environment = {"MMREG_CACHE_DIR": str(folder / "cache"), "MMREG_DISABLE_PLUGINS": "report"}  # drawing takes longer
    names = json.dumps({"cases": cases, "sharded": sharded})
    processes = start(2, [SCRIPT, str(folder), str(folder / "2"), names], environment)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("MMREG_CACHE_DIR", str(folder / "own cache"))
            train_all(folder, folder / "1", cases)
    except BaseException:
        for process in processes:
            process.kill()
            process.communicate()
        raise
    said = [process.communicate(timeout=300)[0] for process in processes]
    for rank, process in enumerate(processes):
        assert process.returncode == 0, f"process {rank}: {said[rank]}"
    return {1: folder / "1", 2: folder / "2"}


@pytest.mark.parametrize("name", slow_but(list(CASES), QUICK))
def test_two_processes_come_to_what_one_comes_to(name: str, trained: dict[int, Path]) -> None:
    number = str(list(CASES).index(name))
    expect_same(trained[1] / number, trained[2] / number)


@pytest.mark.parametrize("name", slow_but(SHARDED, QUICK_SHARDED))
def test_so_do_two_that_share_out_the_weights(name: str, trained: dict[int, Path]) -> None:
    number = str(list(CASES).index(name))
    expect_same(trained[1] / number, trained[2] / "sharded" / number)


def test_each_process_has_half_of_weights_and_optimizer_state(trained: dict[int, Path]) -> None:
    told = told_by_processes(trained[2])
    for name in ("weights", "moments"):
        own = [each["stopped"][name][0] for each in told]
        (whole,) = {each["stopped"][name][1] for each in told}
        assert sum(own) == whole
        assert max(own) < 0.55 * whole  # of three rows of a weight one process has two
    frozen = runs.read_weights(trained[2] / "sharded" / "stopped" / runs.FROZEN)
    learned = told[0]["stopped"]["weights"][1] - sum(weight.numel() for weight in frozen.values())
    assert told[0]["stopped"]["moments"][1] == 2 * (learned - 1)  # a temperature's are not counted


def test_large_layers_of_an_encoder_are_gathered_one_by_one(trained: dict[int, Path], tmp_path: Path) -> None:
    for told in told_by_processes(trained[2]):
        parts = [name for name in told["layers"]["parts"] if name.startswith("encoders.text.")]
        assert sum(".layers." in name for name in parts) == 3
    run = mmreg.train(layers(trained[2].parent), tmp_path / "run", device="cpu")
    expect_same(run.folder, trained[2] / "sharded" / "layers")


@pytest.mark.parametrize("then", ["sharded", "not sharded", "alone"])
def test_a_training_that_shares_out_weights_is_gone_on_with_by_any(
    then: str, trained: dict[int, Path], tmp_path: Path
) -> None:
    folder = trained[2].parent
    whole = mmreg.train(stopped_recipe(folder), tmp_path / "whole", device="cpu")
    resumed = trained[2] / "sharded" / f"stopped, {then}"
    if then == "alone":
        shutil.copytree(trained[2] / "sharded" / "stopped", resumed)
        assert load_checkpoint(resumed)[0]["progress"]["step"] == STOPPED_AT
        mmreg.train(stopped_recipe(folder), resumed, device="cpu", resume=True)
    expect_same(whole.folder, resumed)


def test_where_a_loss_is_not_finite_is_found_of_shared_out_weights(trained: dict[int, Path]) -> None:
    first, second = (each["fails"] for each in told_by_processes(trained[2]))
    assert "the loss is not a finite number at step 2" in first
    assert "lower the learning rate" in first
    assert second


def told_by_processes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / "sharded" / f"told-{rank}.json").read_text()) for rank in range(2)]


def expect_same(alone: Path, together: Path) -> None:
    for one, two in zip(figures(alone), figures(together), strict=True):
        for key, value in one.items():
            assert two[key] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE, nan_ok=True), key
    one, two = (load_file(folder / "model.safetensors") for folder in (alone, together))
    assert list(one) == list(two)
    for key, value in one.items():
        torch.testing.assert_close(
            two[key], value, atol=10 * TOLERANCE, rtol=10 * TOLERANCE, msg=lambda text, key=key: key + text
        )
    reports = [json.loads((folder / "report.json").read_text()) for folder in (alone, together)]
    assert [report["test"]["rows"] for report in reports] == [5, 5]


def test_a_run_of_several_processes_is_an_ordinary_one(trained: dict[int, Path]) -> None:
    run = mmreg.load(trained[2] / "0")
    assert len(run.predict(str(trained[2].parent / "table.csv"))) == 60


@pytest.mark.parametrize(
    ("training", "what"),
    [
        ({"balance": "agm"}, "agm changes the gradients of whole encoders"),
        ({"batch_size": "auto"}, "auto tries steps with the whole model on one device"),
        ({"optimizer": "Adafactor"}, "Adafactor keeps rows and columns of whole weights"),
    ],
)
def test_what_needs_whole_weights_is_refused_where_they_are_shared_out(
    training: dict[str, Any], what: str, tmp_path: Path
) -> None:
    class TwoWithShares(Peers):
        size = 2
        shards = True

    write_table(tmp_path)
    data = recipe(tmp_path, "three modalities, some absent")
    data["training"] |= training
    with pytest.raises(OptionError, match=what):
        check_plan(TwoWithShares(), resolve(read_recipe(data)))


def test_one_process_has_nobody_to_share_weights_with(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="this is one by itself"):
        mmreg.train({}, tmp_path / "run", device="cpu", shard=True)


def test_a_balance_that_goes_by_one_process_is_refused(tmp_path: Path) -> None:
    class Two(Peers):
        size = 2

    write_table(tmp_path)
    data = recipe(tmp_path, "three modalities, some absent")
    data["training"]["balance"] = "mla"
    with pytest.raises(OptionError, match="mla goes by the rows of one process"):
        check_plan(Two(), resolve(read_recipe(data)))
    check_plan(Peers(), resolve(read_recipe(data)))
