"""`--on ray`: on this machine, and on a cluster of two nodes of which a worker is killed on the way."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'mmreg[ray]'")
pytest.importorskip("ray.data", reason="needs Ray Data: pip install 'mmreg[ray]'")

import engines
from clusters import STORE

import mmreg
from mmreg.data.cache import entries
from mmreg.errors import EngineError
from mmreg.experiment import open_experiment, prepare_all
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.runs.elsewhere import predict_elsewhere
from mmreg_ray import engine as ray_engine
from mmreg_ray.engine import RayEngine
from mmreg_ray.plugin import mmreg_engines

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's and its libraries' own


def test_the_plugin_brings_the_engine() -> None:
    assert [spec.name for spec in mmreg_engines()] == ["ray"]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:1", "ray://[::1]:1", "127.0.0.1:99999"])
def test_an_address_where_nothing_answers_is_told_soon(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(EngineError, match=rf"no Ray cluster answers at {re.escape(repr(address))}.*no address"):
        list(RayEngine(address).map(str, [1], 1))
    assert time.monotonic() - started < ray_engine.SECONDS + 20


class KillingEngine(RayEngine):
    """One of whose workers is killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__("")
        self.folder = folder

    def map(
        self, function: Callable[[Any], Any], shards: Iterable[Any], total: int, *, accelerator: bool = False
    ) -> Iterator[Any]:
        return super().map(engines.KillsOnce(function, self.folder), shards, total, accelerator=accelerator)


@pytest.mark.slow  # Ray takes its time to start
def test_shards_come_back_in_order_from_this_machine() -> None:
    try:
        ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=STORE, log_to_driver=False)
        assert list(RayEngine().map(lambda shard: shard * 2, range(5), 5)) == [0, 2, 4, 6, 8]
        with pytest.raises(EngineError, match="cannot be sent to Ray's workers"):
            list(RayEngine().map((value for value in ()).send, [1], 1))
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [2000, 3], ids=["shard a task", "several shards a task"])
def test_predictions_are_those_made_here_although_a_worker_is_killed(
    cluster: Any, trained: Path, tmp_path: Path, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmreg.runs.elsewhere.SHARD_ROWS", 1)
    monkeypatch.setattr(ray_engine, "BLOCKS", blocks)
    run = mmreg.load(trained / "run", "cpu")
    monkeypatch.chdir(trained.parent)  # the table's folder is relative to it
    table = f"{trained.name}/table.csv"
    wanted = run.predict_columns(table, batch_size=4)
    found = predict_elsewhere(KillingEngine(tmp_path), run, table, batch_size=4, device="cpu")
    assert (tmp_path / "killed").is_file()
    assert len(list(tmp_path.glob("node-*"))) == 2
    assert found.keys() == wanted.keys()
    assert found["id"] == [f"r{number}" for number in range(60)]
    for name, values in wanted.items():
        if name.startswith("probability"):
            np.testing.assert_allclose(found[name], values, atol=1e-6)
        else:
            assert found[name] == values


@pytest.mark.slow
def test_values_are_those_loaded_here_although_a_worker_is_killed(
    cluster: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = open_experiment(resolve(read_recipe(trained / "recipe.yaml")))
    given = experiment.plan, experiment.table, experiment.modalities
    prepare_all(*given, tmp_path / "here")
    prepare_all(*given, tmp_path / "there", engine=KillingEngine(tmp_path))
    assert (tmp_path / "killed").is_file()
    files = [
        {f"{entry.name}/{path.name}": path.read_bytes() for entry in entries(cache) for path in entry.glob("*.bin")}
        for cache in (tmp_path / "here", tmp_path / "there")
    ]
    assert len(files[0]) == 8
    assert files[0] == files[1]


@pytest.mark.slow
def test_an_error_of_a_worker_ends_the_work_with_its_message(cluster: Any, trained: Path, tmp_path: Path) -> None:
    run = mmreg.load(trained / "run", "cpu")
    rows = [{"title": "red", "image": str(tmp_path / "gone.png"), "audio": None}]
    with pytest.raises(mmreg.errors.DataError, match=r"there is no file .*gone.png"):
        predict_elsewhere(RayEngine(), run, rows, device="cpu")
