"""Series from lists and files: channels, even steps, what is missing, and what is refused.

Axes: T time, C channels.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

import mmreg
from mmreg import Signal, Spec
from mmreg.errors import MmregError, OptionError, ValueLoadError
from mmreg_vector.series import Series, resampled

NAN = float("nan")


def fitted(values: list[Any], **options: Any) -> Series:
    modality = Series(**options)
    modality.fit_values(iter(values))
    modality.fit_arrays(iter([modality.load(value) for value in values]))
    return modality


def csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_all_forms_of_a_series_are_read_alike(tmp_path: Path) -> None:
    rows = [[1.0, 5.0], [2.0, NAN], [4.0, 7.0]]
    np.save(tmp_path / "s.npy", np.array(rows))
    pq.write_table(pa.table({"a": [1.0, 2.0, 4.0], "b": [5.0, None, 7.0]}), tmp_path / "s.parquet")
    forms = [
        rows,
        [[1, 5], [2, None], [4, 7]],
        np.array(rows),
        tmp_path / "s.npy",
        tmp_path / "s.parquet",
        csv(tmp_path / "s.csv", "a,b\n1,5\n2,\n4,7\n"),
    ]
    for form in forms:
        found = fitted([form]).load(form)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array(rows, np.float32))
    assert fitted([[1, 2, 3]]).load([4, 5]).tolist() == [[4.0], [5.0]]


def test_files_have_the_channels_of_the_first_one_or_those_that_are_named(tmp_path: Path) -> None:
    first = csv(tmp_path / "1.csv", "a,b,name\n1,2,x\n3,4,y\n")
    other = csv(tmp_path / "2.csv", "b,a\n20,10\n")
    lacking = csv(tmp_path / "3.csv", "a,c\n1,2\n")
    more = csv(tmp_path / "4.csv", "c,a,b\n1,2,3\n")
    modality = fitted([first])
    assert modality.load(other).tolist() == [[10.0, 20.0]]
    with pytest.raises(ValueLoadError, match=r"3\.csv has no column 'b'; it has a, c"):
        modality.load(lacking)
    assert fitted([first], channels=["b"]).load(more).tolist() == [[3.0]]
    with pytest.raises(ValueLoadError, match=r"4\.csv has c besides a, b, which the first file"):
        modality.load(more)
    assert fitted([first], channels=["b"]).load(other).tolist() == [[20.0]]
    with pytest.raises(ValueLoadError, match=r"it has 3 channels, where 2 \(a, b\) are needed"):
        modality.load([[1, 2, 3]])
    with pytest.raises(OptionError, match=r"several numbers of channels: 1 \(1 row\), 2 \(1 row\)"):
        Series().fit_values(iter([[1, 2], [[1, 2]]]))
    with pytest.raises(OptionError, match="no training row holds a series"):
        Series().fit_values(iter([]))
    with pytest.raises(MmregError, match="the channels are not known yet"):
        _ = Series().spec


def test_what_is_missing_is_zero_and_told_by_further_channels() -> None:
    modality = fitted([[[1, 10], [3, NAN]], [[5, 30]]])
    assert modality.stored == Spec("TC", (None, 2))
    assert modality.spec == Spec("TC", (None, 4))
    values = torch.tensor([[[3.0, NAN], [5.0, 20.0]]])
    found = modality.transform(Signal(values), training=False).values
    deviation = np.std([1, 3, 5])
    assert found[0].tolist() == [[0.0, 0.0, 0.0, 1.0], [pytest.approx(2 / deviation), 0.0, 0.0, 0.0]]
    assert fitted([[1.0, 2.0]]).spec == Spec("TC", (None, 1))


def test_mean_and_deviation_are_over_what_is_there() -> None:
    random = np.random.default_rng(0)
    arrays = [random.normal(1e3, [1, 3], (length, 2)) for length in (5, 1, 9)]
    arrays[0][2, 1] = arrays[2][0, 0] = NAN
    state = fitted(arrays).state()
    together = np.concatenate(arrays)
    np.testing.assert_allclose(state["mean"], np.nanmean(together, 0), rtol=1e-6)
    np.testing.assert_allclose(state["deviation"], np.nanstd(together, 0), rtol=1e-3)
    other = Series()
    other.load_state(json.loads(json.dumps(state)))
    assert other.spec == fitted(arrays).spec
    gone = fitted([[[1, NAN]], [[2, NAN]]])
    assert gone.state()["deviation"][1] == 1.0


def test_uneven_times_become_even_steps_by_interpolation() -> None:
    times = np.array([10.0, 14.0, 11.0, 11.0])  # 11 twice: the last one counts
    values = np.array([[0.0], [7.0], [99.0], [1.0]], np.float32)
    assert resampled(values, times, 1.0, None, 100).ravel().tolist() == [0.0, 1.0, 3.0, 5.0, 7.0]
    assert resampled(values, times, 2.0, None, 100).ravel().tolist() == [0.0, 3.0, 7.0]
    assert resampled(values, times, 1.0, None, 2).ravel().tolist() == [0.0, 1.0]
    gaps = resampled(values, times, 1.0, 2.0, 100).ravel()
    np.testing.assert_array_equal(gaps, [0.0, 1.0, NAN, NAN, 7.0])
    assert resampled(values[:1], times[:1], 1.0, 2.0, 100).tolist() == [[0.0]]


def test_each_channel_is_interpolated_by_its_own_measurements() -> None:
    values = np.array([[0.0, NAN], [NAN, 5.0], [4.0, NAN]], np.float32)
    found = resampled(values, np.array([0.0, 1.0, 2.0]), 1.0, None, 100)
    np.testing.assert_array_equal(found, [[0.0, NAN], [2.0, 5.0], [4.0, NAN]])


@pytest.mark.parametrize("unit", ["seconds", "dates", "nanoseconds", "times"])
def test_the_times_of_a_file_are_seconds_or_dates_or_times(tmp_path: Path, unit: str) -> None:
    begin = datetime(2024, 1, 1, 7)
    at = [0.0, 1.5, 3.0]
    times: Any = [begin + timedelta(seconds=second) for second in at] if unit != "seconds" else at
    if unit == "nanoseconds":
        times = pa.array([int(second * 1e9) + 1 for second in at], pa.timestamp("ns"))
    elif unit == "times":
        times = [moment.time() for moment in times]
    pq.write_table(pa.table({"t": times, "x": [0.0, 3.0, 0.0]}), tmp_path / "s.parquet")
    modality = fitted([tmp_path / "s.parquet"], time="t", step=1.0)
    np.testing.assert_allclose(modality.load(tmp_path / "s.parquet").ravel(), [0, 2, 2, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.csv", "", "cannot be read"),
        ("words.csv", "a\nx\n", "has no column of numbers; it has a"),
        ("head.csv", "a\n", "has no column of numbers|holds no measurement"),
        ("ragged.csv", "a,b\n1\n", "cannot be read"),
        ("huge.csv", "a\n1e300\n", "'a' holds a number that is not finite in float32"),
        ("no.parquet", "not parquet", "cannot be read"),
        ("twice.csv", "v,v\n1,2\n", "has two columns 'v'"),
        ("gone.csv", None, "there is no such file"),
    ],
)
def test_a_file_that_is_no_series_is_refused(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueLoadError, match=message):
        Series(channels=None).load(path)


def test_options_that_need_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="name their column by time"):
        Series(step=1.0)
    with pytest.raises(OptionError, match="give step as well"):
        Series(time="t", max_gap=1.0)
    with pytest.raises(ValueLoadError, match="has no column 'when'"):
        Series(time="when").load(csv(tmp_path / "s.csv", "t,x\n1,2\n"))


def test_long_series_are_cut_and_it_is_told() -> None:
    modality = fitted([[1.0] * 9, [2.0] * 3], max_steps=5)
    assert len(modality.load([1.0] * 9)) == 5
    assert modality.notes(np.array([5, 3])) == ["1 of 2 series reaches max_steps: 5, where longer ones are cut"]


@pytest.mark.parametrize("encoder", ["series_cnn", "rnn", "patch_transformer", "transformer"])
def test_series_of_files_train_and_predict_from_the_run(tmp_path: Path, encoder: str) -> None:
    random = np.random.default_rng(0)
    lines = []
    for number in range(80):
        label = number % 2
        time = np.arange(20 + number % 7)
        wave = np.sin(time * (0.5 + label)) + 0.1 * random.normal(size=len(time))
        table = pa.table({"t": time, "x": wave, "y": [None if t % 5 == 0 else -w for t, w in enumerate(wave)]})
        file = f"{number}.{'csv' if number % 3 else 'parquet'}"
        pa.csv.write_csv(table, tmp_path / file) if number % 3 else pq.write_table(table, tmp_path / file)
        lines.append(f"{file},{'ab'[label]},{['train', 'train', 'validation', 'test'][number // 2 % 4]}")
    (tmp_path / "table.csv").write_text("\n".join(["series,label,split", *lines]))
    small = {
        "patch_transformer": {"hidden_size": 16, "patch": 4},
        "series_cnn": {"channels": 16, "num_blocks": 3},
        "rnn": {"hidden_size": 16, "num_layers": 1},
        "transformer": {"hidden_size": 16, "num_layers": 1},
    }
    recipe = {
        "table": str(tmp_path / "table.csv"),
        "split": "split",
        "target": {"column": "label"},
        "modalities": {
            "series": {"time": "t", "step": 1.0, "max_gap": 1.5, "encoder": {"name": encoder, **small[encoder]}}
        },
        "training": {"epochs": 10, "batch_size": 8, "optimizer": {"name": "AdamW", "lr": 0.005}},
    }
    run = mmreg.train(recipe, tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run/report.json").read_text())["test"]["metrics"]["accuracy"] >= 0.9
    rows = [{"series": str(tmp_path / "3.parquet")}, {"series": None}]
    assert mmreg.load(tmp_path / "run").predict(rows) == run.predict(rows)


def test_init_proposes_it_for_files_and_for_lists_of_steps(tmp_path: Path) -> None:
    files = [csv(tmp_path / f"{number}.csv", "x\n1\n") for number in range(3)]
    assert Series.suggest(files) == {}
    assert Series.suggest([np.ones((4, 2)), np.ones((1, 2))]) == {}
    assert Series.suggest([np.ones(4), np.ones(7)]) == {}
    assert Series.suggest([np.ones(4), np.ones(4)]) is None, "vectors of one size"
    assert Series.suggest([np.ones((4, 2)), np.ones((4, 3))]) is None
    assert Series.suggest(["a", "b"]) is None
