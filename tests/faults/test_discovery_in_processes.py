"""Discovery in spawned workers, and of what is installed while Python runs."""

from __future__ import annotations

import json
from pathlib import Path

from faulty_plugins import BROKEN, component, returning
from wheels import Distribution, build_wheel, python

SPAWN = """
import json, multiprocessing, sys
from mmreg import registry


def seen(_=None):
    return [[p.distribution, p.entry_point, p.status, p.error] for p in registry.all_plugins()]


if __name__ == "__main__":
    here = seen()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(json.dumps([here, *pool.map(seen, range(2), chunksize=1)]))
"""


def test_spawned_workers_see_the_same_and_are_silent(everything: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SPAWN)
    found = python(str(tmp_path / "script.py"), path=everything, MMREG_DISABLE_PLUGINS="mmreg-panics")
    here, first, second = json.loads(found.stdout)
    assert here == first == second
    assert ["mmreg-panics", "panics", "blocked", "blocked by --no-plugin or MMREG_DISABLE_PLUGINS"] in here
    assert len([line for line in found.stderr.splitlines() if "is left out" in line]) == len(BROKEN) - 1


def test_the_second_rank_on_a_machine_is_silent(everything: Path) -> None:
    code = "from mmreg import registry; print(len(registry.all_plugins()))"
    first, second = (python("-c", code, path=everything, LOCAL_RANK=rank) for rank in "01")
    assert first.stdout == second.stdout
    assert "is left out" in first.stderr
    assert "is left out" not in second.stderr


NOTEBOOK = """
import json, subprocess, sys
from mmreg import registry

steps = []


def look():
    plugins = {p.distribution: p.status for p in registry.all_plugins() if p.distribution != "mmreg"}
    steps.append([plugins, [name for name in registry.names("encoder") if name.startswith("new")]])


look()
for wheel in sys.argv[2:]:
    command = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", *command, "--target", sys.argv[1], wheel], check=True)
    look()
    registry.refresh()
    look()
print(json.dumps(steps))
"""


def test_refreshing_sees_what_was_installed_meanwhile(tmp_path: Path) -> None:
    """A notebook: a plugin is installed, then the package that it lacks."""
    site = tmp_path / "site"
    site.mkdir()
    source = returning(f"[{component('new', 'mmreg_new.encoder:Tiny')}]", head="import mmreg_needed")
    needed = Distribution("mmreg-needed", returning(f"[{component('newer')}]"))
    wheels = [build_wheel(each, tmp_path) for each in (Distribution("mmreg-new", source), needed)]
    found = python("-c", NOTEBOOK, str(site), *map(str, wheels), path=site)
    assert json.loads(found.stdout) == [
        [{}, []],
        [{}, []],
        [{"mmreg-new": "failed"}, []],
        [{"mmreg-new": "failed"}, []],
        [{"mmreg-needed": "ok", "mmreg-new": "ok"}, ["new", "newer"]],
    ]
    assert found.stderr.splitlines() == [
        "mmreg: plugin new (mmreg-new 1.0) is left out (failed): it needs the package 'mmreg_needed', which is not "
        "installed"
    ]


def test_nothing_is_written_anywhere(everything: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = sorted(path for path in everything.rglob("*") if path.suffix != ".pyc")
    code = "from mmreg import registry; registry.all_plugins(); registry.find('encoder', 'mmreg-one:tiny')"
    folders = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "MMREG_CACHE_DIR", "TMPDIR")}
    found = python("-B", "-c", code, path=everything, cwd=home, **folders)
    assert found.returncode == 0
    assert list(home.iterdir()) == []
    assert sorted(path for path in everything.rglob("*") if path.suffix != ".pyc") == before
