"""Shards computed by an engine: order, errors and warnings, and values that are prepared by its workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import HereEngine
from small import make_folder

from mmreg import Engine, errors
from mmreg.data.cache import entries, under_way
from mmreg.errors import DataError, EngineError
from mmreg.experiment import Experiment, open_experiment, prepare_all
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.registry import elsewhere
from mmreg.registry.elsewhere import compute_elsewhere


def double(shard: int) -> int:
    return 2 * shard


def test_results_come_in_order_and_once() -> None:
    assert list(compute_elsewhere(HereEngine(), double, range(5), 5)) == [0, 2, 4, 6, 8]


class Changed(Engine):
    """An engine that gives other results than it should."""

    def __init__(self, change: Callable[[list[Any]], list[Any]]) -> None:
        self.change = change

    def map(
        self, function: Callable[[Any], Any], shards: Iterable[Any], total: int, *, accelerator: bool = False
    ) -> Iterator[Any]:
        yield from self.change([function(shard) for shard in shards])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda results: results[::-1], "gave shard 2 in the place of shard 0"),
        (lambda results: results[:1] + results, "gave shard 0 in the place of shard 1"),
        (lambda results: results[:2], "gave 2 of 3 shards"),
    ],
    ids=["order", "twice", "lost"],
)
def test_an_engine_that_breaks_its_promise_is_an_error(change: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        list(compute_elsewhere(Changed(change), double, range(3), 3))


class BothError(errors.MmregError):
    """An error that cannot be made of one text."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize(
    ("raised", "kind", "text", "code"),
    [
        (DataError("2 cells cannot be loaded"), DataError, "2 cells cannot be loaded", 2),
        (errors.CacheError("no room"), errors.CacheError, "no room", 1),
        (BothError("a", "b"), EngineError, "a and b", 1),
        (ZeroDivisionError("by zero"), EngineError, "an error in a worker: ZeroDivisionError: by zero", 1),
    ],
    ids=["data", "cache", "plugin", "other"],
)
def test_a_workers_error_is_raised_here_with_its_exit_code(raised: Any, kind: Any, text: str, code: int) -> None:
    def fail(shard: int) -> int:
        raise raised

    with pytest.raises(kind) as caught:
        list(compute_elsewhere(Changed(list), fail, range(3), 3))
    assert (str(caught.value), caught.value.exit_code, type(caught.value)) == (text, code, kind)


def test_what_workers_warn_of_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def warn(shard: int) -> int:
        logging.getLogger("mmreg").warning("note: shard %d", shard // 2)
        return shard

    assert list(compute_elsewhere(HereEngineWithoutCopies(), warn, range(4), 4)) == [0, 1, 2, 3]
    assert caplog.messages == ["note: shard 0", "note: shard 1"]


class HereEngineWithoutCopies(Changed):
    """It computes what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__(list)


def test_a_worker_with_another_release_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter(["2.0", "1.0", "1.0"])
    monkeypatch.setattr(elsewhere, "version", lambda name: next(versions))
    with pytest.raises(EngineError, match=r"a worker has mmreg 1\.0, and this is mmreg 2\.0; install the same"):
        list(compute_elsewhere(HereEngine(), double, range(1), 1))


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A table whose cells are relative to a relative folder, of which one names no file."""
    make_folder(tmp_path)
    (tmp_path / "images/3.png").unlink()
    monkeypatch.chdir(tmp_path.parent)
    recipe = read_recipe(Path(tmp_path.name) / "recipe.yaml", ["modalities.image.on_bad=absent"])
    return open_experiment(resolve(recipe))


def files_of(cache: Path) -> dict[str, bytes]:
    """The files of a cache's entries but for what tells of them."""
    return {f"{entry.name}/{path.name}": path.read_bytes() for entry in entries(cache) for path in entry.glob("*.bin")}


def test_values_that_workers_load_are_those_that_are_loaded_here(experiment: Experiment, tmp_path: Path) -> None:
    engine = HereEngine()
    here = prepare_all(experiment.plan, experiment.table, experiment.modalities, tmp_path / "here")
    there = prepare_all(experiment.plan, experiment.table, experiment.modalities, tmp_path / "there", engine=engine)
    assert engine.computed == 9  # 60 values in shards of 256 where all are of one size, as pictures, else of 16
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert len(files_of(tmp_path / "here")) == 8
    for name, values in here.items():
        assert there[name].contents == values.contents
        assert [cell.row for cell in there[name].bad] == [cell.row for cell in values.bad]
    assert [cell.row for cell in here["image"].bad] == [3]

    computed = engine.computed
    prepare_all(experiment.plan, experiment.table, experiment.modalities, tmp_path / "there", engine=engine)
    assert engine.computed == computed


def test_values_are_loaded_by_workers_into_memory(experiment: Experiment) -> None:
    there = prepare_all(experiment.plan, experiment.table, experiment.modalities, None, engine=HereEngine())
    here = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    for name, values in here.items():
        assert {key: array.tobytes() for key, array in there[name].everything().items()} == {
            key: array.tobytes() for key, array in values.everything().items()
        }


def test_a_preparation_that_was_stopped_goes_on(experiment: Experiment, tmp_path: Path) -> None:
    audio = {"audio": experiment.modalities["audio"]}
    plan = resolve(read_recipe({**experiment.plan.to_data(), "table": str(tmp_path / "table.csv")}))
    plan.inputs.pop("image")
    plan.inputs.pop("title")
    with pytest.raises(KeyboardInterrupt):
        prepare_all(plan, experiment.table, audio, tmp_path / "there", engine=HereEngine(stop_after=2))
    assert len(under_way(tmp_path / "there")) == 1
    engine = HereEngine()
    prepare_all(plan, experiment.table, audio, tmp_path / "there", engine=engine)
    assert engine.computed == 2  # of 4
    prepare_all(plan, experiment.table, audio, tmp_path / "here")
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
