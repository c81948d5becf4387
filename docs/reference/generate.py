"""Writes the reference pages that follow from the code: recipes, components, the command line, registry and errors.

Run it (`make docs` does) after a change of any of them; a test fails while the pages differ from the code.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from pydantic import BaseModel

from mmreg import errors, registry
from mmreg.cli.app import build_app
from mmreg.contract.kinds import KINDS
from mmreg.recipe import form, training_form
from mmreg.registry.options import describe_options, type_text
from mmreg.registry.signature import documentation

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/reference/generate.py; do not edit. -->\n"

SECTIONS = [
    ("Top level", form.Form, "The keys of a recipe."),
    ("table", form.Tables, "A path, or a mapping of a path or one a split, and of how the files are written:"),
    ("split", form.Fractions, "A column's name, or a mapping of shares for a random split:"),
    ("target", form.Target, "Further keys are the task's options."),
    (
        "modalities",
        form.Input,
        "A mapping from each input's name to these keys; further keys are the modality's options.",
    ),
    (
        "modalities.encoder",
        form.EncoderChoice,
        "A name, or a mapping of these keys; further keys are the encoder's options, and how its [weights](#weights) "
        "are trained.",
    ),
    (
        "fusion",
        form.FusionChoice,
        "A name, or a mapping of these keys; further keys are the operator's options, and how its [weights](#weights) "
        "are trained.",
    ),
    (
        "Weights",
        form.Weights,
        "Keys of every encoder and operator, beside its name and options; where it has an option of such a name, the "
        "option is meant. An optimizer may refuse a `weight_decay` that it has no use for.",
    ),
    ("training", training_form.Training, "How the model is trained."),
    ("training.early_stopping", training_form.EarlyStopping, "A number of epochs, or a mapping:"),
]

NAMED = "mapping of name and options"
WORDS = {
    "OptimizerChoice": NAMED,
    "ScheduleChoice": NAMED,
    "MetricChoice": f"string or {NAMED}",
    "CallbackChoice": f"string or {NAMED}",
    "EncoderChoice": "string or encoder",
    "FusionChoice": "fusion",
    "FreezeUntil": "{until_epoch: integer >= 1}",
    "Input": "input",
}
"""What mappings are called within other mappings; "mapping" where nothing is said."""


def recipe_page() -> str:
    """Every key of a recipe."""
    lines = [
        NOTE,
        "# Recipes",
        "",
        "A recipe is YAML (or a dict, or `mmreg.Recipe`). The table's path is relative to the recipe, and so are those",
        "of files that components are built from, such as pretrained weights; a cell's path is relative to the table.",
        "Numbers and booleans are those of YAML 1.2: `1e-3` is a number, `no` is a word. `mmreg validate` checks a",
        "recipe; `--set training.epochs=3` overrides a key; `mmreg schema` prints a JSON schema for editors, with the",
        "options of every installed component.",
        "",
        "```yaml",
        (HERE / "recipe.yaml").read_text(encoding="utf-8").rstrip(),
        "```",
        "",
    ]
    for title, model, text in SECTIONS:
        lines += [f"## {title}", "", text, "", "| key | value | default | meaning |", "|---|---|---|---|"]
        lines += _fields(model)
        lines.append("")
    return "\n".join(lines)


def _fields(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    properties = schema.get("properties") or schema["$defs"][model.__name__]["properties"]
    # A mapping that has a section of its own is named, not spelled out.
    named = {definition: {"type": WORDS.get(definition, "mapping")} for definition in schema.get("$defs", {})}
    for field, info in model.model_fields.items():
        name = info.alias or field
        value = type_text({k: v for k, v in properties[name].items() if k != "default"}, named)
        default = "(required)" if info.is_required() else _default(info.get_default(call_default_factory=True))
        yield f"| `{name}` | {_cell(value)} | {_cell(default)} | {_cell(info.description or '')} |"


def components_page() -> str:
    """Every bundled component with its options."""
    lines = [NOTE, "# Bundled components", ""]
    for kind in KINDS:
        bundled = [entry for entry in registry.specs(kind) if entry.distribution == "mmreg"]
        if bundled:
            lines += [f"## {kind}", ""]
        for entry in bundled:
            cls = registry.load(entry)
            level = f" ({entry.spec.level} level)" if entry.spec.level else ""
            lines += [f"### {entry.spec.name}{level}", "", *_markdown(documentation(cls))]
            lines += _promises(kind, cls)
            options = describe_options(cls)
            if options:
                lines += ["| option | value | default | meaning |", "|---|---|---|---|"]
            for option in options:
                default = "(required)" if option["required"] else _default(option["default"])
                row = [f"`{option['name']}`", option["type"], default, option["description"]]
                lines.append("| " + " | ".join(map(_cell, row)) + " |")
            lines.append("")
    return "\n".join(lines)


def _promises(kind: str, cls: Any) -> list[str]:
    """What a class says of itself beyond its options."""
    if kind == "task":
        return [f"Metrics: {', '.join(f'`{metric}`' for metric in cls.metrics)}.", ""]
    if kind == "metric":
        spaces = ", ".join(f"`{space}`" for space in sorted(cls.spaces))
        return [f"Of scores that are {spaces}; {'more' if cls.more_is_better else 'less'} is better.", ""]
    if kind == "schedule":
        return [f"Stepped after every {'optimizer step' if cls.per_step else 'epoch'}.", ""]
    return []


def commands_page() -> str:
    """Every command with its parameters."""
    group: Any = typer.main.get_command(build_app())
    lines = [NOTE, "# Command line", "", "`mmreg COMMAND --help` shows the same.", ""]
    return "\n".join([*lines, *_commands(group, "mmreg")])


def _commands(group: Any, called: str) -> Iterator[str]:
    """The commands of a group, those of groups within it after each of them."""
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.resolve_command(context, [name])[1]
        yield from (f"## {called} {name}", "", (command.help or "").strip(), "")
        parameters = [p for p in command.params if p.name != "help"]
        if parameters:
            yield from ("| parameter | meaning |", "|---|---|")
        for parameter in parameters:
            flags = ", ".join(f"`{flag}`" for flag in parameter.opts if flag.startswith("-"))
            shown = flags or f"`{parameter.metavar or parameter.name.upper()}`"
            yield f"| {_cell(shown)} | {_cell(parameter.help or '')} |"
        yield ""
        if hasattr(command, "list_commands"):
            yield from _commands(command, f"{called} {name}")


def registry_page() -> str:
    """Every public function of the registry, and every error."""
    lines = [NOTE, "# Registry and errors", "", "`from mmreg import registry`", "", *_markdown(registry.__doc__ or "")]
    for name in registry.__all__:
        value = getattr(registry, name)
        if inspect.isfunction(value):
            shown = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(value)))
            lines += [f"## {name}", "", "```python", f"registry.{name}{shown}", "```", ""]
            lines += _markdown(inspect.getdoc(value) or "")
        elif inspect.isclass(value):
            lines += [f"## {name}", "", *_markdown(inspect.getdoc(value) or "")]
        else:
            lines += [f"`registry.{name}` is `{value!r}`.", ""]
    lines += [
        "## Errors",
        "",
        "`from mmreg import errors`. `mmreg.MmregError` catches all of them; each is also the built-in error that it",
        "resembles. A message says what was asked, what was found and what to do. The command line prints it (by",
        "`--debug` with the traceback) and ends with the exit code, or with 1 after any other error.",
        "",
        "| error | is also | exit code | meaning |",
        "|---|---|---|---|",
    ]
    for name, cls in vars(errors).items():
        if inspect.isclass(cls) and issubclass(cls, errors.MmregError):
            also = ", ".join(f"`{base.__name__}`" for base in cls.__bases__ if base is not errors.MmregError)
            meaning = (cls.__doc__ or "").partition("\n")[0]
            lines.append(f"| `{name}` | {also} | {cls.exit_code} | {_cell(meaning)} |")
    return "\n".join([*lines, ""])


def _markdown(docstring: str) -> Iterator[str]:
    """A docstring of Google form: its sections with a title, named entries as lists, examples as code."""
    prose, *rest = re.split(r"^(Args|Attributes|Returns|Raises|Examples?):\n", docstring.strip(), flags=re.MULTILINE)
    yield from (prose.strip(), "")
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        text = textwrap.dedent(body).strip()
        yield from (f"{'Arguments' if title == 'Args' else title}:", "")
        if title.startswith("Example"):
            yield from ("```pycon", text, "```")
        elif title == "Returns":
            yield text
        else:
            for names, meaning in re.findall(r"^(\S[^:\n]*): (.*(?:\n[ \t].*)*)", text, re.MULTILINE):
                listed = ", ".join(f"`{name}`" for name in names.split(", "))
                yield f"- {listed}: {' '.join(meaning.split())}"
        yield ""


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True) or value.model_dump()
        if set(value) == set(form.Training.model_fields):
            return "the defaults below"
        return yaml.safe_dump(value, default_flow_style=True, sort_keys=False).strip()
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {
    "recipe.md": recipe_page,
    "components.md": components_page,
    "commands.md": commands_page,
    "registry.md": registry_page,
}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
        print(f"wrote {HERE / name}", file=sys.stderr)


if __name__ == "__main__":
    main()
