"""Writes docs/operators.md and its pictures, from the operators' own descriptions and what stands beside them here.

Run after a change of an operator or of entries.yaml: python docs/operators/gallery.py
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mmreg import registry
from mmreg.registry.options import describe_options

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))  # the tests run this file from elsewhere

import drawing  # noqa: E402

NOTE = "<!-- Written by docs/operators/gallery.py; do not edit. -->\n"
ENTRIES: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "entries.yaml").read_text(encoding="utf-8"))
TEMPLATE = HERE / "page.txt"
MEASURED = HERE / "measured.json"
FIGURES = HERE.parent / "figures.md"
SETS = ("avmnist_small", "emoji")
SPACES = {
    "log_probabilities": "classes",
    "log_odds": "labels",
    "values": "values",
    "quantiles": "quantiles",
    "log_hazards": "survival",
}
FACTS = ("formula", "parameters", "products", "absent", "use", "avoid", "source", "picture")
"""What every entry has."""


def operators() -> list[registry.Entry]:
    """The bundled operators, those of features first."""
    bundled = [entry for entry in registry.specs("fusion") if entry.distribution == "mmreg"]
    return sorted(bundled, key=lambda entry: (entry.spec.level, entry.spec.name))


def letters(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the letters of an operator's formulas stand for, apart from sizes: its options, or their defaults."""
    cls = registry.load(registry.find("fusion", name))
    values = {each["name"]: each.get("default") for each in describe_options(cls)} | dict(options or {})
    return {letter: values[option] for letter, option in ENTRIES[name].get("letters", {}).items()}


def evaluate(name: str, what: str, sizes: Mapping[str, int], options: Mapping[str, Any] | None = None) -> int:
    """A formula of an entry at given sizes (M, D, T, K) and options.

    Args:
        name: the operator.
        what: "parameters", "products" or "fitted".
        sizes: M, D, T and K.
        options: those that are not at their default.
    """
    known = dict(sizes) | {"P": sizes["M"] * (sizes["M"] - 1) // 2} | letters(name, options)
    for letter, expression in ENTRIES[name].get("where", {}).items():
        known[letter] = eval(expression, {"__builtins__": {}}, known)
    result = eval(ENTRIES[name][what], {"__builtins__": {}}, known)
    assert result == int(result)
    return int(result)


def build(entry: registry.Entry, sizes: Mapping[str, int], options: Mapping[str, Any]) -> Any:
    """An operator for M modalities of D features, of models for K classes."""
    passed = {"num_outputs": sizes["K"], "space": "log_probabilities"} if entry.spec.level == "model" else {}
    inputs = {f"x{number}": sizes["D"] for number in range(sizes["M"])}
    return registry.build("fusion", entry.spec.name, inputs, **passed, **options)


def shown(expression: str) -> str:
    """A Python expression as one writes it: `M*(D + 1)*F**2` as M (D + 1) F²."""
    return expression.replace("**2", "²").replace("*", " ")


def accuracies() -> dict[str, dict[str, str]]:
    """Each operator's cells of the table in figures.md, by data set."""
    rows = re.findall(
        r"^\| `(\w+)` \| (?:model|feature) \| (.*) \|$", FIGURES.read_text(encoding="utf-8"), re.MULTILINE
    )
    cells = {name: row.split(" | ") for name, row in rows}
    return {name: {SETS[0]: row[0], SETS[1]: row[2]} for name, row in cells.items()}


def count(number: int) -> str:
    """A number of parameters, short."""
    if number < 1000:
        return str(number)
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.3g} k"


def inputs_of(entry: registry.Entry) -> tuple[str, list[str], str]:
    """What an operator's picture begins and ends with: the kind of its inputs, their labels, and that of the output."""
    if entry.spec.level == "model":
        return "prediction", ["p₁", "p₂", "p₃"], "p"
    takes = registry.load(entry).takes
    return ("tokens" if takes == "tokens" else "vector"), ["x₁", "x₂", "x₃"], "F"


def picture(entry: registry.Entry) -> str:
    """An operator's picture, for three modalities."""
    name = entry.spec.name
    kind, inputs, output = inputs_of(entry)
    return drawing.diagram(f"How {name} fuses", inputs, ENTRIES[name]["picture"], output, kind)


def alternative(entry: registry.Entry) -> str:
    """The text in the place of the picture."""
    _, inputs, output = inputs_of(entry)
    return (
        drawing.described(inputs, ENTRIES[entry.spec.name]["picture"], output).replace("[", "\\[").replace("]", "\\]")
    )


