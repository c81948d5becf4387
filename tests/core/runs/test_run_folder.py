"""A run's folder under hostile hands: one writer at a time, kills, damage, links and what is no file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import forked
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import toys
from safetensors.torch import save_file
from toys import train

import mmreg
from mmreg import runs
from mmreg.errors import RunError
from mmreg.run_files import weights

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks, links and kills of POSIX")


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toys.register()
    return train(tmp_path_factory.mktemp("trained") / "run", fusion="product").folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a whole run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_second_training_into_the_same_folder_is_told_who_is_at_it(tmp_path: Path) -> None:
    messages: list[str] = []

    class Second(mmreg.Callback):
        def on_step(self, step: mmreg.Step) -> None:
            if step.step == 2:
                for settings in ({}, {"overwrite": True}, {"resume": True}):
                    with pytest.raises(RunError) as caught:
                        train(tmp_path / "run", **settings)
                    messages.append(str(caught.value))
                with pytest.raises(RunError, match=r"has not ended: this process on .* is at it"):
                    mmreg.load(tmp_path / "run")

    whole = train(tmp_path / "run", callback=Second())
    assert len(messages) == 3
    assert all("is being written to by this process on" in text for text in messages)
    assert whole.evaluate()["rows"] == 40
    assert not (tmp_path / "run" / runs.LOCK).exists()


def test_another_process_that_holds_a_folder_is_named_and_its_end_frees_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mmreg.run_files.lock import writing\n"
        "with writing(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=rf"written to by process {holder.pid} on .*; wait until it has ended"):
            train(folder)
        with pytest.raises(RunError, match=f"process {holder.pid}"):
            mmreg.fuse([tmp_path, tmp_path], "mean", folder)
    finally:
        holder.kill()
        holder.communicate()
    assert train(folder, overrides=["training.epochs=1"]).evaluate()["rows"] == 40


def test_threads_that_begin_at_once_make_one_run(tmp_path: Path) -> None:
    start, results = threading.Barrier(4), []

    def one() -> None:
        start.wait()
        try:
            with runs.writing(tmp_path / "run"):
                inside.append(1)
                most.append(len(inside))
                (tmp_path / "run" / "file").write_text("x")
                inside.pop()
        except RunError as error:
            results.append(str(error))

    inside: list[int] = []
    most: list[int] = []
    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) + len(results) == 4
    assert set(most) == {1}


def test_a_folder_in_which_nothing_was_written_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(mmreg.MmregError):
        train(tmp_path / "a" / "b" / "run", target={"column": "nothing"})
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import toys
from pathlib import Path
toys.register()
last, count = int(sys.argv[3]), 0
replace, fsync = os.replace, os.fsync
def counted(call):
    def inner(*arguments):
        global count
        count += 1
        if count == last:
            os._exit(9)
        return call(*arguments)
    return inner
os.replace, os.fsync = counted(replace), counted(fsync)
toys.train(Path(sys.argv[2]), toys.rows(60), fusion="product", overrides=["training.epochs=2"])
print(count)
"""


