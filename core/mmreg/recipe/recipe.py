"""What a recipe says: reading it from YAML or Python, overriding keys, and checking its form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmreg.errors import ArgumentError, RecipeError
from mmreg.files import as_path, irregular
from mmreg.messages import is_unicode, listed, near, plural, shortened, shown
from mmreg.notebook import harmless, html_facts, html_table
from mmreg.recipe.find import find_components
from mmreg.recipe.form import Form, Input
from mmreg.recipe.ranges import open_keys
from mmreg.recipe.yaml import MOST_BYTES, read_yaml, yaml_text
from mmreg.registry import options
from mmreg.registry.options import Problem

IN_MEMORY = "<table in memory>"
"""What stands in a recipe for a table that was given as an object."""
SPLITS = {"train", "validation", "test"}
"""The keys of tables by split."""
NAMED = ("encoder", "fusion", "optimizer", "schedule", "balance")
"""Keys whose value may be a component's bare name, which stands for a mapping with this name."""


class Recipe:
    """A recipe whose form is right: known keys with values of the right types.

    Whether its components exist and fit together is checked by `mmreg.recipe.resolve`.

    Args:
        data: the recipe as plain data, as YAML gives it; or give its keys as keywords.
        name: what it is called in messages.
        folder: the folder that the table's path is relative to; the working directory if it is None.
        lines: the line of each key, for messages.
        keys: `table`, `target`, `modalities` and the further keys of the recipe's form. `table` may also be an object
            that speaks the Arrow PyCapsule protocol (pandas, polars, datasets, duckdb), a list of dicts, or a dict of
            such objects by split.

    Raises:
        RecipeError: names every problem with its line, key, what was found and what is allowed.

    Attributes:
        form: the recipe's keys, typed.
        tables: the table objects by split ("" for one table that is to be split); empty if the recipe names paths.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        /,
        *,
        name: str = "recipe",
        folder: Path | None = None,
        lines: Mapping[options.KeyPath, int] | None = None,
        **keys: Any,
    ) -> None:
        self.name = name
        self.folder = folder
        self.lines = dict(lines or {})
        self.data, self.tables = _without_tables({**(data or {}), **keys})
        told = f"is left open, where one value is needed; search for it (mmreg tune {self.name}), or write one value"
        self.fail_if([Problem(path, told) for path in open_keys(self.data)])
        fields, problems = options.validate(Form, self.data)
        if problems:
            self.fail_if([*problems, *self._further_problems(problems)])
        self.form = Form.model_construct(**fields)

    @harmless
    def __repr__(self) -> str:
        return f"<Recipe {self.name!r}: {self._trains()}>"

    @harmless
    def _repr_html_(self) -> str:
        form = self.form
        training = {key: value for key, value in vars(form.training).items() if key in form.training.model_fields_set}
        inputs = (
            {"input": name, "type": each.type or name, "columns": listed(each.reads(name)), "encoder": _named(each)}
            for name, each in form.modalities.items()
        )
        shown = html_facts(
            f"{self.name}: {self._trains()}", {"table": self.data["table"], "split": self.data.get("split")}
        )
        return shown + html_table(inputs, count=len(form.modalities)) + html_facts("training", training)

    def _trains(self) -> str:
        """What is trained to predict what, in a line."""
        targets = (
            f"{each.task} of {reads}" if (reads := name or each.reads) else each.task
            for name, each in self.form.predicted.items()
        )
        fusion = "" if self.form.fusion is None else f" by {self.form.fusion.name}"
        return shortened(f"{listed(targets)} from {listed(self.form.modalities)}{fusion}", 300)

    def _further_problems(self, problems: Iterable[Problem]) -> list[Problem]:
        """What is wrong with the components, as far as the recipe can be read without the keys that are wrong."""
        data = _copy(self.data)
        for problem in problems:
            _remove(data, problem.path)
        fields, left = options.validate(Form, data)
        if left:
            return []
        return find_components(Form.model_construct(**fields), self.folder).problems

    def fail_if(self, problems: Iterable[Problem]) -> None:
        """Raise a `RecipeError` that lists the problems, each with its line; nothing if there are none."""
        fail_if(self.name, self.lines, problems)

    def to_data(self) -> dict[str, Any]:
        """The recipe as plain data, the defaults of its own keys spelled out and the tables' paths made absolute."""
        data: dict[str, Any] = self.form.model_dump(mode="json")
        data["table"] = self._with_absolute(data["table"])
        if folder := self.refitted_run():
            data["training"]["refit"]["run"] = str(folder)
        return data

    def refitted_run(self) -> Path | None:
        """The absolute folder of the run whose fitted operators `training.refit` takes over."""
        refit = self.form.training.refitted
        return ((self.folder or Path()) / refit.run).absolute() if refit and refit.run else None

    def to_yaml(self) -> str:
        """The recipe as YAML, with its keys as they were given but for the tables' paths, which are absolute."""
        return yaml_text({**self.data, "table": self._with_absolute(self.data["table"])})

    def _with_absolute(self, table: Any) -> Any:
        """What a recipe says of a table, with absolute paths and without keys that are not given."""
        if isinstance(table, str):
            return self._absolute(table)
        return {
            key: value if key in ("separator", "encoding") else self._with_absolute(value)
            for key, value in table.items()
            if value is not None
        }

    def _absolute(self, table: str) -> str:
        if table == IN_MEMORY or "://" in table:
            return table
        path = str(((self.folder or Path()) / table).absolute())
        if not is_unicode(path):
            raise RecipeError(f"{self.name}: the table's path {path!a} is not UTF-8; rename the file or folder")
        return path

    def as_written(self, table: Any) -> Any:
        """A table as it is; the path of a file that the recipe names, with what the recipe says of it."""
        if not isinstance(table, str | Path):
            return table
        path = table if "://" in str(table) else str(Path(table).absolute())
        files = self.form.files().values()
        return next((replace(file, path=path) for file in files if self._absolute(str(file.path)) == path), table)

    def with_table(self, table: Any) -> Recipe:
        """The same recipe where its table is in memory or elsewhere by now, and of a file is written as before."""
        if isinstance(table, str | Path):
            table = str(table) if "://" in str(table) else str(Path(table).absolute())
            before = self.data["table"]
            if isinstance(before, Mapping) and Path(str(before.get("path"))).suffix == Path(table).suffix:
                table = {**before, "path": table}
        return self.replace({"table": table})

    def replace(self, changes: Mapping[str, Any]) -> Recipe:
        """The same recipe with some keys changed, each a dotted path such as "training.epochs"."""
        data = _copy(self.data)
        for key, value in changes.items():
            set_key(data, key, value)
        tables = dict(self.tables)
        if tables and data["table"] == self.data["table"]:
            data["table"] = tables[""] if "" in tables else {**data["table"], **tables}
        return Recipe(data, name=self.name, folder=self.folder, lines=self.lines)