def page() -> str:
    """The gallery."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    accuracy = accuracies()
    sections = {"feature": "", "model": ""}
    for entry in operators():
        sections[entry.spec.level] += "\n".join([*_section(entry, measured, accuracy), "\n"])
    parts = {"count": str(len(operators())), "overview": "\n".join(_overview(measured, accuracy)), **sections}
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace("{" + name + "}", part)
    return NOTE + "\n" + text.rstrip() + "\n"


def _overview(measured: dict[str, Any], accuracy: dict[str, dict[str, str]]) -> Iterator[str]:
    sizes, machine = measured["sizes"], measured["machine"]
    paragraph = (
        f"All at a glance. Parameters and time are those of M = {sizes['M']} modalities of D = {sizes['D']} features "
        f"(operators of tokens: of T = {sizes['T']} tokens each; operators of models: K = {sizes['K']} classes) and a "
        f"batch of B = {sizes['B']}, with default options but for {_differing(measured)}. The time is that of a step, "
        f"forwards and backwards, of the operator alone, relative to one of `concat`, which takes "
        f"{measured['operators']['concat']['milliseconds']} ms; the median of rounds in which both take turns, by one "
        f"thread's processor time ({machine['cpu']}, torch {machine['torch']}, {measured['date']}). Beside the "
        f"encoders most of it is little."
    )
    yield from textwrap.wrap(paragraph, 120, break_long_words=False, break_on_hyphens=False)
    yield from (
        "",
        "| operator | takes | size of F | parameters | time | avmnist_small | emoji |",
        "|---|---|---|---|---|---|---|",
    )
    for entry in operators():
        name, level = entry.spec.name, entry.spec.level
        operator = build(entry, sizes, measured["options"].get(name, {}))
        result = str(operator.out_features) if level == "feature" else ""
        parameters = count(sum(each.numel() for each in operator.parameters()))
        takes = "predictions" if level == "model" else _takes(entry)
        cells = [f"[`{name}`](#{name})", takes, result, parameters]
        cells.append(f"{measured['operators'][name]['ratio']:g}")
        yield (
            "| "
            + " | ".join([*cells, *(accuracy.get(name, {}).get(each, f"[below](#{name})") for each in SETS)])
            + " |"
        )
    yield ""


def _differing(measured: dict[str, Any]) -> str:
    options = {name: ", ".join(f"{k}: {v}" for k, v in each.items()) for name, each in measured["options"].items()}
    return ", ".join(f"`{name}` (`{each}`)" for name, each in sorted(options.items()))


def _takes(entry: registry.Entry) -> str:
    cls = registry.load(entry)
    if entry.spec.level == "feature":
        return "tokens" if cls.takes == "tokens" else "vectors"
    return ", ".join(word for space, word in SPACES.items() if space in cls.spaces)


def _section(entry: registry.Entry, measured: dict[str, Any], accuracy: dict[str, dict[str, str]]) -> Iterator[str]:
    name = entry.spec.name
    told = ENTRIES[name]
    yield from (f"### {name}", "", entry.spec.summary, "")
    yield from ("```text", *told["formula"].rstrip().splitlines(), "```", "")
    yield from (f"![{alternative(entry)}](operators/{name}.svg)", "")
    where = [f"{letter} = {shown(each)}" for letter, each in told.get("where", {}).items()]
    known = [f"{letter} = `{told['letters'][letter]}` ({value})" for letter, value in letters(name).items()]
    if "T" in re.findall(r"\b[A-Z]\b", " ".join([told["products"], *where])):
        known.insert(0, "T tokens a modality")
    meaning = f", where {'; '.join([*known, *where])}" if known or where else ""
    fitted = f", and {shown(told['fitted'])} numbers fitted on held-out rows" if "fitted" in told else ""
    yield f"- **Parameters**: {shown(told['parameters'])}{fitted}{meaning}."
    note = f" {told['note']}" if "note" in told else ""
    yield f"- **Multiply-adds a row**: {shown(told['products'])}, in matrix products.{note}"
    took = measured["operators"][name]
    beside = f", {took['ratio']:g} times that of `concat`" if name != "concat" else ""
    options = ", ".join(f"{key}: {value}" for key, value in measured["options"].get(name, {}).items())
    yield f"- **Step**: {took['milliseconds']:g} ms{beside}{f', with `{options}`' if options else ''}."
    reached = told.get("accuracy") or ", ".join(f"{each} {cell}" for each, cell in accuracy[name].items())
    yield f"- **Accuracy**: {reached}."
    yield f"- **Absent modality**: {_lowered(told['absent'])}"
    yield f"- **Use it for**: {_lowered(told['use'])}"
    yield f"- **Rather not for**: {_lowered(told['avoid'])}"
    ordered = " The order of the modalities has a meaning." if registry.load(entry).ordered else ""
    yield f"- **Takes**: {_takes(entry)}.{ordered} [Options](reference/components.md#{name}-{entry.spec.level}-level)."
    yield f"- **From**: {_linked(told['source'])}."


def _lowered(sentence: str) -> str:
    """A sentence that goes on after a colon; one that begins with a letter of the formulas stays as it is."""
    word = sentence.split()[0]
    is_letter = len(word) == 1 and word != "A"
    return sentence if is_letter or word != word.capitalize() else sentence[0].lower() + sentence[1:]


def _linked(source: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)


def main() -> None:
    """Write the page and the pictures."""
    (HERE.parent / "operators.md").write_text(page(), encoding="utf-8")
    for entry in operators():
        (HERE / f"{entry.spec.name}.svg").write_text(picture(entry), encoding="utf-8")
    print(f"wrote {HERE.parent / 'operators.md'} and {len(operators())} pictures", file=sys.stderr)


if __name__ == "__main__":
    main()