def killed(folder: Path, at: int) -> subprocess.CompletedProcess[str]:
    """A small training whose process ends without warning at the nth name or sync of a file."""
    return forked.run(["-c", KILLED, Path(toys.__file__).parent, folder, str(at)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The same training without a kill, and how many names and syncs there were."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = killed(folder, 0)
    assert done.returncode == 0, done.stderr
    return folder, int(done.stdout)


@pytest.mark.slow
def test_a_kill_at_any_write_leaves_a_folder_that_resumes_to_the_same_run(
    tmp_path: Path, whole: tuple[Path, int]
) -> None:
    for at in range(1, whole[1] + 1):
        _goes_on_after_a_kill(tmp_path / f"killed{at}", at, whole[0])


@pytest.mark.parametrize("at", [*(pytest.param(at, marks=pytest.mark.slow) for at in (1, 5, 14)), 29])
def test_a_kill_while_files_are_written_leaves_a_folder_that_resumes_to_the_same_run(
    tmp_path: Path, whole: tuple[Path, int], at: int
) -> None:
    _goes_on_after_a_kill(tmp_path / "run", at, whole[0])


def _goes_on_after_a_kill(folder: Path, at: int, whole: Path) -> None:
    assert killed(folder, at).returncode == 9
    train(folder, toys.rows(60), fusion="product", overrides=["training.epochs=2"], resume=True)
    assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []
    for name in (runs.METRICS, runs.RECIPE, runs.REPORT, f"{runs.PREDICTIONS}/test.parquet"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), (at, name)
    state, expected = (runs.read_weights(place / runs.WEIGHTS) for place in (folder, whole))
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_a_flipped_bit_in_the_weights_is_told_or_changes_nothing(run: Path) -> None:
    path = run / runs.WEIGHTS
    whole, state = path.read_bytes(), runs.read_weights(path)
    accepted = 0
    for position in range(0, 8 * len(whole), 37):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            again = runs.read_weights(path)
        except RunError:
            continue
        accepted += 1
        assert again.keys() == state.keys()
        assert all(torch.equal(again[name], tensor) for name, tensor in state.items()), position
    assert accepted < 30
    path.write_bytes(damaged[: len(whole) // 2])
    with pytest.raises(RunError, match=r"model\.safetensors are damaged"):
        mmreg.load(run)


def test_a_flipped_bit_in_the_predictions_is_told_or_changes_nothing(run: Path) -> None:
    path = run / runs.PREDICTIONS / "test.parquet"
    whole, table = path.read_bytes(), runs.read_predictions(run, "test")
    for position in range(0, 8 * (len(whole) // 2), 211):  # the rest tells where the columns are
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            again = runs.read_predictions(run, "test")
        except RunError:
            continue
        assert again == table, position


def test_weights_without_a_checksum_are_those_of_an_earlier_release(run: Path) -> None:
    state = runs.read_weights(run / runs.WEIGHTS)
    save_file(state, run / runs.WEIGHTS)
    assert mmreg.load(run, "cpu").evaluate(toys.rows(), split="test")["rows"] == 40


def test_facts_that_do_not_fit_their_checksum_are_refused(run: Path) -> None:
    path = run / runs.COMPONENTS
    facts = json.loads(path.read_text())
    facts["modalities"]["a"]["state"]["mean"] += 1e-9
    path.write_text(json.dumps(facts))
    with pytest.raises(RunError, match=r"components\.json is damaged, or was edited"):
        mmreg.load(run)


def test_a_recipe_that_was_edited_is_used_and_told(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    mmreg.load(run)
    assert caplog.messages == []
    path = run / runs.RECIPE
    path.write_text(path.read_text() + "# as we found out\n")
    mmreg.load(run)
    assert [f"mmreg: {path} was edited after the training; it is used as it stands"] == caplog.messages


def test_a_recipe_that_splits_the_table_otherwise_measures_nothing(tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(toys.rows()), rows)
    folder = train(tmp_path / "run", str(rows), split={"test": 0.2}).folder
    expected = mmreg.load(folder, "cpu").evaluate()
    path = folder / runs.RECIPE
    path.write_text(path.read_text().replace("test: 0.2", "test: 0.4"))
    with pytest.raises(RunError, match=r"splits the table otherwise .* test rows may be training rows"):
        mmreg.load(folder, "cpu").evaluate()
    assert mmreg.load(folder, "cpu").evaluate(rows)["rows"] == 200
    path.write_text(path.read_text().replace("test: 0.4", "test: 0.2"))
    assert mmreg.load(folder, "cpu").evaluate() == expected


def test_predictions_that_are_gone_are_told(run: Path, tmp_path: Path) -> None:
    (run / runs.PREDICTIONS / "test.parquet").unlink()
    with pytest.raises(RunError, match=r"test\.parquet is gone, of which the run's report tells the figures"):
        mmreg.fuse([run, shutil.copytree(run, tmp_path / "other")], "mean", tmp_path / "fused")


def test_a_lack_of_memory_is_no_damage(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(weights, "safe_open", exhausted)
    with pytest.raises(MemoryError):
        mmreg.load(run)


READERS: dict[str, Callable[[Path], object]] = {
    runs.COMPONENTS: mmreg.load,
    runs.RECIPE: mmreg.load,
    runs.WEIGHTS: mmreg.load,
    runs.REPORT: lambda folder: mmreg.load(folder).report,
    f"{runs.PREDICTIONS}/test.parquet": lambda folder: runs.read_predictions(folder, "test"),
    runs.PREDICTIONS: lambda folder: runs.read_predictions(folder, "test"),
    runs.CHECKPOINT: lambda folder: train(folder, fusion="product", resume=True),
    runs.CHECKPOINTS: lambda folder: train(folder, fusion="product", resume=True),
    runs.BEST: lambda folder: train(folder, fusion="product", resume=True),
}


@pytest.mark.parametrize("name", READERS)
def test_a_link_in_a_run_s_folder_is_not_followed_for_reading(run: Path, tmp_path: Path, name: str) -> None:
    shutil.move(run / name, tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a symbolic link"):
        READERS[name](run)


@pytest.mark.parametrize("name", [name for name in READERS if "/" in name or "." in name])
def test_a_fifo_in_a_run_s_folder_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(RunError, match="is a FIFO"):
        READERS[name](run)


def test_links_in_a_run_s_folder_are_not_followed_for_writing(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    precious = outside / "precious"
    precious.write_text("years of work")
    for name in (runs.WEIGHTS, runs.METRICS, runs.TIMINGS, runs.REPORT, runs.COMPONENTS, runs.RECIPE, "report.md"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(precious)
    for name in (runs.PREDICTIONS, runs.CHECKPOINTS, "assets"):
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).symlink_to(outside)
    (outside / "12345678-asset").write_text("not ours")
    train(run, fusion="product", overwrite=True)
    assert precious.read_text() == "years of work"
    assert sorted(path.name for path in outside.iterdir()) == ["12345678-asset", "precious"]
    assert not any(path.is_symlink() for path in run.rglob("*"))
    assert mmreg.load(run, "cpu").evaluate(toys.rows(), split="test")["rows"] == 40


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("x")
    (tmp_path / "run" / runs.LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="symbolic link"):
        train(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "x"


@pytest.mark.parametrize("report", ["7", "{", "[" * 100_000])
def test_a_damaged_report_keeps_no_training_from_going_on(tmp_path: Path, report: str) -> None:
    (tmp_path / "report.json").write_text(report)
    runs.mark_continued(tmp_path)
    assert (tmp_path / "report.json").read_text() == report
