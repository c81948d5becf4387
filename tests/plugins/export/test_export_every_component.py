"""Every bundled encoder, modality, operator and task is exported, or refused by name before work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from export_components import ENCODERS, MADE, TASKS, VECTOR, hf_audio

import mmreg
from mmreg import registry
from mmreg.errors import RunError
from mmreg_export.checking import TOLERANCE
from mmreg_export.export import export
from mmreg_export.refusals import REFUSED


def bundled(kind: str) -> list[str]:
    """The names of mmreg's own components of a kind, those that miss a package included."""
    return sorted({entry.spec.name for entry in registry.specs(kind) if entry.distribution == "mmreg"})


FORMS = ["torch-export", "onnx"]
OPERATORS = bundled("fusion")
WITHOUT_OPERATOR = {"contrastive"}
"""Tasks that are tried by tests of their own."""
EXPORTED = {
    "encoder": {case.split()[0] for case in ENCODERS} | (set(MADE) - {"video"}),
    "modality": {case["type"] for case in ENCODERS.values()} | {"video"},
    "fusion": set(OPERATORS),  # each of them is tried below
    "task": set(TASKS) | WITHOUT_OPERATOR,
}
FAST = {("mlp", "torch-export"), ("static_embedding", "torch-export")}
"""What is tried in each run of the tests; the rest takes minutes."""


@pytest.fixture(autouse=True)
def _packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


def every(cases: Any) -> list[Any]:
    """Each case in each format, marked slow but for the fast ones."""
    pairs = [(case, form) for case in cases for form in FORMS]
    marks = {True: (), False: pytest.mark.slow}
    return [pytest.param(*pair, marks=marks[pair in FAST], id=" ".join(pair)) for pair in pairs]


@pytest.mark.parametrize("kind", EXPORTED)
def test_no_component_is_neither_tried_nor_refused(kind: str) -> None:
    tried = EXPORTED[kind] | {name for of, name in REFUSED if of == kind}
    assert set(bundled(kind)) - tried == set(), "add a case to export_components, or a reason to REFUSED"


@pytest.mark.parametrize(("case", "form"), every([*ENCODERS, *MADE]))
def test_every_encoder_is_exported(trained: Any, tmp_path: Path, case: str, form: Any) -> None:
    given = ENCODERS[case] if case in ENCODERS else MADE[case](tmp_path / "files")
    run = trained({"first": given, "vector": VECTOR}, "concat")
    assert export(run, form, tmp_path / "model").difference <= TOLERANCE


@pytest.mark.parametrize(("operator", "form"), every(OPERATORS))
def test_every_operator_is_exported_or_refused_by_name(trained: Any, tmp_path: Path, operator: str, form: Any) -> None:
    run = trained({"vector": VECTOR, "second": VECTOR}, operator)
    if form in REFUSED.get(("fusion", operator), {}):
        with pytest.raises(RunError, match=f"fusion {operator}: "):
            export(run, form, tmp_path / "model")
    else:
        assert export(run, form, tmp_path / "model").difference <= TOLERANCE


@pytest.mark.slow
def test_an_encoder_that_computes_outside_of_torch_is_refused_by_name(trained: Any, tmp_path: Path) -> None:
    run = trained({"first": hf_audio(tmp_path / "files")})
    for form in FORMS:
        with pytest.raises(RunError, match="encoder hf_audio: it computes"):
            export(run, form, tmp_path / "model")  # type: ignore[arg-type]
    assert not list(tmp_path.glob("model*"))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_exported_as_onnx(trained: Any, tmp_path: Path, task: str) -> None:
    run = trained({"vector": VECTOR}, target={"task": task, **TASKS[task][0]})
    assert export(run, "onnx", tmp_path / "model").difference <= TOLERANCE


@pytest.mark.slow
def test_several_targets_are_exported_as_onnx(trained: Any, tmp_path: Path) -> None:
    targets = {name: {"task": name, **TASKS[name][0]} for name in ("regression", "classification")}
    run = trained({"vector": VECTOR}, targets=targets)
    assert export(run, "onnx", tmp_path / "model").difference <= TOLERANCE


@pytest.mark.slow
def test_vectors_of_a_task_without_a_target_are_exported_as_onnx(trained: Any, tmp_path: Path) -> None:
    modalities = {"vector": VECTOR, "second": {**VECTOR, "column": "other"}}
    run = trained(modalities, target={"task": "contrastive", "features": 5})
    assert export(run, "onnx", tmp_path / "model").difference <= TOLERANCE


def test_the_docs_tell_of_each_that_is_exported_or_refused() -> None:
    page = (Path(mmreg.__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for name in (*EXPORTED["encoder"], *EXPORTED["task"], *(name for _, name in REFUSED)):
        assert f"`{name}`" in page, name
