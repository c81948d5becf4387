"""Runs as models of MLflow: what is saved tells what goes in and out, and predicts as the run, wherever it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from needs import needs

needs("mlflow")
pd = pytest.importorskip("pandas")

import mmreg
from mmreg.errors import TableError

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, of which it has many

FRAME = pd.DataFrame(
    {
        "title": [["a red thing", "some green stuff"][number % 2] for number in range(40)],
        "price": [float(number) for number in range(40)],
        "kind": [["warm", "cold"][number % 2] for number in range(40)],
    }
)
FRESH = """
import json, sys
import mlflow, pandas as pd

mlflow.set_tracking_uri(sys.argv[3])
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict(pd.read_parquet(sys.argv[2])).to_dict("list")))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    recipe = {
        "table": FRAME.to_dict("records"),
        "target": {"column": "kind"},
        "modalities": {
            "title": {"type": "text", "encoder": "text_bag"},
            "facts": {"type": "tabular", "columns": ["price"]},
        },
        "fusion": "concat",
        "training": {"epochs": 2},
    }
    return mmreg.train(recipe, tmp_path_factory.mktemp("mlflow") / "kinds", device="cpu")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where MLflow keeps what it is told: files on this computer."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before, uri = mlflow.get_tracking_uri(), (tmp_path / "store").as_uri()
    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(before)


def fresh(model: str, rows: Any, folder: Path, store: str) -> dict[str, list[Any]]:
    """What a process that knows nothing of the run predicts."""
    rows.to_parquet(folder / "rows.parquet")
    command = [sys.executable, "-W", "ignore", "-c", FRESH, model, str(folder / "rows.parquet"), store]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_logged_model_predicts_in_a_fresh_process_as_the_run_did_whose_folder_is_gone(
    run: mmreg.Run, tmp_path: Path, store: str
) -> None:
    import mlflow

    from mmreg_mlflow import log_model

    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    expected = run.predict_columns(FRAME)
    mlflow.set_experiment("kinds")
    info = log_model(mmreg.load(copy, "cpu"), "kinds", input_example=FRAME[:2])
    shutil.rmtree(copy)
    found = fresh(info.model_uri, FRAME, tmp_path, store)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == (pytest.approx(values, abs=1e-6) if name.startswith("probability") else values)


def test_a_saved_model_tells_its_columns_an_example_and_what_it_needs(run: mmreg.Run, tmp_path: Path) -> None:
    import mlflow

    from mmreg_mlflow import save_model

    (run.folder / "profile").mkdir(exist_ok=True)
    save_model(run, tmp_path / "model", input_example=FRAME[:2])
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    inputs = {column.name: (column.type.name, column.required) for column in model.metadata.signature.inputs}
    assert inputs == {"title": ("string", False), "price": ("double", False)}
    assert {"label", "probability_warm", "probability_cold"} <= set(model.metadata.signature.outputs.input_names())
    example = json.loads((tmp_path / "model/input_example.json").read_text())
    assert example == {"columns": ["title", "price"], "data": [["a red thing", 0.0], ["some green stuff", 1.0]]}
    needed = (tmp_path / "model/requirements.txt").read_text().splitlines()
    assert {line.partition("=")[0] for line in needed} >= {"mmreg", "torch", "pandas"}
    assert not any("+" in line for line in needed)
    assert not list((tmp_path / "model").rglob("*.pkl"))
    assert not list((tmp_path / "model").rglob("checkpoints"))
    assert not list((tmp_path / "model").rglob("profile"))


def test_an_absent_column_is_an_absent_modality_and_others_are_left_aside(run: mmreg.Run, tmp_path: Path) -> None:
    import mlflow

    from mmreg_mlflow import save_model

    save_model(run, tmp_path / "model", input_example=FRAME[:2].to_dict("records"))
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    found = model.predict(FRAME[["title", "kind"]])
    assert list(found["modalities"].unique()) == ["title"]
    expected = run.predict_columns(FRAME[["title"]])
    assert found["probability_warm"].tolist() == pytest.approx(expected["probability_warm"], abs=1e-6)


@pytest.mark.parametrize("example", [FRAME[:0], FRAME[["kind"]]])
def test_an_example_that_tells_nothing_is_refused(run: mmreg.Run, tmp_path: Path, example: Any) -> None:
    from mmreg_mlflow import save_model

    with pytest.raises(TableError, match="some of the columns price, title"):
        save_model(run, tmp_path / "model", input_example=example)


def test_importing_the_package_alone_loads_no_mlflow() -> None:
    code = "import sys, mmreg_mlflow; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
