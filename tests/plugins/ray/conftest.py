"""A cluster of two nodes, and a run that its workers can load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engines
import pytest
from clusters import STORE
from small import make_folder

import mmreg


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, to which this process is connected."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE},
    )
    try:
        ray.cloudpickle.register_pickle_by_value(engines)  # which workers cannot import
        made.add_node(num_cpus=1, object_store_memory=STORE)
        ray.init(made.address, log_to_driver=False)
        yield made
    finally:
        ray.cloudpickle.unregister_pickle_by_value(engines)
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, its recipe and the folder `run`, trained with it."""
    folder = make_folder(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMREG_CACHE_DIR", str(folder / "cache"))
        mmreg.train(folder / "recipe.yaml", folder / "run", device="cpu")
    return folder
