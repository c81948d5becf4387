"""A run's facts as a model card: YAML that the hub reads, and Markdown that people do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import yaml

from mmreg.console import by_target, figure_rows, numbers
from mmreg.files import markdown_table
from mmreg.messages import cell, listed, plural
from mmreg_card.facts import Facts, plain_name

SPLITS = {"test": "test", "out_of_fold": "out of fold", "validation": "validation"}
"""What is measured, what says most of new rows first, and how it is called."""
KINDS = ("image", "text", "audio", "video", "tabular")
"""Modalities that alone make a task of the hub's."""
MOST_CLASSES = 20
COPY = re.compile(r"^[0-9a-f]{8}-")
"""How the name of a copy in a run's folder begins."""


def model_card(facts: Facts, name: str, license: str | None = None) -> str:
    """The whole card.

    Args:
        facts: of the run.
        name: what the model is called.
        license: its identifier; None to leave it out.
    """
    front = yaml.safe_dump(_front_matter(facts, name, license), sort_keys=False, allow_unicode=True)
    sections = [_title(facts, name), _inputs(facts), _use(facts), _training(facts), *_figures(facts), _limits()]
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(facts: Facts, name: str, license: str | None) -> dict[str, Any]:
    """What the hub sorts and shows models by."""
    kinds = list(dict.fromkeys(plain_name(each["type"]) for each in facts.modalities.values()))
    tasks = {plain_name(target["task"]) for target in facts.targets.values()}
    tags = ["mmreg", *(["multimodal"] if len(facts.inputs) > 1 else []), *kinds, *sorted(tasks)]
    front: dict[str, Any] = {"library_name": "mmreg", "tags": list(dict.fromkeys(tags))}
    if license is not None:
        front["license"] = license
    if len(kinds) == 1 and kinds[0] in KINDS and tasks <= {"classification"}:
        front["pipeline_tag"] = f"{kinds[0]}-classification"
    elif kinds == ["tabular"] and tasks <= {"regression"}:
        front["pipeline_tag"] = "tabular-regression"
    results = list(_results(facts))
    if results:
        front["metrics"] = list(dict.fromkeys(each["type"] for result in results for each in result["metrics"]))
        front["model-index"] = [{"name": name, "results": results}]
    return front


def _results(facts: Facts) -> Iterator[dict[str, Any]]:
    """The figures on the split that says most, a result for each target."""
    split = next((split for split in SPLITS if split in facts.report), None)
    for target, figures in by_target(facts.report[split]).items() if split else ():
        metrics = numbers(figures["metrics"])
        task = plain_name(facts.targets[target or next(iter(facts.targets))]["task"])
        yield {
            "task": {"type": task, "name": f"{target}: {task}" if target else task},
            "dataset": {"type": "table", "name": facts.table, "split": str(split)},
            "metrics": [{"type": name, "name": name, "value": value} for name, value in metrics.items()],
        }


def _title(facts: Facts, name: str) -> str:
    parts = listed(f"{_safe(each)} ({plain_name(options['type'])})" for each, options in facts.inputs.items())
    targets = listed(
        f"{_safe(each)} ({plain_name(target['task'])})" if each else plain_name(target["task"])
        for each, target in facts.targets.items()
    )
    fused = facts.recipe.get("fusion")
    how = f", fused by {plain_name(fused)}" if fused else ""
    return f"# {_safe(name)}\n\nA model that predicts {targets} from {parts}{how}. Trained by mmreg."


def _inputs(facts: Facts) -> str:
    weights = {name: _pretrained(each["encoder"]) for name, each in facts.modalities.items()}
    rows = [
        {
            "modality": _safe(name),
            "type": plain_name(each["type"]),
            "column": _safe(listed(each["columns"], 20) if each.get("columns") else each.get("column")),
            "encoder": plain_name(each["encoder"]),
            **({"pretrained weights": _safe(weights[name])} if any(weights.values()) else {}),
        }
        for name, each in facts.modalities.items()
    ]
    text = f"## What goes in\n\n{markdown_table(rows)}"
    if len(facts.inputs) > 1:
        text += "\n\nAny of them may be absent in a row."
    labels = facts.components["task"].get("labels")
    if labels:
        shown = [f'"{label}"' if "," in label else label for label in map(str, labels)]
        text += f"\n\nIt knows {plural(len(labels), 'class', 'classes')}: {_safe(listed(shown, MOST_CLASSES))}."
    return text


def _pretrained(encoder: Any) -> str:
    """Which pretrained weights an encoder began with, as its recipe names them; empty for random ones."""
    options = encoder if isinstance(encoder, Mapping) else {}
    weights = options.get("weights")
    if not isinstance(weights, str) or weights in ("", "none"):
        return ""
    file = COPY.sub("", PurePath(weights).name) if weights != "default" else "the default ones"
    return ": ".join(str(each) for each in (options.get("model"), file) if each)


def _use(facts: Facts) -> str:
    return (
        "## How to use it\n\n```bash\nmmreg predict FOLDER your_table.csv --out predictions.csv\n```\n\n"
        '```python\nimport mmreg\n\nrun = mmreg.load("FOLDER")\npredictions = run.predict("your_table.csv")\n```\n\n'
        f"FOLDER is this one: it is enough by itself. It was written by mmreg {cell(facts.components['mmreg'])} with "
        f"torch {cell(facts.components['torch'])}."
    )


def _training(facts: Facts) -> str:
    table, report = facts.components["table"], facts.report
    lines = [f"- table: {_safe(facts.table)}"] if "name" in table else []
    lines += [f"- {split} rows: {count:,}" for split, count in table.get("rows", {}).items()]
    if "epochs" in report:
        lines.append(f"- {plural(report['epochs'], 'epoch')}, {plural(report['steps'], 'step')}")
    if report.get("fused"):
        lines.append(f"- combined of these runs: {_safe(listed(report['fused']))}")
    training = facts.recipe["training"]
    lines.append(f"- optimizer: {plain_name(training['optimizer'])}, seed {training['seed']}")
    lines += [f"- note: {_safe(note)}" for note in report.get("notes", [])]
    return "## How it was trained\n\n" + "\n".join(lines) + "\n\nThe recipe, complete, is recipe.yaml."


def _figures(facts: Facts) -> list[str]:
    """A table for each target; of several splits, one below the other."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for split, called in SPLITS.items():
        for target, figures in by_target(facts.report[split]).items() if split in facts.report else ():
            rows = [{"rows of": called, **row} for row in figure_rows(figures)]
            tables.setdefault(target, []).extend({key: _safe(value) for key, value in row.items()} for row in rows)
    if not tables:
        return []
    titled = [f"### {_safe(name)}\n\n" * bool(name) + markdown_table(rows) for name, rows in tables.items()]
    return ["## Figures", *titled]


def _limits() -> str:
    return (
        "## For you to write\n\nWhat it is meant for, what it must not be used for, where the data came from, and whom "
        "its mistakes would hurt: mmreg does not know."
    )


def _safe(value: Any) -> str:
    """A value of a table or a folder as text that no Markdown viewer takes for markup."""
    text = cell(value)
    for character, instead in (("&", "&amp;"), ("<", "&lt;"), ("[", "\\["), ("`", "'")):
        text = text.replace(character, instead)
    return text
