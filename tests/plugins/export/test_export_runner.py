"""What the runner beside an ONNX file predicts is what the run does, in a process without torch and mmreg."""

from __future__ import annotations

import csv
import io
import json
import os
import pickletools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from export_components import AUDIO, CNN, IMAGE, RNN, TABULAR, VECTOR
from export_runs import export_table, trained_run
from PIL import Image

import mmreg
from mmreg.errors import RunError
from mmreg_export import command, runtime
from mmreg_export.decoding import OPTIONS, RUNTIME, undecodable
from mmreg_export.export import Exported, export

BLOCKED = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "torchaudio", "torchtext", "mmreg", "mmreg_export"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
runner, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_path(runner, run_name="__main__")
"""
MODALITIES = {
    "image": {**IMAGE, "size": [12, 20], "resize": "pad"},
    "title": {
        "type": "text",
        "column": "title",
        "tokenizer": "wordpiece",
        "vocabulary_size": 60,
        "encoder": "text_cnn",
    },
    "audio": {**AUDIO, "sample_rate": 6000, "encoder": CNN},
    "columns": {**TABULAR, "encoder": "tabular_mlp"},
    "vector": VECTOR,
}
"""Each kind that the runner decodes but series; the titles of some rows are absent."""


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    pytest.importorskip("onnxscript")
    return trained_run(table, tmp_path_factory.mktemp("bundle") / "run", MODALITIES, "concat")


@pytest.fixture(scope="module")
def bundle(run: mmreg.Run, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pytest.importorskip("onnxruntime")
    return export(run, "onnx", tmp_path_factory.mktemp("exported") / "model.onnx", runner=True, int8=True)


@pytest.fixture(scope="module")
def small_bundle(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """For what is told before a network computes: three of the inputs, and no int8 file."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("small")
    modalities = {name: MODALITIES[name] for name in ("image", "title", "columns")}
    modalities["title"] = {**modalities["title"], "tokenizer": "char"}
    return export(trained_run(table, folder / "run", modalities, "mean"), "onnx", folder / "model.onnx", runner=True)


