"""What is under test: a component, the options to build it with, and what the checks make its inputs of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from mmreg import registry
from mmreg.contract.kinds import KINDS
from mmreg.contract.spec import Specs
from mmreg.messages import shown
from mmreg.registry import Entry
from mmreg.registry.describing import needs
from mmreg.registry.options import check_options, options_model
from mmreg.testing.expectations import Skipped, Tensors
from mmreg.testing.task_vectors import INPUTS


@dataclass(frozen=True)
class Subject:
    """A component and the material to test it with; `make_subject` makes one.

    Attributes:
        kind: "modality", "encoder", "fusion" or "task".
        name: what messages call it.
        cls: its class.
        level: of a fusion: "feature" or "model".
        options: its options, where they should differ from the defaults.
        specs: of an encoder: what to build it for; none for whatever it takes of some usual ones and of what modalities
            give with the options that it needs of them.
        values: of a modality: raw values that it loads, as a table gives them; none to try texts and arrays.
        bad_values: of a modality: further values that it must refuse.
        targets: of a task: a target column; none to try labels and numbers.
        references: of a task: for a metric's name, a function of scores (N, K) and targets that gives its value.
        permute_state: of a fusion: a function of a state dict of the operator and an order of the modalities that
            gives the state dict of the operator with the modalities in that order.
        entry: its entry in the registry, if it has one.
        module: the plugin's light module, if it comes from a plugin.
    """

    kind: str
    name: str
    cls: Any
    level: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    specs: Sequence[Specs] = ()
    values: Sequence[Any] = ()
    bad_values: Sequence[Any] = ()
    targets: Sequence[Any] = ()
    references: Mapping[str, Callable[[Tensor, Tensor], float]] = field(default_factory=dict)
    permute_state: Callable[[Tensors, Sequence[int]], Tensors] | None = None
    entry: Entry | None = None
    module: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    @property
    def all_options(self) -> dict[str, Any]:
        """The options, checked and completed with the defaults.

        Raises:
            Skipped: there are options without a default, and none were given, or packages are missing.
            OptionError: an option is wrong.
        """
        if self.entry is not None and (lacking := needs(self.entry.spec)):
            raise Skipped(f"it {lacking}")
        fields = options_model(self.cls).model_fields.items()
        required = [info.alias or name for name, info in fields if info.is_required()]
        missing = [name for name in required if name not in self.options]
        if missing:
            raise Skipped(f"it needs the options {', '.join(missing)}; pass options={{...}} (or --option)")
        return check_options(self.cls, self.options, str(self))

    def new(self) -> Any:
        """A modality or a task that has learned nothing yet; it raises what `all_options` does."""
        inputs = {} if getattr(self.cls, "needs_target", True) else {"inputs": INPUTS}
        found = self.cls(**self.all_options, **inputs)
        if getattr(self.cls, "multiple_columns", False) and self.values and isinstance(self.values[0], Mapping):
            found.columns = tuple(self.values[0])
        return found


MATERIAL = frozenset({"options", "specs", "values", "bad_values", "targets", "references", "permute_state"})
"""The attributes of a subject that say what to test it with."""


def make_subject(component: type | str | Entry | Subject, *, kind: str = "", **material: Any) -> Subject:
    """The subject that stands for a component.

    Args:
        component: a class, a name as the registry takes it, an entry of the registry, or a subject.
        kind: its kind, where the class does not tell by the interface that it implements.
        material: further attributes of `Subject`; each takes the place of what `conformance_material` on the class
            gives for it.

    Raises:
        ComponentNotFoundError, ComponentImportError: there is no such component, or it cannot be imported.
        TypeError: the class implements no interface, or its `conformance_material` gives something else.
    """
    if isinstance(component, Subject):
        return replace(component, kind=kind or component.kind, **material)
    if isinstance(component, str):
        component = registry.find(kind or None, component)
    if isinstance(component, Entry):
        return _of_entry(component, registry.load(component), material)
    for candidate in registry.specs():
        if candidate.spec.target == f"{component.__module__}:{component.__qualname__}":
            return _of_entry(candidate, component, material)
    found = kind_of(component)
    if kind and found[0] != kind:
        found = (kind, next(iter(KINDS[kind].interfaces)))
    if not found[0]:
        raise TypeError(f"{component!r} implements none of the interfaces {', '.join(KINDS)}; say which by kind=")
    given = {"kind": found[0], "name": component.__name__, "cls": component, "level": found[1], **material}
    return Subject(**{**declared_material(component), **given})


def kind_of(cls: type) -> tuple[str, str]:
    """The kind and level whose interface a class implements; both empty if there is none."""
    for kind, levels in ((name, each.interfaces) for name, each in KINDS.items()):
        for level in levels:
            if issubclass(cls, registry.interface(kind, level)):
                return kind, level
    return "", ""


def _of_entry(entry: Entry, cls: type, material: dict[str, Any]) -> Subject:
    spec = entry.spec
    plugins = [plugin for plugin in registry.all_plugins() if plugin.distribution == entry.distribution]
    module = next((plugin.target for plugin in plugins if spec in plugin.components and entry.cls is None), "")
    given = {"name": spec.name, "module": module, **declared_material(cls), **material}
    return Subject(spec.kind, cls=cls, level=spec.level, entry=entry, **given)


def declared_material(cls: type) -> dict[str, Any]:
    """What a class says to test it with, by an optional classmethod `conformance_material`.

    Raises:
        TypeError: it is no mapping of material.
    """
    declare = getattr(cls, "conformance_material", None)
    given = {} if declare is None else declare()
    if not isinstance(given, Mapping) or not given.keys() <= MATERIAL:
        told = f"a mapping of some of {', '.join(sorted(MATERIAL))}"
        raise TypeError(f"{cls.__name__}.conformance_material should give {told}, found {shown(given)}")
    return dict(given)
