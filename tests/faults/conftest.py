"""Environments of real wheels, each built and installed once a test run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from faulty_plugins import broken_distributions, working_distributions, wrong_hook_distributions
from wheels import Distribution, build_wheel, install, mmreg


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds distributions and installs them into a folder of their own."""

    def build_and_install(*distributions: Distribution) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        wheels = [build_wheel(distribution, folder) for distribution in distributions]
        return install(wheels, folder / "site")

    return build_and_install


@pytest.fixture(scope="session")
def everything(installed: Callable[..., Path]) -> Path:
    """All broken plugins, and those that work although something about them is wrong."""
    return installed(*broken_distributions(), *working_distributions(), *wrong_hook_distributions())


@pytest.fixture(scope="session")
def listing(everything: Path) -> CompletedProcess[str]:
    """What `mmreg plugins --format json` prints there."""
    return mmreg("plugins", "--format", "json", path=everything)


@pytest.fixture(scope="session")
def help_page(everything: Path) -> CompletedProcess[str]:
    """What `mmreg --help` prints there."""
    return mmreg("--help", path=everything)


@pytest.fixture(scope="session")
def plugins(listing: CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Its rows by distribution; those of mmreg itself are left out."""
    return {row["distribution"]: row for row in json.loads(listing.stdout) if row["distribution"] != "mmreg"}
