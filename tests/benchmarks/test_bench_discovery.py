"""What discovery costs a plugin, with fifty installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import record

PLUGINS = 50
LIMIT = 1.0
"""Milliseconds a plugin, of processor time: other processes of a busy machine do not count."""

PLUGIN = """
import mmreg
from mmreg import ComponentSpec

mmreg_api = 1


@mmreg.hookimpl
def mmreg_components():
    return [
        ComponentSpec("encoder", "cnn_{number}", "bench_{number}.cnn:CNN", "A network."),
        ComponentSpec("modality", "kind_{number}", "bench_{number}.modality:Kind", "A kind of data."),
    ]
"""
METADATA = "Metadata-Version: 2.1\nName: bench-{number}\nVersion: 1.{number}\n\n" + "A long description.\n" * 1000
MEASURE = """
import json, sys, time
import mmreg.registry
from mmreg import registry

started = time.process_time()
found = registry.all_plugins()
listed = time.process_time()
rows = [registry.row(entry) for entry in registry.specs()]
times = [listed - started, time.process_time() - listed]
assert "torch" not in sys.modules
print(json.dumps({"plugins": len(found), "ok": sum(p.status == "ok" for p in found), "times": times}))
"""


def install(folder: Path) -> None:
    for number in range(PLUGINS):
        package = folder / f"bench_{number}"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text(PLUGIN.format(number=number))
        info = folder / f"bench_{number}-1.{number}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA.format(number=number))
        (info / "entry_points.txt").write_text(f"[mmreg]\nbench_{number} = bench_{number}.plugin\n")


def measure(folder: Path) -> dict[str, Any]:
    """The number of plugins, and seconds for discovering and for listing them, in a process of its own."""
    command = [sys.executable, "-c", MEASURE]
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    run: dict[str, Any] = json.loads(found.stdout)
    assert run["plugins"] == run["ok"]
    return run


@pytest.mark.bench
def test_discovery_costs_a_millisecond_a_plugin_at_most(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "fifty").mkdir()
    install(tmp_path / "fifty")
    runs = [(measure(tmp_path / "fifty"), measure(tmp_path / "none")) for _ in range(8)]
    assert all(fifty["plugins"] == none["plugins"] + PLUGINS for fifty, none in runs)
    each = [(fifty["times"][0] - none["times"][0]) / PLUGINS * 1e3 for fifty, none in runs]
    record("discovery a plugin (of 50)", f"{LIMIT:g} ms", [ms / LIMIT for ms in each], at_most=1.0)
