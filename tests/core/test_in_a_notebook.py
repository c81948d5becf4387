"""A notebook that is executed: a training shows its bar in it, and what the cells end with is shown as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

TRAIN = """\
import mmreg
rows = [{"size": float(i % 2), "weight": float(i), "kind": "<b>%s</b>" % ("small", "large")[i % 2]} for i in range(60)]
recipe = mmreg.Recipe(
    table=rows, target={"column": "kind", "task": "classification"},
    modalities={"facts": {"type": "tabular", "columns": ["size", "weight"]}}, training={"epochs": 3, "batch_size": 16},
)
run = mmreg.train(recipe, "run", device="cpu")
"""
CELLS = [
    TRAIN,
    "run",
    "recipe",
    "run.evaluate()",
    "run.predict(rows)",
    "mmreg.registry",
    'quiet = mmreg.train(recipe, "quiet", device="cpu", callback=mmreg.Callback())',
]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    kernel = {"name": "python3", "display_name": "Python", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMREG_DISABLE_PLUGINS", "report")  # drawing takes longer than the trainings
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    assert (Path(folder) / "run/model.safetensors").is_file()
    return list(notebook.cells)


def html(cell: Any) -> str:
    (output,) = cell.outputs
    text = output["data"]["text/html"]
    assert "<script" not in text
    assert "<b>small" not in text  # a class of the table, escaped
    return str(text)


def test_a_training_has_one_output_that_ends_with_its_epochs_and_where_the_run_is(cells: list[Any]) -> None:
    text = html(cells[0])
    assert cells[0].outputs[0]["output_type"] == "display_data"
    assert "the run is in run" in text
    assert "validation loss" in text
    assert text.count("<tr>") == 1 + 3
    assert "<progress" not in text


def test_what_a_cell_ends_with_is_shown_as_a_table(cells: list[Any]) -> None:
    assert "classification from facts" in html(cells[1])
    assert cells[1].outputs[0]["data"]["text/plain"].startswith("<Run 'run': ")
    assert "size, weight" in html(cells[2])
    assert "accuracy" in html(cells[3])
    assert "&lt;b&gt;small&lt;/b&gt;" in html(cells[4])
    assert "60 predictions" in html(cells[4])
    assert "image_cnn" in html(cells[5])


def test_a_callback_takes_the_place_of_the_bar(cells: list[Any]) -> None:
    assert cells[6].outputs == []
