"""Combining models that were trained apart, by a model-level operator, into a run like any other.

The combination is the run of a recipe whose fusion nests the runs' own: their weights are put in its places. So
evaluating, predicting and loading it need nothing of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmreg import registry, runs
from mmreg.contract.fusion import ModelFusion
from mmreg.contract.interfaces import Modality
from mmreg.contract.task import Task
from mmreg.errors import OptionError, RunError
from mmreg.files import as_path, write_json
from mmreg.model.build import build
from mmreg.model.devices import resolve_device
from mmreg.model.nodes import ModelNode
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import resolve
from mmreg.runs import Run
from mmreg.runs.common_rows import CommonRows, fit_operator, fit_task
from mmreg.runs.followers import Followers
from mmreg.runs.same_inputs import modality_texts, same_inputs

LOSS_WEIGHTS = "task_module.log_variances"
"""The learned weights of the losses of several targets, in a model's weights."""
SPLITS = (runs.OUT_OF_FOLD, "validation", "test")
"""Whose predictions runs may have."""


def fuse(
    folders: Sequence[str | Path],
    fusion: str | Mapping[str, Any],
    out: str | Path,
    *,
    overwrite: bool = False,
    device: str | torch.device | None = None,
) -> Run:
    """Combine runs.

    What the operator has to learn is fitted on the validation rows that all runs have, by the predictions that each
    of them wrote; so the data themselves are not needed. Of cross-validated runs these are all rows in folds, each
    predicted by the training that has not seen it. Rows are matched by the recipes' `key`, or by number where
    all runs were trained on the same table.

    Args:
        folders: the runs, at least two.
        fusion: a model-level operator by name, or a mapping of its name and options.
        out: the folder to write the combined run to.
        overwrite: whether to replace a run that is there.
        device: where the combined run computes.

    Raises:
        OptionError: `fusion` is neither a name nor a mapping with one.
        RunError: the runs cannot be combined; says why.
        RecipeError: the operator is unknown, of the other level, has no meaning for the task, or its options are wrong.
    """
    if len(folders) < 2:
        raise RunError(f"fusing needs at least two runs, found {len(folders)}")
    wanted = as_path(out, "out")
    if any(as_path(folder, "a run's folder").resolve() == wanted.resolve() for folder in folders):
        raise RunError(f"{out} is one of the runs to combine; name another folder for the combination")
    chosen = _chosen(fusion)
    with runs.writing(wanted):
        target = runs.claim(wanted, overwrite=overwrite, resumable=False)
        runs.remove_leftovers(target)
        run = combine([runs.load(folder, "cpu") for folder in folders], chosen, target, resolve_device(device))
        tell_end(run)
    return run


