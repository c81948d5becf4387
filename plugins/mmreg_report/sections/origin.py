"""Where it comes from, and how it is made again: components with their versions, the recipe, and what to type."""

from __future__ import annotations

import platform
from typing import Any

from mmreg.messages import cell, to_type
from mmreg_report.markup import Html, folded, table, tag
from mmreg_report.reading import Facts
from mmreg_report.subject import Subject


def origin(subject: Subject) -> list[Html]:
    """Tables, the recipe and commands."""
    facts = subject.facts
    components: list[dict[str, Any]] = [
        {"role": role, "component": each["name"], "distribution": each["distribution"], "version": each["version"]}
        for role, each in facts.components["components"].items()
    ]
    return [
        table(_environment(facts), "Environment", sortable=False),
        folded("Components and their versions", table(components, "Components")),
        *_recipe(facts),
        tag("p", "To make it again, and to look further (the run's folder holds the recipe):"),
        tag("pre", _commands(facts), tabindex="0"),
    ]


def _environment(facts: Facts) -> list[dict[str, str]]:
    versions = facts.components
    data = versions.get("table", {})
    told = {
        "trained with mmreg": versions.get("mmreg"),
        "trained with torch": versions.get("torch"),
        "table": data.get("name"),
        "fingerprint of the table": data.get("fingerprint"),
        "report made with Python": platform.python_version(),
        "report made on": f"{platform.system()} {platform.machine()}",
    }
    return [{"what": name, "is": cell(value)} for name, value in told.items() if value]


def _recipe(facts: Facts) -> list[Html]:
    try:
        text = (facts.folder / "recipe.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    return [folded("The recipe, every default spelled out", tag("pre", text, tabindex="0"))]


def _commands(facts: Facts) -> str:
    name = to_type(facts.name)
    recipe = to_type(f"{facts.name}/recipe.yaml")
    if "fused" in facts.report:
        return f"mmreg evaluate {name}\nmmreg report {name}"
    version = facts.components.get("mmreg", "")
    lines = [
        f"python -m pip install mmreg=={version}",
        f"mmreg train {recipe} --out again",
        f"mmreg evaluate {name}",
        f"mmreg report {name} again",
    ]
    return "\n".join(lines)
