"""The command line as real processes: streams, exit codes, pipes, terminals, signals and full disks."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import forked
import pytest
from small import Caller

import mmreg

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and terminals of POSIX")
MMREG = [sys.executable, "-m", "mmreg"]


def process(*arguments: str | Path, cwd: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run `python -m mmreg`; with shell commands before it."""
    command = [*MMREG, *map(str, arguments)]
    if before:
        command = ["bash", "-c", f'{before}; exec "$@"', "bash", *command]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def recipe(trained: Path, tmp_path: Path) -> Path:
    """A recipe of one text, with far more epochs than anybody waits for."""
    text = "encoder: {name: text_rnn, embedding_size: 4, hidden_size: 4, num_layers: 1, features: 4}"
    head = f"table: {trained / 'table.csv'}\nsplit: split\ntarget: {{column: label}}\n"
    body = f"modalities:\n  title: {{type: text, {text}}}\n"
    (tmp_path / "text.yaml").write_text(head + body + "training: {epochs: 40, batch_size: 16, deterministic: true}\n")
    return tmp_path / "text.yaml"


def test_the_script_and_the_module_are_the_same_command(tmp_path: Path) -> None:
    script = Path(sysconfig.get_path("scripts")) / "mmreg"
    if not script.is_file():
        pytest.skip("mmreg is not installed as a script here")
    plain = subprocess.run([script, "list", "task"], capture_output=True, text=True, timeout=120, check=True)
    module = process("list", "task", cwd=tmp_path)
    assert (plain.stdout, plain.stderr) == (module.stdout, module.stderr)
    assert plain.stdout.splitlines()[0].split()[:2] == ["kind", "name"]