def combine(
    loaded: Sequence[Run],
    chosen: dict[str, Any],
    target: Path,
    where: torch.device,
    splits: Sequence[str] = SPLITS,
    further: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """Combine loaded runs in a folder that is held for writing; `tell_end` comes when nothing more is written.

    Args:
        loaded: the runs.
        chosen: the operator by name, with its options.
        target: the folder.
        where: the device that the combination computes on.
        splits: those whose rows all runs may have; the operator is fitted on the first that all of them predicted.
        further: what the report tells besides.
        changes: keys of the combination's recipe that are others than those of the first run's.
    """
    task = _common_task(loaded)
    parts = _Parts(loaded, chosen)
    recipe = Recipe({**parts.recipe(), **(changes or {})}, folder=loaded[0].plan.recipe.folder)
    plan = resolve(recipe, trains=False)
    specs = {name: modality.spec for name, modality in parts.modalities.items()}
    model = build(plan, specs, task, loaded[0].model.prior, parts.states)
    missing, unexpected = model.load_state_dict(parts.weights(), strict=False)
    assert not unexpected
    learned_last = {f"task_module.{name}" for name in _learned_last(task)}
    assert all(name.startswith("root.fusion.") or name in learned_last for name in missing)
    assert isinstance(model.root, ModelNode)
    inputs = same_inputs(plan, parts.called())
    common = {split: parts.common_rows(split, model.root.part_names, inputs) for split in splits}
    held_out = [common[split] for split in splits if split != "test" and common[split] is not None]
    rows = held_out[0] if held_out else None
    notes = fit_operator(model.root, task, rows)
    notes += fit_task(model.root.fusion, task, model.prior, rows)
    runs.clear(target)
    prints = {run.fingerprint for run in loaded}
    fingerprint = prints.pop() if len(prints) == 1 else ""
    combined = [str(run.folder) for run in loaded]
    table = {"fused": combined, "fingerprint": fingerprint, "inputs": inputs}
    runs.write_facts(target, plan, parts.modalities, task, model, table)
    report: dict[str, Any] = {"fused": combined, "notes": notes, **(further or {})}
    for split, rows in common.items():
        if rows is not None:
            predicted, columns = rows.predict(model.root.fusion, task, model.prior)
            report[split] = runs.report_split(target, plan, task, split, columns, rows.targets, predicted)
    if splits and not any(common.values()):
        notes.append("there are no figures: not all of the runs have predictions of validation or test rows")
    write_json(target / runs.REPORT, report)
    runs.write_weights(target / runs.WEIGHTS, model.state_dict())
    return Run(target, plan, parts.modalities, task, model, fingerprint, where, fused=True, inputs=inputs)


def tell_end(run: Run) -> None:
    """Tell those who follow that a combination is complete, with all figures in its report."""
    Followers(chosen=run.plan.callbacks).tell("on_end", run, run.report)


def _chosen(fusion: str | Mapping[str, Any]) -> dict[str, Any]:
    """The operator as a mapping of its name and options.

    Raises:
        OptionError: it is neither a name nor a mapping with one, or names parts.
    """
    chosen = {"name": fusion} if isinstance(fusion, str) else fusion
    if not (isinstance(chosen, Mapping) and isinstance(chosen.get("name"), str)):
        raise OptionError(
            f"fusion is a model-level operator's name, or a mapping such as {{name: stacking, l2: 1}}; found {fusion!r}"
        )
    if "of" in chosen:
        raise OptionError("fusion names its parts by `of`, but they are the runs; leave it out")
    return dict(chosen)


def _common_task(loaded: Sequence[Run]) -> Task:
    """The task of all runs.

    Raises:
        RunError: their targets differ, or what they take for an absent cell.
    """
    runs.check_same_task(loaded)
    first = loaded[0]
    for run in loaded[1:]:
        marks = [sorted({*each.plan.recipe.form.missing}) for each in (first, run)]
        if marks[0] != marks[1]:
            raise RunError(
                f"{first.folder} and {run.folder} take different texts for absent cells (missing: {marks[0]} and "
                f"{marks[1]}); train them with the same"
            )
        if run.task.state() != first.task.state():
            raise RunError(
                f"{first.folder} and {run.folder} learned different targets: {_short(first.task.state())} and "
                f"{_short(run.task.state())}; runs can be combined only if these are the same: train on the same rows, "
                "by a `split` column"
            )
    task = first.plan.new_task(restored=True)  # one that has learned nothing yet of any model's scores
    task.load_state(first.task.state())
    return task


def _short(state: Mapping[str, Any]) -> str:
    text = str(state)
    return text if len(text) <= 200 else text[:197] + "..."


class _Parts:
    """The runs as parts of one recipe: names that do not clash, weights and states under these names."""

    def __init__(self, loaded: Sequence[Run], fusion: dict[str, Any]) -> None:
        self.loaded = loaded
        self.fusion = fusion
        entry = registry.find("fusion", self.fusion["name"])
        if entry.spec.level != "model":
            raise RunError(
                f"{entry.spec.name} fuses features; models that were trained apart need a model-level operator"
            )
        cls = registry.load(entry)
        assert issubclass(cls, ModelFusion)
        if cls.uses_features:
            raise RunError(f"{entry.spec.name} reads features, which trained runs do not share; train it in one recipe")
        self.evidential = cls.evidential
        if self.evidential:
            self._check_evidential(entry.spec.name)
        self.renamed: list[dict[str, str]] = []
        for index in range(len(loaded)):
            self.renamed.append(self._names(index))
        self._name_operators()
        self.modalities: dict[str, Modality] = {}
        self.states: dict[str, Mapping[str, Any]] = {}
        for run, names in zip(loaded, self.renamed, strict=True):
            self.modalities |= {names[name]: modality for name, modality in run.modalities.items()}
            for role, part in run.model.components().items():
                kind, _, name = role.partition("/")
                if name in names:  # all but an operator whose place the combination's takes
                    self.states[f"{kind}/{names[name]}"] = part.state()

    def _check_evidential(self, name: str) -> None:
        for run in self.loaded:
            root = run.model.root
            if not (isinstance(root, ModelNode) and root.fusion.evidential):
                raise RunError(
                    f"{name} combines evidence, for which its parts need a loss of its own, but {run.folder} was "
                    f"trained without it; train it with fusion: {name} (also with a single modality), or choose another"
                )

    def _names(self, index: int) -> dict[str, str]:
        """New names of a run's inputs: its own where no other run has them, else with the run's folder before them."""
        run = self.loaded[index]
        others = {name for other in self.loaded if other is not run for name in other.modalities}
        prefix = self._called(index)
        taken = others | {name for names in self.renamed for name in names.values()}
        found = {}
        for name in run.modalities:
            new = name if name not in others else f"{prefix}_{name}"
            while new in taken:
                new += "_"
            found[name] = new
            taken.add(new)
        return found

    def _called(self, index: int) -> str:
        """What a run is called within the combination: by its folder."""
        folders = [run.folder.absolute().name for run in self.loaded]
        name = folders[index] if folders.count(folders[index]) == 1 else f"{folders[index]}{index + 1}"
        return "".join("_" if c in "./\\,=+" else c for c in name)

    def called(self) -> dict[str, str]:
        """What the combination's inputs are called in their runs."""
        return {
            names[each]: modality
            for run, names in zip(self.loaded, self.renamed, strict=True)
            for modality, of in run.inputs.items()
            for each in of
        }

    def _name_operators(self) -> None:
        """Add the new names of the runs' operators, as resolving the combination numbers those that are alike."""
        plan = resolve(Recipe(self.recipe()), trains=False)
        assert plan.fusion is not None
        taken = iter([node.name for node in plan.fusion.nodes()][1:])
        for run, names in zip(self.loaded, self.renamed, strict=True):
            nodes = [node.name for node in run.plan.fusion.nodes()] if run.plan.fusion else []
            names |= {old: next(taken) for old in nodes[self.evidential :]}

    def recipe(self) -> dict[str, Any]:
        """The recipe of the combination."""
        data = self.loaded[0].plan.to_data()
        data["training"]["balance"] = None  # what the runs' own have learned serves their training alone
        data["modalities"] = {}
        of: list[Any] = []
        for index, (run, names) in enumerate(zip(self.loaded, self.renamed, strict=True)):
            own = run.plan.to_data()
            for name, given in own["modalities"].items():
                shared = given["encoder"].get("share")
                encoder = {"share": names[shared]} if shared else given["encoder"]
                if run.plan.inputs[name].encoder.weights.in_run == "reference":
                    encoder = {**encoder, "weights_in_run": "copy"}  # the combination keeps all weights
                data["modalities"][names[name]] = {**given, "encoder": encoder}
            tree = own["fusion"]
            if tree is None:
                of.append(next(iter(names.values())))
            elif self.evidential:
                of += _renamed(tree, names)["of"]
            else:
                of.append({**_renamed(tree, names), "called": self._called(index)})
        data["fusion"] = {**self.fusion, "of": of}
        return data

    def weights(self) -> dict[str, Tensor]:
        """All runs' weights under the combination's names."""
        found: dict[str, Tensor] = {"prior": self.loaded[0].model.prior, **_task_weights(self.loaded)}
        for run, names in zip(self.loaded, self.renamed, strict=True):
            root, head = "root", ""  # whose operator takes the place of the runs' own
            if not self.evidential:
                tree = run.plan.fusion
                part = names[tree.name if tree else next(iter(run.modalities))]
                root, head = f"root.nodes.{part}", f"root.heads.{part}"
            found |= _moved(run.model.state_dict(), names, root, head)
        return {name: tensor for name, tensor in found.items() if not name.startswith("root.fusion.")}

    def common_rows(
        self, split: str, part_names: Sequence[str], inputs: Mapping[str, Sequence[str]]
    ) -> CommonRows | None:
        """The rows of a split that every run has predicted, in the first run's order; None if one has no such split.

        Raises:
            RunError: there are none in common, or they cannot be matched.
        """
        found = [runs.read_predictions(run.folder, split) for run in self.loaded]
        tables = [table for table in found if table is not None]
        if len(tables) < len(self.loaded):
            return None
        column = runs.matching_key(self.loaded)
        written = [runs.written_keys(run.folder, split, table) for run, table in zip(self.loaded, tables, strict=True)]
        indices = [{key: position for position, key in enumerate(own)} for own in written]
        keys = [key for key in written[0] if all(key in index for index in indices)]
        if not keys:
            raise RunError(f"the runs have no {split} row in common (matched by {column!r})")
        targets, columns = runs.Targets(column), []
        modalities = {each: modality for modality, of in inputs.items() for each in of}
        had: list[set[str]] = [set() for _ in keys]
        for run, names_of, table, index in zip(self.loaded, self.renamed, tables, indices, strict=True):
            chosen = [index[key] for key in keys]
            given = table.column("target").take(chosen).to_pylist()
            targets.add(run.folder, zip(keys, given, strict=True))
            names = ["scores"]
            if self.evidential:
                assert isinstance(run.model.root, ModelNode)
                names = [f"scores/{part}" for part in run.model.root.part_names]
            there = table.column("modalities").take(chosen).to_pylist()
            own = {modality: modalities[names_of[of[0]]] for modality, of in run.inputs.items()}
            for found_in, text in zip(had, there, strict=True):
                found_in.update(own.get(each, each) for each in text.split("+"))
            for name in names:
                values = table.column(name).take(chosen).to_pylist()
                columns.append([row if had else None for row, had in zip(values, there, strict=True)])
        scores = dict(zip(part_names, columns, strict=True))
        # On the targets given last all runs agree.
        texts = modality_texts(inputs, ([name in row for name in inputs] for row in had))
        return CommonRows(column, keys, given, scores, self.loaded[0].task.num_outputs, texts)


def _task_weights(loaded: Sequence[Run]) -> dict[str, Tensor]:
    """What the runs' task has learned beside their models.

    The weights of several targets' losses may differ, as nothing is trained any more; those of the first run stay.

    Raises:
        RunError: the runs have learned different scales, by which each makes scores of its own logits alone.
    """
    learned_last = {f"task_module.{name}" for name in _learned_last(loaded[0].task)}
    first, *others = (
        {
            name: tensor
            for name, tensor in run.model.state_dict().items()
            if name.startswith("task_module.") and name not in learned_last
        }
        for run in loaded
    )
    for run, other in zip(loaded[1:], others, strict=True):
        for name, tensor in first.items():
            if name != LOSS_WEIGHTS and not tensor.equal(other[name]):
                raise RunError(
                    f"the task of {run.folder} has learned other parameters ({name}) than that of {loaded[0].folder}, "
                    "so they cannot be combined; train them as one recipe with a model-level operator"
                )
    return first


def _learned_last(task: Task) -> set[str]:
    """The names in a task's module of what it learned of a finished model's scores, which are not those of others."""
    return {name for name, _ in task.module.named_buffers()} if task.module and task.learns_from_scores else set()


def _renamed(tree: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A fusion as a recipe spells it, its inputs under new names."""
    of = [names[part] if isinstance(part, str) else _renamed(part, names) for part in tree["of"]]
    changed = {**tree, "of": of}
    if isinstance(tree.get("own_loss"), dict):
        changed["own_loss"] = {names[part]: weight for part, weight in tree["own_loss"].items() if part in names}
    return changed


def _moved(state: Mapping[str, Tensor], names: Mapping[str, str], root: str, head: str = "") -> dict[str, Tensor]:
    """A run's weights under the names that they have in a combination."""
    moved = {}
    for name, tensor in state.items():
        steps = name.split(".")
        if steps[0] == "head":
            moved[".".join([head, *steps[1:]])] = tensor
        elif steps[0] in ("encoders", "pooling"):
            moved[".".join([steps[0], names[steps[1]], *steps[2:]])] = tensor
        elif steps[0] == "root":
            position = 1
            while steps[position] in ("nodes", "heads"):
                steps[position + 1] = names[steps[position + 1]]
                position += 2
                if steps[position - 2] == "heads":
                    break
            moved[".".join([root, *steps[1:]])] = tensor
    return moved