def _named(given: Input) -> str | None:
    """How a recipe names the encoder of an input; None where the modality chooses it."""
    choice = given.encoder
    return (
        None if choice is None else choice.name or (f"from {choice.run}" if choice.run else f"that of {choice.share}")
    )


def fail_if(name: str, lines: Mapping[options.KeyPath, int], problems: Iterable[Problem]) -> None:
    """Raise a `RecipeError` that lists the problems of a recipe, each with its line; nothing if there are none."""
    listed = sorted(problems, key=lambda problem: _line(lines, problem.path))
    if not listed:
        return
    texts = [f"  line {line}, {p}" if (line := _line(lines, p.path)) else f"  {p}" for p in listed]
    raise RecipeError(f"{name}: {plural(len(texts), 'problem')}\n" + "\n".join(texts), [text.strip() for text in texts])


def _line(lines: Mapping[options.KeyPath, int], path: options.KeyPath) -> int:
    """The line of a key, or of the nearest one above it; 0 if the recipe has no lines."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def read_recipe(source: Recipe | Mapping[str, Any] | str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: a recipe, its keys as a dict, or the path of a YAML file.
        overrides: texts such as "training.epochs=3", each a dotted key and a YAML value.

    Raises:
        RecipeError: the file is missing or no YAML, or the recipe's form is wrong.
    """
    changes = read_overrides(overrides)
    if isinstance(source, Recipe | Mapping):
        recipe = source if isinstance(source, Recipe) else Recipe(source)
        return recipe.replace(changes) if changes else recipe
    path = as_path(source, "recipe", "a Recipe, its keys as a dict, or the path of a YAML file")
    data, lines = read_keys(path, changes)
    return Recipe(data, name=str(path), folder=path.parent, lines=lines)


def read_keys(path: Path, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[options.KeyPath, int]]:
    """What stands in a recipe's file, some keys changed, and the line of each key; its form is not looked at."""
    data, lines = _read_file(path)
    for key, value in changes.items():
        steps = key.split(".")
        set_key(data, key, value)
        lines = {path: line for path, line in lines.items() if path[: len(steps)] != tuple(steps)}
        for count in range(1, len(steps)):
            lines.setdefault(tuple(steps[:count]), 0)  # a mapping that the file does not have
        lines[tuple(steps)] = 0  # what stands in the file is not what is used
    return data, lines


