"""Environments of real wheels, each built and installed once a test run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from faulty_plugins import (
    broken_distributions,
    costly_distributions,
    one_encoder,
    working_distributions,
    wrong_hook_distributions,
)
from wheels import Distribution, build_wheel, install, mmreg

GARBAGE = bytes(range(128, 256)) * 20


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
def costly(installed: Callable[..., Path]) -> Path:
    """Plugins that load at a cost."""
    return installed(*costly_distributions())


@pytest.fixture(scope="session")
def damaged_site(installed: Callable[..., Path]) -> Path:
    """Wheels whose metadata were damaged after they were installed."""
    names = ("no-version", "no-metadata", "garbage", "no-name", "bad-name", "left")
    folder = installed(*(one_encoder(f"mmreg-{name}") for name in names))

    def info(name: str) -> Path:
        return folder / f"mmreg_{name.replace('-', '_')}-1.0.dist-info"

    (info("no-version") / "METADATA").write_text("Metadata-Version: 2.1\nName: mmreg-no-version\n\nVersion: 9\n")
    shutil.move(info("no-version"), folder / "mmreg_no_version.dist-info")
    (info("no-metadata") / "METADATA").unlink()
    (info("garbage") / "METADATA").write_bytes(GARBAGE)
    (info("no-name") / "METADATA").write_text("Version: 3.0\r\n\r\n")
    (info("bad-name") / "METADATA").write_text("Name: ../mmreg:bad\nVersion: \x1b[31m1\x00\n")
    shutil.copytree(info("left"), folder / "~mreg_left-0.9.dist-info")
    (folder / "mmreg_empty-1.0.dist-info").mkdir()
    (folder / "mmreg_file-1.0.egg-info").write_bytes(GARBAGE)
    return folder


@pytest.fixture(scope="session")
def unreadable_site(installed: Callable[..., Path]) -> Path:
    """Wheels whose entry points cannot be read; beside them torch and pydantic cannot be imported either."""
    folder = installed(one_encoder("mmreg-garbled-entries"), one_encoder("mmreg-odd-entries"))
    (folder / "mmreg_garbled_entries-1.0.dist-info/entry_points.txt").write_bytes(b"[mmreg]\n" + GARBAGE)
    (folder / "mmreg_odd_entries-1.0.dist-info/entry_points.txt").write_text("[mmreg]\nthis is no entry point\n")
    return folder


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
