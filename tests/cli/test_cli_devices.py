"""`mmreg train --devices` as real processes: how it is stopped, what it refuses, and that processes have to agree."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
from small import Caller
from trained_together import start

import mmreg
from mmreg.cli import launch
from mmreg.errors import DeviceError, TrainingError
from mmreg.training.peers import Peers, check_same

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
TOGETHER = ("--device", "cpu", "--devices", "2")
LONG = ("--set", "training.epochs=400", "--set", "training.deterministic=true")
"""More epochs than anybody waits for."""


def begun(folder: Path, recipe: Path, *arguments: str) -> forked.Popen:
    """A training by two processes, as soon as its third epoch has ended; the command alone is a fork."""
    command = ["-m", "mmreg", "train", recipe, "--out", "run", *TOGETHER, *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "MMREG_DISABLE_PLUGINS": "report"}
    process = forked.Popen(command, folder, env)
    for line in process.stdout:
        if line.startswith("epoch   3"):
            return process
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SIGTERM", 75),
        pytest.param("SIGINT", 130, marks=pytest.mark.slow),
        pytest.param("SIGUSR1", 75, marks=pytest.mark.slow),
        pytest.param("SIGHUP", 75, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_all_processes_after_a_step_with_one_message(
    text_recipe: Path, tmp_path: Path, name: str, code: int
) -> None:
    from mmreg.training.checkpoint import load_checkpoint

    stopped = begun(tmp_path, text_recipe, *LONG)
    stopped.send_signal(getattr(signal, name))
    _, said = stopped.communicate(timeout=120)
    assert stopped.returncode == code, said
    kept = re.fullmatch(
        r"2 processes, each with a share of the CPU\n"
        r"\nstopped after step (\d+) of 1,200, in epoch (\d+)\n"
        r"it is kept in run as of its last checkpoint; go on with:\n"
        rf"  mmreg train {re.escape(str(text_recipe))} --out run {' '.join((*TOGETHER, *LONG))} --resume\n"
        r"or take the best weights so far:\n  mmreg finish run\n",
        said,
    )
    assert kept is not None, said
    step = int(kept[1].replace(",", ""))
    assert load_checkpoint(tmp_path / "run")[0]["progress"]["step"] == step
    epochs = int(kept[2]) + 1
    overrides = [f"training.epochs={epochs}", "training.deterministic=true"]
    run = mmreg.train(text_recipe, tmp_path / "run", overrides=overrides, resume=True, device="cpu")
    assert run.report["epochs"] == epochs  # one process goes on with what two have begun


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGINT", 130)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_the_processes_ends_all_as_one_to_the_command_does(
    text_recipe: Path, tmp_path: Path, name: str, code: int, rank: int
) -> None:
    stopped = begun(tmp_path, text_recipe, *LONG)
    others = subprocess.run(["pgrep", "-P", str(stopped.pid)], capture_output=True, text=True, check=True)
    os.kill(sorted(map(int, others.stdout.split()))[rank], getattr(signal, name))
    _, said = stopped.communicate(timeout=120)
    assert stopped.returncode == code, said
    assert "\nstopped after step " in said
    assert "mmreg: " not in said


@pytest.mark.slow
def test_what_was_stopped_goes_on_to_the_bits_of_what_was_not(text_recipe: Path, tmp_path: Path) -> None:
    epochs = ("--set", "training.epochs=60", "--set", "training.deterministic=true")
    stopped = begun(tmp_path, text_recipe, *epochs)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate(timeout=120)
    assert stopped.returncode == 75
    command = [sys.executable, "-m", "mmreg", "train", str(text_recipe), "-q", *TOGETHER, *epochs]
    for arguments in (["--out", "run", "--resume"], ["--out", "whole"]):
        subprocess.run([*command, *arguments], cwd=tmp_path, check=True, timeout=120, capture_output=True)
    for name in ("metrics.csv", "model.safetensors", "report.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def together(recipe: Path, out: Path, setting: str) -> list[str]:
    """What two processes say whose commands differ in a setting, and how they end."""
    code = (
        "import os, sys\n"
        "from mmreg.cli import main\n"
        f"setting = {setting!r}.split('|')[int(os.environ['RANK'])]\n"
        f"sys.argv = ['mmreg', 'train', {str(recipe)!r}, '--out', {str(out)!r}, '--device', 'cpu', '--set', setting]\n"
        "main()\n"
    )
    processes = start(2, ["-c", code])
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    return said


@pytest.mark.slow
def test_processes_with_different_recipes_are_refused_before_anything_is_prepared(
    text_recipe: Path, tmp_path: Path
) -> None:
    for said in together(text_recipe, tmp_path / "run", "training.seed=1|training.seed=2"):
        assert re.search(r"^mmreg: process 1 has another recipe than process 0 \(\w+ instead of \w+\); start all", said)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.slow
def test_processes_with_different_tables_are_refused(text_recipe: Path, here: Path, tmp_path: Path) -> None:
    lines = (here / "table.csv").read_text().splitlines(keepends=True)
    (tmp_path / "other.csv").write_text("".join(lines).replace("red thing", "red one"))
    for said in together(text_recipe, tmp_path / "run", f"table={here / 'table.csv'}|table={tmp_path / 'other.csv'}"):
        assert re.search(r"^mmreg: process 1 has another (recipe|table) than process 0", said)


@pytest.mark.parametrize("what", ["recipe", "table", "version of torch"])
def test_what_differs_between_processes_is_named(what: str) -> None:
    facts = {"version of torch": "2", "recipe": "a", "table": "b"}

    class Three(Peers):
        def from_all(self, value: Any) -> list[Any]:
            return [value, value, {**value, what: "other"}]

    with pytest.raises(TrainingError, match=rf"process 2 has another {what} than process 0 \(other instead of"):
        check_same(Three(), facts)
    check_same(Peers(), facts)


def devices(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    import torch

    from mmreg.model import devices as there

    monkeypatch.setattr(there, "available_devices", lambda: [*names, "cpu"])
    monkeypatch.setattr(there, "resolve_device", lambda name: torch.device(names[0] if name == "auto" else name))


def test_more_processes_than_gpus_are_refused_before_any_is_started(
    cli: Caller, text_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices(monkeypatch, "cuda:0", "cuda:1")
    monkeypatch.setattr(launch, "launch", lambda *_: pytest.fail("started"))
    refused = cli("train", text_recipe, "--devices", "4")
    assert refused.code == 2
    assert "--devices 4, and this machine has 2 (cuda:0, cuda:1); ask for fewer, or train on the CPU" in refused.err
    one = cli("train", text_recipe, "--devices", "2", "--device", "cuda:1")
    assert one.code == 2
    assert "--devices 2 takes one device each; name 'cuda' instead of cuda:1" in one.err


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ({1: 1, 0: 2}, ""),
        ({1: 69, 0: 2}, ""),
        ({1: 75, 0: 75}, ""),
        ({1: 75, 0: 130}, ""),
        ({0: 69, 1: 1}, "process 1 of 2 (0 to 1) has failed: its exit code is 1"),
        ({1: 1, 0: -signal.SIGTERM}, "process 1 of 2 (0 to 1) has failed: its exit code is 1"),
        ({1: 69, 0: -signal.SIGTERM}, "process 0 of 2 (0 to 1) was ended by SIGTERM"),
        ({0: 2, 1: -signal.SIGKILL}, "process 1 of 2 (0 to 1) was ended by SIGKILL"),
    ],
)
def test_what_ended_a_command_is_told_once(codes: dict[int, int], why: str, tmp_path: Path) -> None:
    """The first process has said what it failed by; the rest is told by the command."""
    failures = {rank: SimpleNamespace(exitcode=code) for rank, code in codes.items()}
    if why:
        with pytest.raises(TrainingError, match=re.escape(why)):
            launch._failed(failures, 2, tmp_path)
    else:
        assert launch._failed(failures, 2, tmp_path) == codes[0]


def test_a_process_that_has_failed_keeps_its_exit_code_while_the_others_are_ended(tmp_path: Path) -> None:
    code = (
        "import atexit, os, sys, time\n"
        "from mmreg.cli import main\n"
        "atexit.register(time.sleep, 1)\n"
        "sys.argv = ['mmreg', 'train', 'nothing.yaml']\n"
        "main()\n"
    )
    env = {**os.environ, "MMREG_LAUNCHER": str(os.getpid())}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("mmreg: ")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 2


def test_a_process_without_a_device_of_its_own_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from mmreg.training import joining

    monkeypatch.setattr(joining, "resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(joining, "available_devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    told = {"WORLD_SIZE": 4, "RANK": 3, "LOCAL_RANK": 3, "LOCAL_WORLD_SIZE": 4, "MASTER_ADDR": "here", "MASTER_PORT": 1}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    with (
        pytest.raises(DeviceError, match=r"4 processes need as many devices, and this machine has cuda:0, cuda:1"),
        joining.joined("auto"),
    ):
        pass


@pytest.mark.parametrize(
    "others", [("--folds", "2"), ("--seeds", "0..1"), ("--find-lr",), ("--dry-run",)], ids=lambda each: each[0]
)
def test_what_several_processes_do_not_do_is_refused(cli: Caller, text_recipe: Path, others: tuple[str, ...]) -> None:
    refused = cli("train", text_recipe, *TOGETHER, *others)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("mmreg: --devices goes neither with --folds nor with --seeds, --find-lr or --dry-run")


@pytest.mark.parametrize(
    "once",
    [("--devices", "2"), ("--folds", "2"), ("--seeds", "0..1"), ("--find-lr",), ("--dry-run",)],
    ids=lambda each: each[0],
)
def test_what_is_done_once_is_refused_where_torchrun_starts_it_several_times(
    cli: Caller, text_recipe: Path, once: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = cli("train", text_recipe, "--device", "cpu", *once)
    assert (refused.code, refused.out) == (2, "")
    assert "torchrun has started 2 (WORLD_SIZE); leave torchrun out, or the option" in refused.err


@pytest.mark.parametrize("other", [("--value", "text=red"), ("--on", "ray")], ids=lambda each: each[0])
def test_several_processes_predict_tables_alone(cli: Caller, here: Path, other: tuple[str, ...]) -> None:
    refused = cli("predict", "run", "table.csv", *TOGETHER, *other)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == ("mmreg: --devices shares out the rows of a table; give one, and neither --value nor --on\n")


@pytest.mark.slow
def test_a_cell_that_another_process_cannot_load_is_told_as_by_one(here: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("id,title,image\nr1,red thing,\nr2,red thing,\nr3,,nothing.png\n")
    command = [sys.executable, "-m", "mmreg", "predict", "run", str(bad), "-q", *TOGETHER]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.match(
        r"mmreg: 1 cell cannot be loaded \(.*\n  bad.csv, row \d+, column image: nothing.png: ", ended.stderr
    )