def read_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Values by dotted key, of texts such as "training.epochs=3"."""
    given = None if isinstance(overrides, str | bytes) or not isinstance(overrides, Iterable) else list(overrides)
    if given is None or not all(isinstance(each, str) for each in given):
        raise ArgumentError(f'overrides are texts such as ["training.epochs=3"]; found {shown(overrides)}')
    return dict(map(_override, given))


def set_key(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a recipe's plain data; a bare component name on the way becomes a mapping that holds it."""
    _set(data, key.split("."), value, key)


def _read_file(path: Path) -> tuple[dict[str, Any], dict[options.KeyPath, int]]:
    try:
        what = irregular(path)
        if what not in ("", "a folder"):
            raise RecipeError(f"{str(path)!r} is {what}, where a recipe's file is needed")
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise RecipeError(f"{str(path)!r} is no recipe: it has {path.stat().st_size:,} bytes")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        there = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        hint = near(path.name, there) or (f"; there are {', '.join(there[:5])}" if there else "")
        raise RecipeError(f"there is no recipe {str(path)!r}{hint}") from error
    except IsADirectoryError as error:
        inside = sorted(p.name for p in path.glob("*.y*ml"))
        hint = f": {', '.join(inside[:5])}" if inside else ", of which it holds none"
        raise RecipeError(f"{str(path)!r} is a folder; name the recipe's file in it{hint}") from error
    except OSError as error:
        raise RecipeError(f"the recipe {str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{str(path)!r} is no recipe: a recipe is YAML in UTF-8, but byte {error.start + 1:,} is no UTF-8"
        ) from error
    data, lines = read_yaml(text, str(path))
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise RecipeError(f"{path}: a recipe is a mapping with the keys table, target, modalities, ...; found {found}")
    return data, lines


def _override(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f"--set needs KEY=VALUE, such as training.epochs=3; found {text!r}")
    return key.strip(), read_yaml(value, f"--set {key}")[0]


def _set(data: dict[str, Any], keys: list[str], value: Any, whole: str) -> None:
    """Set a dotted key; a bare component name on the way becomes a mapping that holds it."""
    for step, key in enumerate(keys[:-1]):
        inner = data.get(key)
        if inner is None:
            inner = data[key] = {}
        elif isinstance(inner, str) and key in NAMED:
            inner = data[key] = {"name": inner}
        if not isinstance(inner, dict):
            above, below = ".".join(keys[: step + 1]), ".".join(keys[step + 1 :])
            raise RecipeError(
                f"--set {whole}: {above} is {inner!r} and holds no keys; set it as a whole: "
                f'--set "{above}={{{below}: ...}}"'
            )
        data = inner
    data[keys[-1]] = value


def _remove(data: Any, path: options.KeyPath) -> None:
    """Delete a key, if it is there."""
    for step in path[:-1]:
        inside = step in data if isinstance(data, dict) else isinstance(data, list) and isinstance(step, int)
        if not inside:
            return
        data = data[step]
    if isinstance(data, dict) and path:
        data.pop(path[-1], None)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _without_tables(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe as plain data, and apart from it the tables that were given as objects."""
    table = data.get("table")
    if table is None or isinstance(table, str):
        return _copy(data), {}
    if isinstance(table, Path):
        return _copy({**data, "table": str(table)}), {}
    if isinstance(table, Mapping) and (set(table) <= SPLITS or not _is_columns(table)):
        named = {key: _path_as_text(one) for key, one in table.items() if key not in SPLITS or _is_named(one)}
        objects = {split: one for split, one in table.items() if split not in named and one is not None}
        return _copy({**data, "table": {**named, **dict.fromkeys(objects, IN_MEMORY)}}), objects
    return _copy({**data, "table": IN_MEMORY}), {"": table}


def _is_named(table: Any) -> bool:
    """Whether it says where a table is, by its path or by keys, rather than being one."""
    return isinstance(table, str | Path) or (isinstance(table, Mapping) and not _is_columns(table))


def _is_columns(table: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a table by itself: a list of values for each column."""
    return bool(table) and all(
        hasattr(values, "__len__") and not isinstance(values, str | bytes | Mapping) for values in table.values()
    )


def _path_as_text(table: Any) -> Any:
    if isinstance(table, Mapping):
        return {key: _path_as_text(value) for key, value in table.items()}
    return str(table) if isinstance(table, Path) else table
