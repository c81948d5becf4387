"""What was trained: modalities, encoders, fusion and heads, with shapes and numbers of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

import mmreg
from mmreg.messages import cell, plural
from mmreg_report.markup import Html, joined, table, tag
from mmreg_report.subject import Subject


def model(subject: Subject) -> list[Html]:
    """A diagram and a table of the same."""
    parts = _components(subject.model)
    counted = [
        {
            "part": role,
            "component": _named(subject, role),
            "parameters": _count(part),
            "trained": mmreg.count_trained(subject.model, subject.plan, part),
            "gives": _size(part),
        }
        for role, part in parts.items()
    ]
    trained = mmreg.count_trained(subject.model, subject.plan)
    total = f"{_count(subject.model):,} parameters in all, of which {trained:,} were trained."
    return [_diagram(subject, parts), tag("p", total), table(counted, "Parts of the model")]


def _components(model: Any) -> dict[str, nn.Module]:
    parts: dict[str, nn.Module] = dict(model.components())
    heads = {"head": getattr(model, "head", None), "task": getattr(model, "task_module", None)}
    parts |= {name: part for name, part in heads.items() if part is not None}
    node = getattr(model, "root", None)
    for name, module in () if node is None else node.named_modules():
        if name.rpartition(".")[2] == "heads":
            parts["heads"] = module
    return parts


def _diagram(subject: Subject, parts: Mapping[str, nn.Module]) -> Html:
    """A line from each input to its encoder, and then the operators and the head that all of them reach."""
    lines = []
    for name, given in subject.facts.components.get("modalities", {}).items():
        encoder = parts.get(f"encoder/{name}")
        boxes = [_box(name, f"{_named(subject, f'modality/{name}')}: {_shape(given['spec'])}")]
        if encoder is not None:
            told = plural(_count(encoder), "parameter")
            boxes.append(_box(_named(subject, f"encoder/{name}"), f"{told}{_arrow_size(encoder)}"))
        else:
            boxes.append(_box("shared encoder", "of another input"))
        lines.append(tag("li", joined(boxes, _arrow())))
    fusions = [
        _box(_named(subject, role), f"{role}, {plural(_count(part), 'parameter')}")
        for role, part in parts.items()
        if role.startswith("fusion/")
    ]
    heads = [_box(name, plural(_count(part), "parameter")) for name, part in parts.items() if "head" in name]
    end = _box(_named(subject, "task") or "targets", plural(subject.task.num_outputs, "output"))
    after = joined([*fusions, *heads, end], _arrow())
    down = tag("span", "\N{DOWNWARDS ARROW}", class_="arrow", aria_hidden="true")
    return tag("div", tag("ul", *lines, class_="inputs"), down, tag("div", after, class_="then"), class_="diagram")


def _arrow() -> Html:
    return tag("span", "\N{RIGHTWARDS ARROW}", class_="arrow", aria_hidden="true")


def _box(title: str, text: str) -> Html:
    return tag("span", tag("b", title), tag("small", text), class_="box")


def _named(subject: Subject, role: str) -> str:
    return cell(subject.facts.components["components"].get(role, {}).get("name"))


def _count(part: nn.Module) -> int:
    return sum(each.numel() for each in part.parameters())


def _size(part: nn.Module) -> str:
    size = getattr(part, "out_features", None)
    return plural(size, "number") if isinstance(size, int) else ""


def _arrow_size(part: nn.Module) -> str:
    size = _size(part)
    return f", gives {size}" if size else ""


def _shape(spec: Mapping[str, Any]) -> str:
    """What one sample is, as "CHW 1 x 28 x 28"; of several arrays, each by its name."""
    if "axes" not in spec:
        return "; ".join(f"{name} {_shape(each)}" for name, each in spec.items())
    return f"{spec['axes']} " + " \N{MULTIPLICATION SIGN} ".join("any" if n is None else str(n) for n in spec["shape"])
