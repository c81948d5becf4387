"""What plugins print while they load goes to stderr; what they cost is shown."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from wheels import mmreg, python


def test_json_on_stdout_stays_valid(listing: CompletedProcess[str], plugins: dict[str, dict[str, Any]]) -> None:
    assert json.loads(listing.stdout)
    assert "NOISE" not in listing.stdout
    assert listing.stderr.count("NOISE") == 6
    assert plugins["mmreg-noisy"]["status"] == "ok"


def test_what_was_printed_before_and_after_stays_on_stdout(everything: Path) -> None:
    code = "from mmreg import registry; print('before'); registry.all_plugins(); print('after')"
    assert python("-c", code, path=everything).stdout == "before\nafter\n"


def test_a_process_without_stderr_lists_all_the_same(everything: Path) -> None:
    code = "import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, '-m', 'mmreg', 'list'])"
    found = python("-c", code, path=everything)
    assert (found.returncode, found.stderr) == (0, "")
    assert "image_cnn" in found.stdout
    assert "NOISE" not in found.stdout


def test_a_plugin_that_asks_the_registry_while_it_loads_works(plugins: dict[str, dict[str, Any]]) -> None:
    assert plugins["mmreg-reentrant"]["status"] == "ok"


def test_a_light_module_that_imports_torch_works_and_is_warned_of(costly: Path) -> None:
    found = mmreg("plugins", "--format", "json", path=costly)
    rows = {row["distribution"]: row for row in json.loads(found.stdout)}
    heavy, slow = rows["mmreg-heavy"], rows["mmreg-slow"]
    assert (heavy["status"], heavy["error"]) == ("ok", "")
    assert heavy["warning"].startswith("its light module imports torch: every command waits ")
    assert heavy["seconds"] > slow["seconds"] >= 0.3
    assert slow["warning"] == ""


def test_a_slow_plugin_is_named_in_the_table(costly: Path) -> None:
    code = "import sys, mmreg.registry.plugins; mmreg.registry.plugins.SLOW = 0.25; from mmreg.cli import main; main()"
    found = python("-c", code, "plugins", path=costly, MMREG_DISABLE_PLUGINS="heavy")
    (line,) = [line for line in found.stdout.splitlines() if "mmreg-slow" in line]
    assert line.endswith("it is slow to load: every command waits 0.3 s for it")
