"""The page of a run holds all there is to know of it, by itself, and nothing in a table becomes markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import sys
import wave
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import LABELS, TEXT
from PIL import Image
from small import call

import mmreg
from mmreg.errors import RunError
from mmreg_report import callback
from mmreg_report.comparison import differing
from mmreg_report.inputs import picture_file, wav
from mmreg_report.intervals import bootstrap_intervals
from mmreg_report.sections.probabilities import calibration_bins, curve_charts
from mmreg_report.sections.subsets import measured_subsets
from mmreg_report.spectrogram import spectrogram
from mmreg_report.subject import Target, loaded
from mmreg_report.writing import write_report


class Seen(HTMLParser):
    """Elements, attributes and texts of a page, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def seen(hostile_page: Path) -> Seen:
    return Seen(hostile_page.read_text(encoding="utf-8"))


def test_nothing_of_a_table_becomes_markup(seen: Seen) -> None:
    assert seen.elements["script"] == 1
    assert not {"i", "u", "iframe", "object", "link", "form"} & set(seen.elements)
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    sources = [value for _, name, value in seen.attributes if name in ("src", "href", "srcset", "action")]
    assert all(value.startswith(("data:image/png;", "data:audio/wav;", "#")) for value in sources)
    texts = "".join(seen.texts)
    assert all(label in texts for label in LABELS)
    assert TEXT.strip() in texts
    assert "Run run<b>&" in texts


