"""What Hypothesis makes recipes and command lines of: every key and option there is, with values that may be wrong."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import hypothesis
import yaml
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

COLUMNS = ("image", "title", "audio", "label", "split", "price", "tags", "id")


def drawn(strategy: Any, count: int, seed: int) -> list[Any]:
    """Some texts, the same each time; at least one."""
    found: dict[Any, None] = {}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=4 * count,  # as those that are made one after the other are often alike
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found[value] = None

    collect()
    return list(found)[:: max(1, len(found) // count)][:count]


@cache
def words() -> Any:
    """Names that mean something, and any text."""
    return st.sampled_from([*COLUMNS, "run", "table.csv", "none", "auto", "best", "fitted", "basic_english"]) | st.text(
        max_size=8
    )


@cache
def anything() -> Any:
    """A value, or lists and mappings of values."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | words()
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words(), inner, max_size=3), max_leaves=8
    )


@cache
def numbers() -> Any:
    """Numbers that options may be, and some that they may not."""
    return st.sampled_from([0, 1, 2, 3, 8, 32, 0.1, 0.5, 1.5, -1, 2**31, 10**12, 1e-300, 1e300])


def _options(kind: str, name: str) -> Any:
    """Up to two options of a component; most values are of use."""
    from mmreg import registry

    options = registry.describe(kind, name)["options"]
    values = {
        option["name"]: _mostly(
            st.sampled_from([option.get("default"), *re.findall(r"[a-z_]+", option["type"].partition("one of ")[2])]),
            numbers(),
            anything(),
        )
        for option in options
    }
    chosen = [st.fixed_dictionaries({key: value}) for key, value in values.items()]
    return st.builds(lambda a, b: {**a, **b}, st.one_of(*chosen, st.just({})), st.one_of(*chosen, st.just({})))


@cache
def components(kind: str) -> Any:
    """A component of a kind: by its name, or with some of its options."""
    from mmreg import registry

    known = [entry.spec.name for entry in registry.specs() if entry.spec.kind == kind]
    named = [_options(kind, name).map(lambda options, name=name: {"name": name, **options}) for name in known]
    return st.one_of(st.sampled_from(known), *named)


def _mostly(usual: Any, *others: Any) -> Any:
    """What is usual in three cases of four or more."""
    return st.integers(0, 7).flatmap(lambda draw: usual if draw < 6 else st.one_of(*others))


def _input(base: dict[str, Any], kind: str) -> Any:
    common = {
        "encoder": components("encoder"),
        "on_bad": st.sampled_from(["error", "absent", "skip"]),
        "columns": st.lists(st.sampled_from(COLUMNS), max_size=3),
        "column": st.sampled_from(COLUMNS),
        "type": st.sampled_from(["image", "text", "audio"]) | words(),
    }
    changes = st.one_of(st.just({}), *(st.fixed_dictionaries({key: value}) for key, value in common.items()))
    return st.builds(lambda options, change: {**base, **options, **change}, _options("modality", kind), changes)


def _recipe() -> Any:
    inputs = {
        "image": _input({"column": "image", "size": 16}, "image"),
        "title": _input({"column": "title", "type": "text"}, "text"),
        "audio": _input({"column": "audio"}, "audio"),
    }
    training = {
        "optimizer": components("optimizer"),
        "schedule": components("schedule"),
        "balance": components("balance"),
        "metric": words(),
        **dict.fromkeys(("epochs", "batch_size", "seed", "accumulate", "early_stopping"), numbers()),
        **dict.fromkeys(("modality_dropout", "precision", "gradient_clip"), numbers() | anything()),
    }
    targets = [("label", "classification"), ("price", "regression"), ("tags", "multilabel")]
    target = st.sampled_from(targets).map(lambda pair: {"column": pair[0], "task": pair[1]})
    fusion = components("fusion")
    named = st.sets(st.sampled_from(list(inputs)), min_size=1).flatmap(
        lambda names: st.fixed_dictionaries({name: inputs[name] for name in sorted(names)})
    )
    return st.fixed_dictionaries(
        {
            "table": _mostly(st.just("table.csv"), words()),
            "target": _mostly(target, anything(), target.map(lambda data: {**data, "weight": "price"})),
            "modalities": _mostly(named, st.dictionaries(words(), anything(), max_size=2)),
        },
        optional={
            "fusion": fusion | fusion.map(lambda inner: {"name": "mean", "of": ["image", inner]}),
            "split": _mostly(st.just("split"), anything(), st.fixed_dictionaries({"validation": numbers()})),
            "training": _mostly(st.fixed_dictionaries({}, optional=training), anything()),
            "metrics": st.lists(components("metric"), max_size=2),
            "key": _mostly(st.just("id"), words()),
        },
    )


def recipes() -> Any:
    """Recipes as YAML."""
    return _recipe().map(lambda recipe: yaml.safe_dump(recipe, allow_unicode=True))


def _texts() -> Any:
    """What can stand in a command line: any bytes but zero."""
    alphabet = st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from(
        "[]{}:,&*!|>'\"%@=.- \udc80"
    )
    return st.text(alphabet, max_size=20)


def settings() -> Any:
    """One to three settings for `--set`, as a JSON list."""
    flow = anything().map(lambda data: yaml.safe_dump(data, default_flow_style=True).replace("\0", ""))
    known = {
        "fusion": components("fusion").map(json.dumps),
        "modalities.image.encoder": components("encoder").map(json.dumps),
        "training.optimizer": components("optimizer").map(json.dumps),
        "training.schedule": components("schedule").map(json.dumps),
        "training.balance": components("balance").map(json.dumps),
        **dict.fromkeys(("training.epochs", "modalities.image.size", "training.batch_size"), numbers().map(str)),
        **dict.fromkeys(
            ("training", "modalities.title", "modalities", "target.task", "split", "table", "metrics"), flow
        ),
    }
    pairs = [value.map(lambda text, key=key: f"{key}={text}") for key, value in known.items()]
    free = st.builds(lambda key, text: f"{key}={text}", st.sampled_from(list(known)) | _texts(), _texts() | flow)
    return st.lists(_mostly(st.one_of(*pairs), free, _texts()), min_size=1, max_size=3).map(json.dumps)


def values() -> Any:
    """One to three values for `--value`, as a JSON list."""
    paths = st.sampled_from(
        ["rgb.png", "mono.wav", "images", "/dev/zero", "/dev/tty", "/proc/self/mem", "~", "plain.db"]
    )
    text = _texts() | paths | st.text("ab ", max_size=3000)
    names = _mostly(st.sampled_from(["title", "image", "audio"]), _texts())
    pairs = st.dictionaries(names, text, min_size=1, max_size=3)
    return pairs.map(lambda row: json.dumps([f"{name}={text}" for name, text in row.items()]))