def test_results_go_to_stdout_and_all_else_to_stderr(trained: Path, tmp_path: Path) -> None:
    rows = "id,title\nx,\n"
    (tmp_path / "one.csv").write_text(rows)
    done = forked.run(["-m", "mmreg", "predict", trained / "run", "one.csv"], tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("id,label,probability")
    assert len(done.stdout.splitlines()) == 2
    assert "has no columns 'image', 'audio'; they count as absent" in done.stderr
    assert "training prior" in done.stderr


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    command = " ".join(MMREG)
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} list | head -n 1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    first, code = done.stdout.splitlines()
    assert first.startswith("kind")
    assert (code, done.stderr) == ("0", "")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        pytest.param("SIGINT", 130, marks=pytest.mark.slow),
        ("SIGTERM", 75),
        pytest.param("SIGUSR1", 75, marks=pytest.mark.slow),
    ],
)
def test_a_signal_keeps_every_step_and_the_same_training_goes_on(
    cli: Caller, recipe: Path, tmp_path: Path, name: str, code: int
) -> None:
    from mmreg.training.checkpoint import load_checkpoint

    stopped = forked.Popen(["-m", "mmreg", "train", "text.yaml", "--out", "run", "--device", "cpu"], tmp_path)
    for line in stopped.stdout:
        if line.startswith("epoch   2"):
            break
    stopped.send_signal(getattr(signal, name))
    _, said = stopped.communicate()
    assert stopped.returncode == code
    kept = re.fullmatch(
        r"\nstopped after step (\d+) of 120, in epoch (\d+)\n"
        r"it is kept in run as of its last checkpoint; go on with:\n"
        r"  mmreg train text.yaml --out run --device cpu --resume\n"
        r"or take the best weights so far:\n  mmreg finish run\n",
        said,
    )
    assert kept is not None, said
    assert 2 < int(kept[2]) <= 40
    assert load_checkpoint(tmp_path / "run")[0]["progress"]["step"] == int(kept[1])

    refused = cli("evaluate", tmp_path / "run")
    assert refused.code == 2
    assert "did not end; go on with: mmreg train" in refused.err

    resumed = mmreg.train(recipe, tmp_path / "run", resume=True, device="cpu")
    whole = mmreg.train(recipe, tmp_path / "whole", device="cpu")
    for name in ("metrics.csv", "model.safetensors"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_ctrl_c_while_nothing_is_trained_says_stopped(trained: Path) -> None:
    script = (
        "import sys, mmreg.cli.predict as using\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "using._writer = stop\n"
        "sys.argv = ['mmreg', 'predict', 'run', 'table.csv']\n"
        "from mmreg.cli import main\n"
        "main()\n"
    )
    done = forked.run(["-c", script], trained)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mmreg: stopped\n")


def test_a_full_disk_is_said_with_the_file_and_nothing_half_is_left(recipe: Path, tmp_path: Path) -> None:
    full = process(
        "train", "text.yaml", "--out", "run", "--set", "training.epochs=1", cwd=tmp_path, before="ulimit -f 2"
    )
    assert full.returncode == 1
    assert re.search(r"mmreg: run/\S+( cannot be written)?: .*File too large", full.stderr), full.stderr
    assert "Traceback" not in full.stderr
    assert not [path for path in (tmp_path / "run").rglob("*") if ".tmp" in path.name]
    mmreg.train(recipe, tmp_path / "run", overrides=["training.epochs=1"], resume=True, device="cpu")


def test_stdout_on_a_full_disk_is_a_failure_of_the_machine(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = process("list", cwd=tmp_path, before="exec > /dev/full")
    assert done.returncode == 1
    assert os.strerror(errno.ENOSPC) in done.stderr


def test_a_training_that_cannot_write_its_checkpoint_says_how_to_go_on(
    cli: Caller, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmreg.training import saving

    save, calls = saving.save_checkpoint, iter(range(1000))

    def fail_later(folder: Path, state: dict[str, object]) -> None:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "checkpoints/last.pt"))
        save(folder, state)

    monkeypatch.setattr(saving, "save_checkpoint", fail_later)
    done = cli("train", recipe, "--out", tmp_path / "run", "-q")
    assert done.code == 1
    assert f"it is kept in {tmp_path / 'run'} as of its last checkpoint; go on with:\n  mmreg train" in done.err
    assert f"mmreg: {tmp_path / 'run/checkpoints/last.pt'}: No space left on device; free some space" in done.err


def test_a_terminal_shows_a_bar_and_keeps_the_lines(recipe: Path, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    variables = {"TERM": "xterm-256color", "COLUMNS": "100", "MMREG_CACHE_DIR": str(tmp_path / "cache")}
    variables["MMREG_DISABLE_PLUGINS"] = "report"  # to draw curves takes longer than to train
    arguments = ["-m", "mmreg", "train", "text.yaml", "--out", "run", "--set", "training.epochs=3"]
    training = forked.Popen(arguments, tmp_path, os.environ | variables, terminal=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells the end
        while read := os.read(ours, 65536):
            shown += read
    os.close(ours)
    training.communicate()
    assert training.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "preparing title" in plain
    assert re.search(r"training .* 9/9 .* samples/s +loss \d", plain)
    assert len(re.findall(r"^epoch +\d", plain.replace("\r", "\n"), re.MULTILINE)) == 3
    assert re.search(r"Accuracy: \d+% \(\d+/12\)", plain)
    assert "\x1b[?25h" in shown.decode()  # the cursor is back


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_a_training_with_a_checkpoint_and_nothing_half(
    recipe: Path, tmp_path: Path
) -> None:
    import pty

    from mmreg.training.checkpoint import load_checkpoint

    arguments = [*MMREG, "train", "text.yaml", "--out", "run", "--device", "cpu", "--set", "training.epochs=4000"]
    process, ours = pty.fork()
    if not process:
        os.chdir(tmp_path)
        os.environ["MMREG_DISABLE_PLUGINS"] = "report"
        os.execvp(arguments[0], arguments)
    shown = b""
    while b"epoch   2" not in shown and (read := os.read(ours, 65536)):
        shown += read
    os.close(ours)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 75
    assert load_checkpoint(tmp_path / "run")[0]["progress"]["step"] > 3
    left = {path.name for path in (tmp_path / "run").rglob("*")}
    assert {"last.pt", "components.json", "recipe.yaml", "metrics.csv"} <= left
    assert not [name for name in left if name.startswith(".") or name.endswith(".tmp")]


def test_a_plugin_can_be_left_out(tmp_path: Path) -> None:
    done = process("--no-plugin", "image", "list", "--format", "json", cwd=tmp_path)
    assert "image_cnn" not in {row["name"] for row in json.loads(done.stdout)}


def test_a_folder_that_was_moved_is_the_same_run(trained: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(trained / "run", tmp_path / "elsewhere")
    one = mmreg.load(moved).predict({"title": "a red thing"})
    assert one == mmreg.load(trained / "run").predict({"title": "a red thing"})