def test_the_page_allows_no_request_and_no_other_script(hostile_page: Path, seen: Seen) -> None:
    policy = next(value for _, name, value in seen.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    script = re.search("<script>(.*)</script>\n?</body>", hostile_page.read_text(encoding="utf-8"), re.DOTALL)
    assert script is not None
    own = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{own}'" in policy
    assert hostile_page.stat().st_size < 5_000_000


def test_all_sections_are_there_and_none_failed(seen: Seen) -> None:
    texts = "".join(seen.texts)
    assert "could not be told" not in texts
    sections = ("Model", "Data", "Learning curves", "Figures", "Classes", "Probabilities", "Rows", "Origin")
    links = {value for _, name, value in seen.attributes if name == "href"}
    assert len(links) == len(sections) + 3  # and the others below
    assert all(
        title in seen.texts
        for title in (*sections, "What each modality contributes", "Map of the rows", "Which modality decided")
    )
    for told in ("image_cnn", "always ", "Confusion matrix (test rows)", "mmreg train", "epochs: 2", "gone<u>.wav"):
        assert told in texts
    assert seen.elements["audio"] > 3
    assert seen.elements["img"] > 6


def test_rows_are_shown_with_what_the_model_was_given(hostile: Path, hostile_page: Path) -> None:
    page = hostile_page.read_text(encoding="utf-8")
    subject = loaded(hostile, "cpu")
    pictures = re.findall('<img src="data:image/png;base64,([^"]*)" alt="the picture image">', page)
    known = subject.measured
    every = np.arange(len(known.table))  # also training's, of the examples
    stored = {bytes(np.ascontiguousarray(a)) for a in known.prepared["image"].arrays(every)}
    for text in pictures:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        assert pixels.transpose(2, 0, 1).tobytes() in stored
    sound = re.search('<audio src="data:audio/wav;base64,([^"]*)"', page)
    assert sound is not None
    with wave.open(io.BytesIO(base64.b64decode(sound[1]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, 800)
    assert "<em>absent</em>" in page


def test_wrong_rows_are_in_the_order_of_their_probability(hostile: Path, hostile_page: Path) -> None:
    rows = re.findall(r"<tr><th scope=\"row\"><span data-pair=\"/(\d)/(\d)\">.*?</tr>", hostile_page.read_text("utf-8"))
    predictions = json.loads((hostile / "report.json").read_text())["test"]["metrics"]["confusion"]
    wrong = [pair for pair in rows if pair[0] != pair[1]]
    assert len(wrong) == sum(map(sum, predictions)) - sum(predictions[k][k] for k in range(3))
    assert Counter(wrong) == Counter(
        (str(i), str(j)) for i in range(3) for j in range(3) if i != j for _ in range(predictions[i][j])
    )


def test_each_subset_is_measured_as_the_robustness_command_does(hostile: Path) -> None:
    from mmreg.studies.robustness import evaluate_robustness

    subject = loaded(hostile, "cpu")
    assert subject.run is not None
    theirs = evaluate_robustness(subject.run, missing=True)["subsets"]
    own = measured_subsets(subject)
    assert [row["modalities"] for row in own] == [" + ".join(each["modalities"]) for each in theirs]
    assert [row["accuracy"] for row in own] == [each["metrics"]["accuracy"] for each in theirs]
    without = [each.get("rows_without_any_modality", 0) for each in theirs]
    assert any(without)
    assert [row.get("without any", 0) for row in own] == without


def test_without_its_table_the_page_says_so_and_tells_what_the_folder_holds(hostile: Path, tmp_path: Path) -> None:
    shutil.copytree(hostile.parent, tmp_path / "moved")
    run = tmp_path / "moved" / hostile.name
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    components = json.loads((run / "components.json").read_text(encoding="utf-8"))
    assert str(hostile.parent) in recipe
    # A run names its table by the path that it had; it is gone there.
    from mmreg.run_files.facts import CHECKSUM, facts_checksum, text_hash

    recipe = recipe.replace(str(hostile.parent), str(tmp_path / "nowhere"))
    (run / "recipe.yaml").write_text(recipe, encoding="utf-8")
    components.pop(CHECKSUM)
    components["recipe"] = text_hash(recipe)
    components[CHECKSUM] = facts_checksum(components)
    (run / "components.json").write_text(json.dumps(components), encoding="utf-8")
    texts = "".join(Seen(write_report([run], device="cpu").read_text(encoding="utf-8")).texts)
    assert "The table is not at hand as it was at training" in texts
    assert "Confusion matrix (test rows)" in texts
    assert "Most confident wrong rows" in texts
    assert "Figures by what the model is given" not in texts
    assert "could not be told" not in texts


def test_figures_from_the_folder_equal_those_that_are_predicted_anew(hostile: Path) -> None:
    with_table, without = loaded(hostile, "cpu"), loaded(hostile, "cpu", rows=False)
    assert with_table.keys == without.keys
    assert with_table.key == without.key == "id"
    assert with_table.scores is not None and without.scores is not None  # noqa: PT018 (one thought)
    torch.testing.assert_close(with_table.scores, without.scores, rtol=1e-4, atol=1e-5)
    assert with_table.targets is not None
    assert torch.equal(with_table.targets, without.targets)


def target(chances: list[float], classes: list[int]) -> Target:
    """A target of two classes of which the second one has these probabilities."""
    from mmreg_tasks.classification import Classification

    task = Classification()
    task.fit(["a", "b"])
    p = torch.tensor(chances, dtype=torch.float64)
    scores = torch.stack([1 - p, p], 1).log().float()
    return Target("", task, scores, torch.tensor(classes), np.arange(len(chances)))


def test_calibration_compares_what_was_told_with_what_came_true() -> None:
    bins = calibration_bins(target([0.95, 0.95, 0.95, 0.95, 0.35, 0.35], [1, 1, 1, 0, 0, 1]))
    assert bins == [
        {"probability": pytest.approx(0.65), "right": 0.5, "rows": 2},
        {"probability": pytest.approx(0.95), "right": 0.75, "rows": 4},
    ]


def test_curves_have_the_areas_that_scikit_learn_gives() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 80)
    chances = (0.3 * truth + 0.7 * random.random(80)).clip(0.01, 0.99).round(1)  # so that there are ties
    roc, precision = curve_charts(target(chances.tolist(), truth.tolist()))
    assert [series.name for series in roc.series] == ["", f"b (area {metrics.roc_auc_score(truth, chances):.3f})"]
    assert precision.series[0].name == f"b (area {metrics.average_precision_score(truth, chances):.3f})"


def test_intervals_hold_about_the_spread_of_a_share() -> None:
    right = target([0.9] * 75 + [0.1] * 25, [1] * 100)
    value, (low, high) = bootstrap_intervals(right.task, right.scores, right.targets)["accuracy"]
    assert value == 0.75
    deviation = (0.75 * 0.25 / 100) ** 0.5
    assert low == pytest.approx(0.75 - 1.96 * deviation, abs=0.02)
    assert high == pytest.approx(0.75 + 1.96 * deviation, abs=0.02)


def test_accuracy_has_one_interval_alone(hostile: Path, hostile_page: Path) -> None:
    page = hostile_page.read_text(encoding="utf-8")
    own = page[page.index("95% intervals (") :].partition("</table>")[0]
    assert re.findall(r'<th scope="row">(\w+)</th>', own) == ["precision", "recall", "f1"]
    low, high = json.loads((hostile / "report.json").read_text())["test"]["metrics"]["intervals"]["accuracy"]
    assert f"{low:.3g} to {high:.3g}" in page


def test_examples_of_training_rows_stand_beside_the_counts(hostile_page: Path) -> None:
    page = hostile_page.read_text(encoding="utf-8")
    table = page[page.index("Examples (train rows)") :].partition("</table>")[0]
    assert len(re.findall("<tr>", table)) == 1 + 3  # one of each class
    assert "data:image/png" in table
    assert page.index("Examples (train rows)") < page.index(">Learning curves</h2>")


def test_of_thousands_of_classes_no_rows_are_drawn_anew() -> None:
    right = target([0.9] * 4, [1] * 4)
    assert bootstrap_intervals(right.task, torch.zeros(4, 5000), torch.zeros(4, dtype=torch.int64)) == {}


def test_pictures_are_made_small_and_sounds_keep_within_their_range() -> None:
    file, kind = picture_file(np.full((1, 300, 600), 77, np.uint8))
    picture = Image.open(io.BytesIO(file))
    assert (kind, picture.size) == ("image/jpeg", (120, 60))
    assert set(np.asarray(picture).reshape(-1)) == {77}
    with wave.open(io.BytesIO(wav(np.array([0.0, 2.0, -2.0, np.nan]), 8000))) as file:
        assert np.frombuffer(file.readframes(4), "<i2").tolist() == [0, 32767, -32767, 0]


def test_inputs_that_there_is_no_room_for_are_counted(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["mmreg_report.sections.rows"], "MOST_BYTES", 20_000)
    monkeypatch.setattr(sys.modules["mmreg_report.sections.data"], "EXAMPLE_BYTES", 0)
    page = write_report([hostile], tmp_path / "small.html", "cpu")
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\d+ inputs are not shown, as the file would become too large", text)
    assert sum(map(len, re.findall('src="(data:[^"]*)"', text))) <= 20_000


def test_a_spectrogram_is_brightest_at_the_tones_frequency() -> None:
    grid = spectrogram(np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000))
    assert grid.shape[0] == 1
    height = grid.shape[1]
    brightest = height - 1 - int(grid[0].mean(1).argmax())
    assert brightest / height == pytest.approx(1000 / 4000, abs=0.02)
    assert spectrogram(np.zeros(3)).shape[1] == height


def test_a_training_writes_the_page_of_what_is_at_hand(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = mmreg.load(hostile, "cpu")
    run.folder = tmp_path / "run"
    shutil.copytree(hostile, run.folder)
    monkeypatch.setattr(mmreg.Run, "predict_rows", None)  # nothing is computed anew
    callback.ReportWriter().on_end(run, {})
    texts = "".join(Seen((run.folder / "report.html").read_text(encoding="utf-8")).texts)
    assert "could not be told" not in texts
    for told in ("Confusion matrix (test rows)", "Most confident wrong rows", "Expected calibration error"):
        assert told in texts
    callback.ReportWriter().on_start(run, {})
    assert not (run.folder / "report.html").exists()


def test_the_command_writes_into_the_runs_folder_or_where_it_is_told(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(hostile, tmp_path / "run")
    called = call(monkeypatch, capsys, "report", str(tmp_path / "run"), "--no-rows", "--device", "cpu")
    assert called.code == 0
    assert called.out.startswith(str(tmp_path / "run" / "report.html"))
    called = call(monkeypatch, capsys, "report", str(hostile), "--out", str(tmp_path / "run"), "--device", "cpu")
    assert called.code != 0
    assert "is a folder; name a file by --out" in called.err
    called = call(monkeypatch, capsys, "report", str(tmp_path / "none"), "--device", "cpu")
    assert called.code != 0
    assert "there is no run folder" in called.err


def test_keys_that_differ_are_told_without_those_below_what_only_some_have() -> None:
    one = {"fusion": {"name": "sum", "lr": 1.0, "own": 3}, "training": {"epochs": 1, "seed": 0}, "inputs": {"a": 1}}
    two = {"fusion": {"name": "mean", "lr": 2.0}, "training": {"epochs": 2, "seed": 0}, "inputs": {"b": {"type": "x"}}}
    assert list(differing([one, two])) == [
        ("fusion.name", ["sum", "mean"]),
        ("fusion.lr", ["1.0", "2.0"]),
        ("training.epochs", ["1", "2"]),
        ("inputs.a", ["1", ""]),
        ("inputs.b", ["", "x"]),
    ]


def test_several_runs_are_compared_on_the_same_rows(hostile: Path, tmp_path: Path) -> None:
    shutil.copytree(hostile, tmp_path / "same")
    mmreg.train(hostile.parent / "recipe.yaml", tmp_path / "mean", overrides=["fusion=mean"], device="cpu")
    page = write_report([hostile, tmp_path / "same", tmp_path / "mean"], tmp_path / "out.html", "cpu")
    text = page.read_text(encoding="utf-8")
    texts = "".join(Seen(text).texts)
    assert "Comparison of run<b>&, same, mean" in texts
    pairs = text[text.index("Differences in accuracy") :].partition("</table>")[0]
    assert '<th scope="row">run&lt;b&gt;&amp;</th><td>same</td><td class="n">0</td><td class="n">0</td>' in pairs
    keys = text[text.index('<h2 id="section-3-title">') :]
    assert '<th scope="row">fusion.name</th>' in keys
    assert '<th scope="row">training.seed</th>' not in keys


@pytest.mark.parametrize("told", ["{}", '{"epochs": "x"}', '{"epochs": 1, "steps": 1, "best": {"epoch": 1}}'])
def test_a_report_that_says_something_else_is_told_as_damaged(hostile: Path, tmp_path: Path, told: str) -> None:
    shutil.copytree(hostile, tmp_path / "run")
    (tmp_path / "run/report.json").write_text(told)
    with pytest.raises(RunError, match=r"measured cannot be read: .*mmreg evaluate .* measures it anew"):
        write_report([tmp_path / "run"], tmp_path / "page.html", "cpu", rows=False)
    assert not (tmp_path / "page.html").exists()


def test_no_file_but_a_page_is_replaced(hostile: Path, tmp_path: Path) -> None:
    shutil.copytree(hostile, tmp_path / "run")
    weights = tmp_path / "run/model.safetensors"
    before = weights.read_bytes()
    with pytest.raises(RunError, match=r"model.safetensors is there and is no page: it is left as it is; name another"):
        write_report([tmp_path / "run"], weights, "cpu", rows=False)
    assert weights.read_bytes() == before
    page = tmp_path / "page.html"
    page.touch()
    for _ in range(2):  # an empty file, and a page
        assert write_report([tmp_path / "run"], page, "cpu", rows=False) == page
