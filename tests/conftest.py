"""What all tests share: one thread a process, a cache and an environment of their own, and who needs a GPU."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported: tests run in parallel processes, whose threads wait as those of the command line do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import pytest
from _pytest.logging import catching_logs

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def pytest_configure() -> None:
    catching_logs.__enter__ = _catch_logs_at_the_root  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What collecting leaves stays until the end, so that nothing looks through it for what could be freed."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def _catch_logs_at_the_root(self: Any) -> Any:
    """What pytest does in every phase of every test, without a look at each of a thousand loggers: a quarter of a test.

    It hangs its handler on the root and on every logger that hands nothing up; no test asks for what those say.
    """
    if self.level is not None:
        self.handler.setLevel(self.level)
        self.orig_level = logging.root.level
        logging.root.setLevel(min(self.orig_level, self.level))
    logging.root.addHandler(self.handler)
    self.attached_loggers.append(logging.root)
    return self.handler


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: an eighth of the time, tests wait for processes and clocks."""
    return (os.cpu_count() or 1) + 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MMREG_DEBUG", "MMREG_STRICT", "MMREG_PLUGINS", "MMREG_DISABLE_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("MMREG_CACHE_DIR", str(base / "mmreg-cache"))
    # Else MLflow begins a database and a folder wherever tests are started.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{base}/mlflow.db")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(base / "mlruns"))


@pytest.fixture(autouse=True, scope="session")
def _quick_seeds() -> Iterator[None]:
    """`torch.manual_seed` formats a stack trace for every kind of device that torch knows and this machine lacks."""
    torch: Any = sys.modules.get("torch")
    with pytest.MonkeyPatch.context() as patch:
        if torch and not torch.accelerator.is_available():
            patch.setattr(torch, "manual_seed", torch.default_generator.manual_seed)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_curves_no_page() -> Iterator[Any]:
    """Trainings in this process leave their curves undrawn and their page unwritten.

    Drawing takes longer than to train what tests train; writing, a twentieth of it.
    """
    from mmreg_report import callback

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callback, "draw_curves", lambda *_: None)
        write_page = callback.write_page
        patch.setattr(callback, "write_page", lambda _: None)
        yield write_page


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings draw their curves, as they do for everybody."""
    from mmreg_report import callback
    from mmreg_report.curves import draw_curves

    monkeypatch.setattr(callback, "draw_curves", draw_curves)


@pytest.fixture
def report_page(monkeypatch: pytest.MonkeyPatch, _no_curves_no_page: Any) -> None:
    """Trainings write their page, as they do for everybody."""
    monkeypatch.setattr("mmreg_report.callback.write_page", _no_curves_no_page)


def _restored_registrations() -> Iterator[None]:
    from mmreg.registry import lookup

    before = dict(lookup._local)
    yield
    lookup._local.clear()
    lookup._local.update(before)


# Once a module as well, since fixtures of a module register before those of a test are set up.
_module_registrations = pytest.fixture(autouse=True, scope="module")(_restored_registrations)
_own_registrations = pytest.fixture(autouse=True)(_restored_registrations)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data; the test is skipped where it is not there."""
    if not DATA.is_dir():
        pytest.skip(f"no real data in {DATA}")
    return DATA


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()
