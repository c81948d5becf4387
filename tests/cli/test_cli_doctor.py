"""`mmreg doctor`: what it looks at, what it finds wrong, and how it says so."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mmreg import layers
from mmreg.cli import doctor, health
from mmreg.cli.app import build_app
from mmreg.cli.health import Check, check_device, check_libraries, check_library, probe, unfit
from mmreg.cli.probe import LIBRARIES, _try_device
from mmreg.data.entry import new_entry
from mmreg.registry.installed import Plugin


@pytest.mark.slow
def test_a_sound_installation_is_one_json_document_without_errors() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmreg", "doctor", "--format", "json"], capture_output=True, text=True, check=False
    )
    rows = json.loads(done.stdout)
    assert all(list(row) == ["check", "status", "detail", "advice"] for row in rows)
    by_name = {row["check"]: row for row in rows}
    assert {"python", "mmreg", *LIBRARIES, "scikit-learn", "cpu", "gloo", "nccl", "cache", "plugins"} <= set(by_name)
    assert [row for row in rows if row["status"] == "error"] == []
    assert done.returncode == 0
    for name in LIBRARIES:
        assert by_name[name]["detail"].startswith(f"{importlib.metadata.version(name)}, imported in ")
    assert "computes in float32" in by_name["cpu"]["detail"]


def invoke(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """The command in this process, without the process that imports everything."""
    monkeypatch.setattr(doctor, "probe", lambda: ([], ""))
    return CliRunner().invoke(build_app(), ["doctor", *arguments])


def test_an_error_makes_the_exit_code_1_and_a_warning_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("depth", "mmreg-depth", "1.0", "/somewhere", "mmreg_depth.plugin", warning="it is slow to load")
    monkeypatch.setattr(doctor.registry, "all_plugins", lambda: [plugin])
    warned = invoke(monkeypatch)
    assert warned.exit_code == 0
    assert warned.stdout.rstrip().endswith("1 warning")
    plugin.status, plugin.error = "failed", "ValueError: no"
    failed = invoke(monkeypatch)
    assert failed.exit_code == 1
    assert failed.stdout.rstrip().endswith("1 error")
    line = next(line for line in failed.stdout.splitlines() if line.startswith("plugin depth"))
    assert "mmreg-depth 1.0 failed: ValueError: no" in line


def test_clearing_the_cache_says_what_went(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path))
    with new_entry(tmp_path, "c" * 40) as entry:
        entry.write_array("values.bin", np.zeros(5000, np.uint8))
        entry.complete({})
    assert "1 prepared columns, 5.1 kB; " in doctor.check_cache(tmp_path).detail
    result = invoke(monkeypatch, "--clear-cache", "--format", "json")
    assert f"removed 1 prepared columns (5.1 kB) from {tmp_path}" in result.stderr
    cache = next(row for row in json.loads(result.stdout) if row["check"] == "cache")
    assert "0 prepared columns, 0 B" in cache["detail"]


def test_columns_that_nothing_uses_any_more_are_counted(tmp_path: Path) -> None:
    (tmp_path / "prepared" / ("a" * 40)).mkdir(parents=True)
    check = doctor.check_cache(tmp_path)
    assert check.status == "ok"
    assert "1 prepared columns (1 of them damaged or of an earlier release, which nothing uses), 0 B; " in check.detail
    assert check.advice == "mmreg doctor --clear-cache"


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        check = doctor.check_cache(root)
        assert check.status == "error"
        assert f"{tmp_path / 'file'} is no folder" in check.detail
    monkeypatch.setattr(os, "access", lambda *_: False)
    check = doctor.check_cache(tmp_path / "new")
    assert (check.status, check.detail) == ("error", f"{tmp_path / 'new'}: {tmp_path} cannot be written to")
    assert "MMREG_CACHE_DIR" in check.advice


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    check = doctor.check_cache(tmp_path)
    assert check.status == "warning"
    assert "100.0 MB free" in check.detail
    assert "--clear-cache" in check.advice


def versions(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> None:
    """Let some libraries be installed in other versions, or not at all."""
    before = importlib.metadata.version

    def version(name: str) -> str:
        found = changed[name] if name in changed else before(name)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_the_tested_versions_fit() -> None:
    assert [problem for name in LIBRARIES for problem in unfit(name)] == []


def test_a_torchvision_of_another_torch_is_named_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, torch="2.11.0", torchvision="0.26.0+cu130")
    assert list(unfit("torchvision")) == []
    versions(monkeypatch, torch="2.12.0+cpu", torchvision="0.26.0")
    asked = {"mmreg": ["torchvision<0.28,>=0.26"], "torchvision": ["torch (==2.11.0)", 'scipy ; extra == "scipy"']}
    monkeypatch.setattr(importlib.metadata, "requires", asked.get)
    check = check_library("torchvision", {"error": "RuntimeError: operator torchvision::nms does not exist"})
    assert check.status == "error"
    assert check.detail == (
        "0.26.0; torchvision needs torch==2.11.0, found 2.12.0+cpu; "
        "cannot be imported: RuntimeError: operator torchvision::nms does not exist"
    )
    assert "torch torchvision torchaudio" in check.advice


def test_what_mmreg_asks_for_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, torchtext="0.18.0", tokenizers=None)
    check = check_library("torchtext", {"seconds": 0.1})
    assert check.status == "error"
    assert "mmreg needs torchtext==0.6.0, found 0.18.0" in check.detail
    assert check_library("tokenizers", {}).detail == "not installed"


def test_what_only_an_extra_needs_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, **{"scikit-learn": None})
    check = next(check for check in check_libraries([], "") if check.check == "scikit-learn")
    assert check.status == "ok"
    assert "mmreg[demo]" in check.advice


def probe_with(monkeypatch: pytest.MonkeyPatch, folder: Path, torch: str) -> dict[str, Check]:
    """The checks with a torch of our own making."""
    (folder / "torch.py").write_text(torch)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return {check.check: check for check in check_libraries(*probe())}


def test_a_library_that_kills_the_process_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = "import os, sys\nprint('undefined symbol: _ZN3c10', file=sys.stderr, flush=True)\nos._exit(139)"
    checks = probe_with(monkeypatch, tmp_path, crash)
    assert checks["importing"].status == "error"
    assert checks["importing"].detail == "torch: the process ended with 139 (undefined symbol: _ZN3c10)"
    assert checks["soundfile"].detail.endswith("not imported")


def test_a_library_that_cannot_be_imported_takes_no_other_one_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checks = probe_with(monkeypatch, tmp_path, "print('noise')\nraise OSError('libcudart.so.13: cannot open')")
    assert checks["torch"].status == "error"
    assert "OSError: libcudart.so.13: cannot open" in checks["torch"].detail
    assert checks["tokenizers"].status == checks["soundfile"].status == "ok"
    assert "cpu" not in checks
    assert "importing" not in checks


def test_a_library_that_never_comes_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], *, timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout, output=b'{"begin": "torch"}\n', stderr=b"")

    monkeypatch.setattr(subprocess, "run", hang)
    assert probe() == ([], f"torch: no end after {health.PATIENCE} s")


def test_devices_are_named_with_their_memory_and_precision() -> None:
    device = {"name": "cuda:0", "cuda": "13.0", "model": "NVIDIA H100", "memory": 80 * 10**9}
    assert check_device({**device, "precision": "bfloat16"}) == Check(
        "cuda:0", "ok", "NVIDIA H100, 80.0 GB, computes in bfloat16"
    )
    broken = check_device({**device, "error": "RuntimeError: no kernel image is available"})
    assert (broken.status, broken.detail) == (
        "error",
        "NVIDIA H100, 80.0 GB, RuntimeError: no kernel image is available",
    )


def test_layers_that_compute_in_float32_for_want_of_a_kernel_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "has_recurrent_kernel", lambda mode, device, dtype: mode == "GRU")
    facts = {"kind": "device", "name": "cpu", **_try_device("cpu")}  # the CPU computes in no float16
    device, kernels = [check for check in check_libraries([facts], "") if check.check.startswith("cpu")]
    assert device.detail.endswith("computes in float32")
    assert kernels == Check(
        "cpu kernels",
        "ok",
        "torch has no LSTM in bfloat16, RNN_TANH in bfloat16 here: such layers compute in float32 (in plugins: those "
        "that mmreg.layers.recurrent runs)",
    )
    monkeypatch.setattr(layers, "has_recurrent_kernel", lambda mode, device, dtype: True)
    assert _try_device("cpu")["without_kernel"] == []
    assert all(check.check != "cpu kernels" for check in check_libraries([{**facts, "without_kernel": []}], ""))


@pytest.mark.parametrize(("cuda", "said"), [(None, "built without CUDA"), ("13.0", "built for CUDA 13.0")])
def test_a_gpu_that_torch_does_not_see_is_a_warning(
    cuda: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = {"kind": "device", "name": "cpu", "cuda": cuda, "precision": "float32"}
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert all(check.check != "gpu" for check in check_libraries([cpu], ""))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    gpu = next(check for check in check_libraries([cpu], "") if check.check == "gpu")
    assert gpu.status == "warning"
    assert said in gpu.detail
    card = {**cpu, "name": "cuda:0"}
    assert all(check.check != "gpu" for check in check_libraries([card, cpu], ""))


def test_a_component_that_cannot_be_imported_is_an_error() -> None:
    facts = {"kind": "component", "name": "encoder/depth_cnn", "error": "needs the package 'onnx'"}
    check = list(check_libraries([facts], ""))[-1]
    assert (check.check, check.status, check.detail) == ("encoder/depth_cnn", "error", "needs the package 'onnx'")


def test_plugins_are_counted_and_only_those_with_something_to_say_are_listed() -> None:
    def plugin(name: str, **facts: Any) -> Plugin:
        return Plugin(name, f"mmreg-{name}", "1.0", "/lib", f"mmreg_{name}.plugin", **facts)

    checks = doctor.check_plugins(
        [
            plugin("fine"),
            plugin("slow", warning="it is slow to load: every command waits 5.0 s for it"),
            plugin("broken", status="failed", error="ValueError: no"),
            plugin("old", status="incompatible", error="it is written for mmreg API 0, this mmreg has 1"),
            plugin("twice", status="duplicate", error="mmreg-twice 2.0 comes first"),
            plugin("blocked", status="blocked", error="blocked by --no-plugin"),
        ]
    )
    assert checks[0] == Check("plugins", "ok", "6 installed, 2 in use")
    assert {check.check: check.status for check in checks[1:]} == {
        "plugin slow": "warning",
        "plugin broken": "error",
        "plugin old": "error",
        "plugin twice": "warning",
        "plugin blocked": "ok",
    }
    assert all(check.advice for check in checks if check.status != "ok")
