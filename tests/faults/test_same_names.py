"""Entry points and components of the same name from different distributions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from faulty_plugins import ENCODER, component, returning
from wheels import Distribution, install, mmreg


def test_two_distributions_may_use_one_entry_point_name(listing: CompletedProcess[str]) -> None:
    same = [row for row in json.loads(listing.stdout) if row["entry_point"] == "same"]
    assert [(row["distribution"], row["version"], row["status"]) for row in same] == [
        ("mmreg-one", "1.5", "ok"),
        ("mmreg-two", "2.5", "ok"),
    ]


def test_two_components_of_one_name_are_both_listed(everything: Path) -> None:
    found = mmreg("list", "encoder", "--format", "json", path=everything)
    tiny = [row for row in json.loads(found.stdout) if row["name"] == "tiny"]
    assert [(row["distribution"], row["status"]) for row in tiny] == [
        ("mmreg-one", "ambiguous: use mmreg-one:tiny"),
        ("mmreg-two", "ambiguous: use mmreg-two:tiny"),
    ]


def test_the_bare_name_is_an_error_that_names_both(everything: Path) -> None:
    found = mmreg("info", "tiny", path=everything)
    assert found.returncode == 2
    assert "say which one: 'mmreg-one:tiny' or 'mmreg-two:tiny'" in found.stderr


def test_a_wheel_of_a_build_backend_is_found_as_the_hand_made_ones_are(
    installed: Callable[..., Path], tmp_path: Path
) -> None:
    """The other wheels of these tests are written by hand, so one is built as plugin authors build theirs."""
    distribution = Distribution(
        "mmreg-built", returning(f"[{component('built', 'mmreg_built.encoder:Tiny')}]"), more={"encoder": ENCODER}
    )
    for name, text in distribution.files().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
        '[project]\nname = "mmreg-built"\nversion = "1.0"\n\n'
        '[project.entry-points.mmreg]\nbuilt = "mmreg_built.plugin"\n'
    )
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    folder = install(list((tmp_path / "dist").glob("*.whl")), tmp_path / "site")
    by_hand = installed(distribution)
    for path in (folder, by_hand):
        found = mmreg("plugins", "--format", "json", path=path)
        (row,) = [row for row in json.loads(found.stdout) if row["entry_point"] == "built"]
        assert (row["distribution"], row["version"], row["status"]) == ("mmreg-built", "1.0", "ok")
        assert row["components"] == ["encoder/built"]