def alike(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """The same columns in the same order; figures to 1e-4."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == list(other)
        for name, value in other.items():
            if isinstance(value, float):
                assert float(one[name]) == pytest.approx(value, abs=1e-4), name
            else:
                assert str(one[name]) == str(value)


@pytest.mark.slow
def test_a_process_without_torch_and_mmreg_predicts_what_the_run_does(
    run: mmreg.Run, bundle: Exported, table: Path
) -> None:
    assert sorted(path.name for path in bundle.file.parent.iterdir()) == [
        *("model.int8.onnx", "model.int8.onnx.json", "model.onnx", "model.onnx.json", "runner.py"),
    ]
    assert bundle.runner is not None
    assert bundle.runner.read_bytes() == RUNTIME.read_bytes()
    called = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(bundle.runner), str(table)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert called.returncode == 0, called.stderr
    alike(list(csv.DictReader(io.StringIO(called.stdout))), run.predict(table))


@pytest.mark.slow
def test_rows_of_any_absence_are_predicted_from_python(
    run: mmreg.Run, bundle: Exported, table: Path, tmp_path: Path
) -> None:
    model = runtime.Model(bundle.file.parent)
    pixels = np.random.default_rng(1).integers(0, 256, (9, 30, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    rows: list[dict[str, Any]] = [
        {"image": str(tmp_path / "own.png"), "title": "Ein röter thing 漢", "a": 0.5, "b": "x"},
        {"title": "red", "image": None, "vector": [1, 2, 0, 1]},
        {"audio": {"array": np.sin(np.arange(900) / 3), "sampling_rate": 9000}, "title": ""},
        {"a": float("nan"), "b": None},
        {"image": (tmp_path / "own.png").read_bytes()},
    ]
    wanted = [answer for row in rows for answer in run.predict(row)]
    for number, answer in enumerate(wanted, 1):
        answer["row"] = number
    alike(model.predict(rows), wanted)
    alike(model.predict(rows, batch_size=2), wanted)
    assert model.predict(rows[3])[0]["modalities"] == ""
    with pytest.raises(ValueError, match=r"row 1, image: .*nowhere\.png"):
        model.predict({"image": "nowhere.png"})


@pytest.mark.slow
def test_the_int8_file_is_smaller_and_its_accuracy_stands_in_its_description(
    run: mmreg.Run, bundle: Exported, table: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    assert bundle.int8 is not None
    facts = json.loads(bundle.int8.with_name("model.int8.onnx.json").read_text())
    figures = facts["int8"]
    assert figures == bundle.measured
    assert figures["int8"]["bytes"] == bundle.int8.stat().st_size < figures["float32"]["bytes"] / 2
    quantised = [
        each.name for each in onnx.load(str(bundle.int8)).graph.initializer if each.name.endswith("_quantized")
    ]
    assert quantised
    assert all(name.startswith("model.") for name in quantised)  # nothing of what makes a spectrogram, say
    told = run.evaluate(split="test")
    assert (figures["split"], figures["rows"], figures["metric"]) == ("test", told["rows"], "accuracy")
    assert figures["float32"]["value"] == pytest.approx(told["metrics"]["accuracy"])
    rows = runtime.read_rows(table)
    predicted = runtime.Model(bundle.int8).predict(rows, table.parent)
    labels = [(one["label"], row["label"]) for one, row in zip(predicted, rows, strict=True) if row["split"] == "test"]
    assert figures["int8"]["value"] == pytest.approx(np.mean([one == other for one, other in labels]))
    assert facts["file"] == "model.int8.onnx"


@pytest.mark.slow
def test_nothing_in_the_bundle_is_a_pickle(bundle: Exported) -> None:
    for path in bundle.file.parent.iterdir():
        with pytest.raises(Exception, match=r".+"):
            list(pickletools.genops(path.read_bytes()))


def test_the_examples_in_the_docs_run(trained: Any, tmp_path: Path) -> None:
    """With a run of the inputs that they name, exported as they say."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    title = {"type": "text", "column": "title", "encoder": {**RNN, "cell": "rnn", "bidirectional": False}}
    run = trained(
        {"image": {**IMAGE, "size": 64}, "title": {**title, "encoder": "text_cnn", "tokenizer": "char"}}, "mean"
    )
    export(run, "onnx", tmp_path / "mine.onnx", runner=True)
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(tmp_path / "cat.png")
    page = (Path(mmreg.__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    scripts = [part.partition("```")[0] for part in page.split("```python\n")[1:]]
    assert len(scripts) == 2
    paths = {"mine.onnx": str(tmp_path / "mine.onnx"), "cat.png": str(tmp_path / "cat.png"), '"exported"': "folder"}
    names: dict[str, Any] = {"folder": tmp_path, "Model": runtime.Model}
    for script in scripts:
        for name, path in paths.items():
            script = script.replace(name, path)
        exec(script.replace("from runner import Model\n", ""), names)
    assert names["probabilities"].shape == (2, 3)
    told = run.predict([{"image": str(tmp_path / "cat.png"), "title": "a cat"}, {"title": "a dog"}])
    alike(names["predictions"], told)


def test_modalities_that_it_cannot_decode_are_refused_by_name_before_work_starts() -> None:
    given = {
        "clip": {"type": "mmreg:video"},
        "days": {"type": "mmreg:series", "time": None},
        "own": {"type": "toys:picture"},
        "title": {"type": "mmreg:text"},
    }
    fitted = dict.fromkeys(given, SimpleNamespace(state=lambda: {"names": ["a"]}))
    run: Any = SimpleNamespace(
        model=SimpleNamespace(modalities=list(given)), recipe={"modalities": given}, modalities=fitted
    )
    clip, days, own = undecodable(run)
    assert clip.startswith("modality clip: video is none that it decodes, which are image, audio, text")
    assert days.startswith("modality days: its series are table files")
    assert own.startswith("modality own: toys:picture is none")


def test_a_refusal_names_what_exports_without_it(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained({"vector": VECTOR})
    monkeypatch.setattr("mmreg_export.decoding.OPTIONS", {})
    told: list[str] = []
    with pytest.raises(RunError, match=r"cannot decode modality vector: .*; --no-runner exports without it"):
        export(run, "onnx", tmp_path / "model.onnx", told.append, runner=True)
    assert not told
    assert not list(tmp_path.glob("model*"))


def test_every_modality_that_is_decoded_has_a_decoder() -> None:
    assert set(runtime.DECODERS) == set(OPTIONS)


def test_the_runner_imports_neither_torch_nor_mmreg() -> None:
    code = (
        f"import sys, runpy; runpy.run_path({str(RUNTIME)!r}); "
        "sys.exit(bool({'torch', 'mmreg', 'mmreg_export', 'onnxruntime', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_mistakes_are_told_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("a,b\n1,2\n")
    for arguments, told in (
        ([table, "--model", tmp_path], "has no .onnx file"),
        ([table, "--model", tmp_path / "gone.onnx"], "gone.onnx.json, which says what gone.onnx takes"),
        ([tmp_path / "rows.xlsx", "--model", tmp_path], "no .onnx file"),
    ):
        monkeypatch.setattr(sys, "argv", ["runner.py", *map(str, arguments)])
        assert runtime.main() == 2
        assert told in capsys.readouterr().err
    (tmp_path / "model.onnx.json").write_text("{}")
    with pytest.raises(runtime.RunnerError, match="exported without a runner"):
        runtime.Model(tmp_path / "model.onnx")
    for name, text, message in (
        ("a.txt", "", r"a \.csv"),
        ("b.csv", "a,b\n1\n", "more or fewer cells"),
        ("twice.csv", "a,b,a\n1,2,3\n", r"twice\.csv: more than one column is called 'a'; rename them"),
        ("twice.jsonl", '{"a": 1, "a": 2}\n', r"twice\.jsonl, line 1: more than one column is called 'a'"),
        ("empty.csv", "", r"empty\.csv has no rows"),
        ("header.csv", "a,b\n", r"header\.csv has no rows"),
        ("empty.jsonl", "\n", r"empty\.jsonl has no rows"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(runtime.RunnerError, match=message):
            runtime.read_rows(tmp_path / name)


def test_of_a_folder_with_an_8_bit_file_the_runner_takes_the_exact_one(small_bundle: Exported, tmp_path: Path) -> None:
    def copy(name: str) -> None:
        for ending in ("", ".json"):
            (tmp_path / f"{name}{ending}").write_bytes(Path(f"{small_bundle.file}{ending}").read_bytes())

    copy("mine.onnx")
    wanted = runtime.Model(tmp_path / "mine.onnx").predict({"title": "red"})
    (tmp_path / "mine.int8.onnx").write_bytes(b"not this one")
    assert runtime.Model(tmp_path).predict({"title": "red"}) == wanted
    copy("other.onnx")
    with pytest.raises(runtime.RunnerError, match=r"name one \(--model\): .*mine\.onnx, .*other\.onnx"):
        runtime.Model(tmp_path)


def test_damaged_files_of_a_model_are_told(small_bundle: Exported, tmp_path: Path) -> None:
    described = tmp_path / "model.onnx.json"
    for text in ("[1]", "null", '{"decoding": [{}]}', "[" * 100_000, '{"decoding"'):
        described.write_text(text)
        with pytest.raises(runtime.RunnerError, match=r"model.onnx.json is damaged, copy it again"):
            runtime.Model(tmp_path / "model.onnx")
    facts = json.loads((small_bundle.file.parent / described.name).read_text())
    described.write_text(json.dumps(facts))
    with pytest.raises(runtime.RunnerError, match=r"model.onnx cannot be loaded, copy it again"):
        runtime.Model(tmp_path / "model.onnx")
    whole = small_bundle.file.read_bytes()
    flipped = whole[:-9] + bytes(each ^ 1 for each in whole[-9:])
    for known, told in ((facts, "is damaged, or not the file that model.onnx.json tells of"), ({}, "cannot be loaded")):
        described.write_text(json.dumps({"decoding": facts["decoding"], **known}))
        for content in (b"", whole[:2000], flipped)[: 3 if known else 2]:
            (tmp_path / "model.onnx").write_bytes(content)
            with pytest.raises(runtime.RunnerError, match=rf"model.onnx {told}"):
                runtime.Model(tmp_path)


def test_rows_that_are_none_are_told(small_bundle: Exported) -> None:
    model = runtime.Model(small_bundle.file)
    with pytest.raises(runtime.RunnerError, match="row 2 has no columns: it is a list"):
        model.predict([{"title": "a"}, [1]])  # type: ignore[list-item]
    with pytest.raises(runtime.RunnerError, match="the rows at a time must be 1 or more, found -1"):
        model.predict([{"title": "a"}], batch_size=-1)
    with pytest.raises(runtime.RunnerError, match="row 1, columns: "):
        model.predict([{name: {"a": 1} for name in TABULAR["columns"]}])
    if os.name == "posix":
        with pytest.raises(runtime.RunnerError, match="row 1, image: /dev/zero is no file"):
            model.predict([{"image": "/dev/zero"}])


def test_a_bad_cell_is_told_with_its_row_its_column_and_its_value(small_bundle: Exported, tmp_path: Path) -> None:
    model = runtime.Model(small_bundle.file)
    for value, told in (
        ([1], r"\[1\] is no number"),
        ({"a": 1}, r"\{'a': 1\} is no number"),
        ("abc", "'abc' is no number"),
        (list(range(999)), r"\[0, 1, .{40,50}\.\.\. is no number"),
    ):
        with pytest.raises(runtime.RunnerError, match=rf"^row 1, columns: a: {told}$"):
            model.predict([{"a": value}])
    with pytest.raises(runtime.RunnerError, match=r"^row 1, columns: b: \['x'\] is no category$"):
        model.predict([{"b": ["x"]}])
    (tmp_path / "text.png").write_bytes(b"no picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    for name, told in (
        ("text.png", r"no picture in any known format \(10 bytes, from b'no pictu'\)"),
        ("cut.png", "a damaged"),
    ):
        with pytest.raises(runtime.RunnerError, match=rf"^row 1, image: .*{name}: {told}"):
            model.predict([{"image": name}], tmp_path)
    model.facts["decoding"] = [
        {**each, "modality": "photo"} for each in model.facts["decoding"] if each["kind"] == "image"
    ]
    model._decoders["photo"] = model._decoders["image"]
    with pytest.raises(runtime.RunnerError, match=r"^row 1, photo \(column image\): no picture in any"):
        model.predict([{"image": b"none"}])


def test_tables_of_long_and_odd_texts_are_read(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(f"title\n{'a' * 200_000}\n")
    assert len(runtime.read_rows(tmp_path / "long.csv")[0]["title"]) == 200_000
    (tmp_path / "odd.jsonl").write_text('{"title": "one\u2028two"}\n', encoding="utf-8")
    assert runtime.read_rows(tmp_path / "odd.jsonl") == [{"title": "one\u2028two"}]
    (tmp_path / "deep.jsonl").write_text("{}\n" + "[" * 100_000)
    with pytest.raises(runtime.RunnerError, match=r"deep.jsonl, line 2: "):
        runtime.read_rows(tmp_path / "deep.jsonl")
    (tmp_path / "latin.csv").write_bytes(b"title\n\xff\n")
    with pytest.raises(runtime.RunnerError, match=r"latin.csv: .*utf-8"):
        runtime.read_rows(tmp_path / "latin.csv")


def test_columns_that_a_table_lacks_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"decoding": [{"columns": ["x", "y"]}]}
    with pytest.raises(runtime.RunnerError, match="the table has none of the columns x, y; it has a, b"):
        runtime.check_columns(facts, [{"a": 1, "b": 2}])
    runtime.check_columns(facts, [{"a": 1}, {"x": 2}])
    assert capsys.readouterr().err == "note: the table has no column 'y'; it counts as absent in every row\n"
    runtime.check_columns(facts, [])


@pytest.mark.slow
def test_rows_with_files_that_are_gone_are_left_out_of_what_8_bits_cost(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    table = export_table(tmp_path)
    trained_run(table, tmp_path / "run", {"image": IMAGE})
    with table.open(newline="") as file:
        tested = [row["image"] for row in csv.DictReader(file) if row["split"] == "test"]
    (tmp_path / tested[0]).write_bytes(b"no picture")
    wanted = [tmp_path / "run", "--format", "onnx", "--no-runner", "--int8", "--on-bad", "skip", "--out"]
    done = CliRunner().invoke(command.app, [*map(str, wanted), str(tmp_path / "model.onnx")])
    assert done.exit_code == 0, done.exception
    assert json.loads((tmp_path / "model.int8.onnx.json").read_text())["int8"]["rows"] == len(tested) - 1


def test_options_of_onnx_are_refused_of_another_format_and_another_s_file_is_kept(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    def refused(*arguments: object) -> str:
        return str(CliRunner().invoke(command.app, list(map(str, arguments))).exception)

    for option in ("--int8", "--no-runner"):
        assert f"{option} belongs to --format onnx" in refused(tmp_path, option)
    assert "--on-bad belongs to --int8" in refused(tmp_path, "--on-bad", "skip")
    pytest.importorskip("onnxscript")
    (tmp_path / "runner.py").write_text("mine")
    told = refused(tmp_path, "--format", "onnx", "--out", tmp_path / "model.onnx")
    assert "is another file than the runner; replace it by --overwrite" in told
    assert (tmp_path / "runner.py").read_text() == "mine"
    for name in ("model.onnx.json", "model.int8.onnx.json"):
        (tmp_path / "runner.py").unlink(missing_ok=True)
        (tmp_path / name).write_text("mine")
        told = refused(tmp_path, "--format", "onnx", "--int8", "--out", tmp_path / "model.onnx")
        assert f"{name}' is there already; replace it by --overwrite" in told
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
