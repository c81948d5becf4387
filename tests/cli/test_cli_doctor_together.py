"""What `mmreg doctor` says of what several processes need to train together."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from mmreg.cli import health_together
from mmreg.cli.health import Check
from mmreg.cli.health_together import check_together
from mmreg.cli.probe_together import try_together


def checks(*facts: dict[str, Any]) -> dict[str, Check]:
    return {check.check: check for check in check_together([{"kind": "together", **each} for each in facts])}


def shared(monkeypatch: pytest.MonkeyPatch, folder: Path, size: int) -> None:
    monkeypatch.setattr(health_together, "SHARED", folder)
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(total=size))


def test_two_members_find_each_other_here() -> None:
    gloo, nccl = try_together()
    assert gloo == {"name": "gloo"}
    assert nccl["name"] == "nccl"
    assert checks(gloo)["gloo"] == Check("gloo", "ok", "two members add up over a free port of localhost")


def test_nothing_is_said_of_what_was_not_tried() -> None:
    assert list(check_together([])) == []
    assert list(check_together([{"kind": "device", "name": "cpu"}])) == []


def test_a_localhost_that_is_not_found_is_a_warning_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolved(*_: Any, **__: Any) -> None:
        raise distributed.DistNetworkError("The client socket cannot be initialized: localhost")

    monkeypatch.setattr(distributed, "TCPStore", unresolved)
    gloo, _ = try_together()
    check = checks(gloo)["gloo"]
    assert check.status == "warning"
    assert "do not find each other on localhost: DistNetworkError: The client socket cannot" in check.detail
    assert "/etc/hosts" in check.advice
    assert "GLOO_SOCKET_IFNAME" in check.advice


def test_a_member_that_fails_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(store: Any, rank: int, size: int, timeout: Any) -> None:
        raise RuntimeError(f"member {rank} of {size} has no interface")

    monkeypatch.setattr(distributed, "ProcessGroupGloo", failing)
    assert next(try_together())["error"].startswith("RuntimeError: member ")


def test_a_torch_without_it_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_available", lambda: False)
    (found,) = try_together()
    check = checks(found)["gloo"]
    assert (check.status, bool(check.advice)) == ("ok", True)
    assert "--devices" in check.detail


@pytest.mark.parametrize(
    ("version", "gpus", "status", "said"),
    [
        ("2.28.9", 0, "ok", "no GPU here that would need it"),
        (None, 0, "ok", "no GPU here that would need it"),
        ("2.28.9", 1, "ok", "2.28.9, for 1 GPU"),
        ("2.28.9", 8, "ok", "2.28.9, for 8 GPUs"),
        (None, 1, "ok", "this build of torch has none, and there is 1 GPU"),
        (None, 2, "warning", "this build of torch has none, and there are 2 GPUs"),
    ],
)
def test_nccl_matters_where_there_are_gpus(version: str | None, gpus: int, status: str, said: str) -> None:
    check = checks({"name": "nccl", "version": version, "gpus": gpus})["nccl"]
    assert (check.status, check.detail) == (status, said)
    assert bool(check.advice) == (version is None and gpus > 0)


@pytest.mark.parametrize(("gpus", "status"), [(0, "ok"), (1, "ok"), (2, "warning")])
def test_little_shared_memory_is_a_warning_where_several_gpus_use_it(
    gpus: int, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared(monkeypatch, tmp_path, 64 << 20)
    check = checks({"name": "nccl", "version": "2.28.9", "gpus": gpus})[str(tmp_path)]
    assert check.status == status
    assert check.detail.startswith("67.1 MB, which is little")
    assert "--shm-size=1g" in check.advice


def test_enough_shared_memory_needs_nothing_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared(monkeypatch, tmp_path, 8 << 30)
    assert checks({"name": "nccl", "version": None, "gpus": 4})[str(tmp_path)] == Check(str(tmp_path), "ok", "8.6 GB")
    monkeypatch.setattr(health_together, "SHARED", tmp_path / "none")
    assert list(checks({"name": "nccl", "version": None, "gpus": 4})) == ["nccl"]


def test_the_module_is_light() -> None:
    code = "import sys, mmreg.cli.health_together, mmreg.cli.probe_together; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
