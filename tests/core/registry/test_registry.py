"""Components are found by kind and name, from whatever distribution, and built with checked options."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from mmreg import Encoder, FeatureFusion, Features, Fused, ModelFusion, Signal, Spec, registry
from mmreg.contract.components import ComponentSpec
from mmreg.errors import (
    ComponentImportError,
    ComponentNotFoundError,
    MmregError,
    OptionError,
    RegistrationError,
)
from mmreg.registry import lookup
from mmreg.registry.installed import missing
from mmreg.registry.plugins import Plugin


class Mean(Encoder):
    """The mean of a vector, scaled.

    Args:
        scale: a factor.
    """

    def __init__(self, spec: Spec, *, scale: float = 1.0) -> None:
        super().__init__()
        self.out_features = 1
        self.scale = scale

    def forward(self, signal: Signal) -> Features:
        return Features(pooled=signal.values.mean(1, keepdim=True) * self.scale)


class First(FeatureFusion):
    """The first one."""

    def __init__(self, inputs: Mapping[str, int]) -> None:
        super().__init__()
        self.out_features = next(iter(inputs.values()))

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        return next(iter(features.values()))


class Average(ModelFusion):
    """The average."""

    def __init__(self, inputs: Mapping[str, int], *, num_outputs: int, space: str) -> None:
        super().__init__()

    def forward(self, scores: Mapping[str, Tensor], present: Tensor, features: Any = None) -> Fused:
        return Fused(torch.stack(list(scores.values())).mean(0))


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    before = dict(lookup._local)
    yield
    lookup._local.clear()
    lookup._local.update(before)
    registry.refresh()


def plugin(distribution: str, *components: ComponentSpec, **more: Any) -> Plugin:
    return Plugin("entry", distribution, "1.0", "somewhere", "module", components=components, **more)


def install(monkeypatch: pytest.MonkeyPatch, *plugins: Plugin) -> None:
    monkeypatch.setattr("mmreg.registry.plugins.discover", lambda: list(plugins))
    registry.refresh()


def test_bundled_components_are_found_through_entry_points() -> None:
    assert {"image", "text", "audio"} <= set(registry.names("modality"))
    assert {"image_cnn", "text_rnn", "audio_cnn"} <= set(registry.names("encoder"))
    assert {"classification", "multilabel", "regression"} <= set(registry.names("task"))
    entry = registry.find("fusion", "concat")
    assert (entry.spec.level, entry.distribution) == ("feature", "mmreg")


@pytest.mark.parametrize("name", ["image_cnn", "encoder/image_cnn", "mmreg:image_cnn", "encoder/mmreg:image_cnn"])
def test_every_form_of_a_name_finds_the_component(name: str) -> None:
    assert registry.find("encoder", name).reference == "mmreg:image_cnn"
    assert registry.find(None, name).spec.kind == "encoder"


def test_listing_and_looking_up_do_not_import_torch() -> None:
    code = "import sys, mmreg; mmreg.registry.find('encoder', 'image_cnn'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_says_what_is_near_and_what_is_known() -> None:
    with pytest.raises(ComponentNotFoundError, match="did you mean 'image_cnn'") as caught:
        registry.get("encoder", "imge_cnn")
    with pytest.raises(ComponentNotFoundError, match=r"Known are classification, .*multilabel, .*regression"):
        registry.get("task", "clssification")
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, MmregError)


def test_an_unknown_kind_says_which_there_are() -> None:
    with pytest.raises(ComponentNotFoundError, match="did you mean 'encoder'"):
        registry.names("encodr")


def test_a_kind_in_the_name_must_be_the_one_that_is_asked_for() -> None:
    with pytest.raises(ComponentNotFoundError, match="names a task, but a encoder is needed"):
        registry.find("encoder", "task/regression")


def test_an_unknown_name_names_the_plugins_that_might_have_held_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, plugin("mmreg-broken", status="failed", error="ImportError: no wheels"))
    with pytest.raises(ComponentNotFoundError, match=r"entry \(mmreg-broken 1.0\) failed: ImportError: no wheels"):
        registry.find("encoder", "lidar")


def test_a_name_of_two_distributions_needs_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        plugin("one", ComponentSpec("encoder", "cnn", "one:CNN")),
        plugin("two", ComponentSpec("encoder", "cnn", "two:CNN")),
    )
    with pytest.raises(ComponentNotFoundError, match="'one:cnn' or 'two:cnn'"):
        registry.find("encoder", "cnn")
    assert registry.find("encoder", "two:cnn").spec.target == "two:CNN"
    assert [row["status"] for row in map(registry.row, registry.specs("encoder"))] == [
        "ambiguous: use one:cnn",
        "ambiguous: use two:cnn",
    ]
    assert all(map(registry.ambiguous, registry.specs("encoder")))
    install(monkeypatch, plugin("one", ComponentSpec("encoder", "cnn", "one:CNN"), ComponentSpec("task", "cnn", "f:F")))
    assert not any(map(registry.ambiguous, registry.specs()))


def test_a_name_of_two_kinds_needs_the_kind_only_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        plugin("one", ComponentSpec("encoder", "x", "one:X"), ComponentSpec("modality", "x", "one:Y")),
    )
    assert registry.find("modality", "x").spec.target == "one:Y"
    with pytest.raises(ComponentNotFoundError, match="encoder/one:x"):
        registry.find(None, "x")


def test_a_missing_package_is_named_with_the_install_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ComponentSpec("encoder", "lidar", "no_such_package_xyz:Lidar", install_hint="pip install mmreg-lidar[all]")
    install(monkeypatch, plugin("mmreg-lidar", spec))
    with pytest.raises(ComponentImportError, match=r"'no_such_package_xyz'.*pip install mmreg-lidar\[all\]") as caught:
        registry.get("encoder", "lidar")
    assert isinstance(caught.value, ImportError)


def test_a_listing_tells_the_missing_packages_of_a_component_and_imports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hint = "pip install mmreg-lidar[onnx]"
    lidar = ComponentSpec("encoder", "lidar", "mmreg_lidar:Lidar", install_hint=hint, requires=("no_such", "nor_this"))
    radar = ComponentSpec("encoder", "radar", "mmreg_lidar:Radar", requires=("no_such",))
    sonar = ComponentSpec("encoder", "sonar", "mmreg_lidar:Sonar", requires=("wave", "sys"))
    install(monkeypatch, plugin("mmreg-lidar", lidar, radar, sonar))
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    assert [registry.row(entry)["status"] for entry in registry.specs()] == [
        "needs no_such, nor_this: pip install mmreg-lidar[onnx]",
        "needs no_such",
        "ok",
    ]
    assert "wave" not in sys.modules


def test_a_module_that_was_not_imported_in_the_usual_way_counts_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_by_hand", ModuleType("made_by_hand"))
    assert missing(["made_by_hand", "no_such"]) == ["no_such"]


@pytest.mark.parametrize(
    ("requires", "error"),
    [("onnx", TypeError), (["onnx"], TypeError), ((3,), TypeError), (("onnx.helper",), ValueError)],
)
def test_what_a_component_requires_are_names_of_packages(requires: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="what encoder 'lidar' requires must be"):
        ComponentSpec("encoder", "lidar", "mmreg_lidar:Lidar", requires=requires)


def test_a_class_of_another_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, plugin("odd", ComponentSpec("encoder", "odd", "collections:OrderedDict")))
    with pytest.raises(ComponentImportError, match=r"must be a subclass of mmreg.Encoder"):
        registry.get("encoder", "odd")


def test_registering_makes_a_component_that_builds() -> None:
    registry.register("encoder", "mean", Mean)
    encoder = registry.build("encoder", "mean", Spec("C", (3,)), scale=2)
    assert encoder(Signal(torch.ones(4, 3))).pooled.tolist() == [[2.0]] * 4
    assert registry.find("encoder", "mean").reference == "local:mean"
    assert registry.find("encoder", "mean").spec.summary == "The mean of a vector, scaled."


def test_registering_works_as_a_decorator_and_tells_the_level_from_the_class() -> None:
    assert registry.register("fusion", "first")(First) is First
    registry.register("fusion", "average_of_all", Average)
    assert registry.find("fusion", "first").spec.level == "feature"
    assert registry.find("fusion", "average_of_all").spec.level == "model"


def test_building_checks_options_and_hands_on_what_the_framework_passes_in() -> None:
    registry.register("fusion", "average_of_all", Average)
    registry.build("fusion", "average_of_all", {"a": 1}, num_outputs=2, space="values")
    registry.register("encoder", "mean", Mean)
    with pytest.raises(OptionError, match="did you mean 'scale'"):
        registry.build("encoder", "mean", Spec("C", (3,)), scal=2)


def test_registering_again_from_the_same_module_replaces_ones_own() -> None:
    registry.register("encoder", "mean", Mean)
    again = type("Mean", (Mean,), {"__module__": Mean.__module__})
    registry.register("encoder", "mean", again)
    assert registry.get("encoder", "mean") is again


def test_somebody_elses_name_is_refused() -> None:
    registry.register("encoder", "mean", Mean)
    stranger = type("Mean", (Mean,), {"__module__": "another.module"})
    with pytest.raises(RegistrationError, match="'mean' is taken by local"):
        registry.register("encoder", "mean", stranger)
    with pytest.raises(RegistrationError, match="'image_cnn' is taken by mmreg"):
        registry.register("encoder", "image_cnn", Mean)


@pytest.mark.parametrize(
    ("kind", "name", "cls", "message"),
    [
        ("encodr", "x", Mean, "unknown kind 'encodr'"),
        ("encoder", "", Mean, "no name for a component"),
        ("encoder", "a:b", Mean, "no name for a component"),
        ("encoder", "x", First, "must be a subclass"),
        ("encoder", "x", 3, "must be a subclass"),
        ("encoder", "x", Encoder, "does not implement forward"),
    ],
)
def test_what_is_no_component_is_refused(kind: str, name: str, cls: Any, message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        registry.register(kind, name, cls)


def test_unregistering_takes_it_back() -> None:
    registry.register("encoder", "mean", Mean)
    registry.unregister("encoder", "mean")
    assert "mean" not in registry.names("encoder")
    with pytest.raises(ComponentNotFoundError, match="no encoder 'mean' was registered"):
        registry.unregister("encoder", "mean")


def test_describing_gives_plain_data() -> None:
    registry.register("encoder", "mean", Mean)
    facts = registry.describe("encoder", "mean")
    assert facts["documentation"] == "The mean of a vector, scaled."
    assert facts["options"] == [
        {
            "name": "scale",
            "type": "number",
            "required": False,
            "bounds": {},
            "description": "a factor.",
            "default": 1.0,
        }
    ]


@pytest.mark.parametrize("kind", ["modality", "encoder", "fusion", "task"])
def test_every_bundled_component_describes_all_of_its_options(kind: str) -> None:
    for entry in registry.specs(kind):
        facts = registry.describe(kind, entry.reference)
        assert facts["documentation"], entry
        assert not [option["name"] for option in facts["options"] if not option["description"]], entry
