"""What discovery costs a plugin, with fifty installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


def measure(folder: Path) -> tuple[int, float, float]:
    """The number of plugins, and milliseconds for discovering and for listing them: the least of several processes."""
    runs = []
    for _ in range(8):
        command = [sys.executable, "-c", MEASURE]
        found = subprocess.run(command, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True)
        runs.append(json.loads(found.stdout))
    assert all(run["plugins"] == run["ok"] for run in runs)
    discovery, listing = (min(run["times"][at] for run in runs) * 1e3 for at in (0, 1))
    return runs[0]["plugins"], discovery, listing


@pytest.mark.bench
def test_discovery_costs_a_millisecond_a_plugin_at_most(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "fifty").mkdir()
    install(tmp_path / "fifty")
    bundled, without, _ = measure(tmp_path / "none")
    all_of_them, with_fifty, listing = measure(tmp_path / "fifty")
    assert all_of_them == bundled + PLUGINS
    each = (with_fifty - without) / PLUGINS
    print(f"\ndiscovery: {without:.1f} ms without, {with_fifty:.1f} ms with {PLUGINS} plugins")
    print(f"a plugin: {each:.3f} ms, ratio to the limit of {LIMIT} ms: {each / LIMIT:.2f}")
    print(f"listing them: {listing:.1f} ms")
    assert each <= LIMIT
