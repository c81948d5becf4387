"""Finding every component that a recipe's form names, with all problems at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmreg import registry
from mmreg.contract.interfaces import Modality
from mmreg.contract.markers import AssetMark
from mmreg.contract.task import Task
from mmreg.data.sources import refused_place
from mmreg.errors import ComponentImportError, ComponentNotFoundError, MmregError
from mmreg.messages import listed, near, shown
from mmreg.recipe.assets import digest
from mmreg.recipe.components import Component, FusionPlan, InputPlan, Many
from mmreg.recipe.find_balance import check_balance
from mmreg.recipe.find_earlier import find_earlier, with_earlier_options
from mmreg.recipe.find_fusion import FusionFinder, check_space
from mmreg.recipe.find_many import check_many
from mmreg.recipe.find_targets import check_targets, find_task
from mmreg.recipe.finder import Finder
from mmreg.recipe.form import EncoderChoice, Form, Input
from mmreg.recipe.optimization import refusal
from mmreg.recipe.training_form import Training
from mmreg.registry.describing import needs
from mmreg.registry.options import KeyPath, Problem, marked, option_names


@dataclass
class Found:
    """What a form names, as far as it was found.

    Attributes:
        inputs: the modalities by name, in order.
        fusion: the top operator; None for a single modality, or a task without a target.
        task: what is to be predicted.
        optimizer: what moves the weights.
        schedule: the learning rate's course.
        balance: what keeps one modality from starving the others.
        metrics: those that are none of the task's own, by name.
        callbacks: who follows the training.
        problems: what is wrong.
    """

    inputs: dict[str, InputPlan] = field(default_factory=dict)
    fusion: FusionPlan | None = None
    task: Component | None = None
    optimizer: Component | None = None
    schedule: Component | None = None
    balance: Component | None = None
    metrics: dict[str, Component] = field(default_factory=dict)
    callbacks: tuple[Component, ...] = ()
    problems: list[Problem] = field(default_factory=list)


def find_components(form: Form, folder: Path | None, trains: bool = True) -> Found:
    """Find all that a form names.

    Args:
        form: of a recipe.
        folder: what the paths of assets are relative to.
        trains: whether it is for a training. A run's own recipe says all that its encoders needed, for which they
            might read files that are gone by now; nor are the optimizer and the schedule tried, which takes a second.
    """
    finder = Finder(folder)
    found = Found(problems=finder.problems)
    found.task = find_task(finder, form)
    inputs = {name: _input(finder, form, name, given, trains) for name, given in form.modalities.items()}
    found.inputs = {name: plan for name, plan in _shared(inputs).items() if plan is not None}
    if found.task is None or found.task.cls.needs_target:
        found.fusion = FusionFinder(finder, list(inputs)).tree(form.fusion)
    check_many(finder, found.inputs, found.fusion, form.training)
    if found.task is not None:
        check_targets(finder, form, found.task)
        check_space(finder, found.fusion, found.task)
        found.metrics = _metrics(finder, form, found.task)
    _training(finder, form, found, trains)
    for number, address in enumerate(form.remote if trains else ()):
        if why := refused_place(address):
            finder.problem(("remote", number), why)
    callbacks = [
        finder.component("callback", chosen.name, chosen.options, ("callbacks", index))
        for index, chosen in enumerate(form.callbacks)
    ]
    found.callbacks = tuple(each for each in callbacks if each is not None)
    for index, callback in enumerate(callbacks):
        if trains and callback is not None and (lacking := needs(callback.entry.spec)):
            finder.problem(("callbacks", index), f"{callback.name} {lacking}")
    return found


def _input(finder: Finder, form: Form, name: str, given: Input, trains: bool) -> InputPlan | None:
    path: KeyPath = ("modalities", name)
    if not name or set(name) & set("./\\,=+"):
        finder.problem(path, "an input's name must not be empty nor hold any of . / \\ , = +")
    try:
        modality_cls: type[Modality] = registry.get("modality", given.type or name)
    except (ComponentNotFoundError, ComponentImportError) as error:
        types = ", ".join(registry.names("modality"))
        hint = "" if given.type else f" (an input whose name is no modality needs a type: {types})"
        finder.problem((*path, "type"), f"{error}{hint}")
        return None
    if given.columns is not None and not modality_cls.multiple_columns:
        finder.problem((*path, "columns"), "this modality reads one column; give column instead")
    if given.columns is None and modality_cls.multiple_columns:
        finder.problem(path, "this modality reads several columns; give columns: [..]")
    if given.store == "encoded" and not modality_cls.takes_bytes:
        finder.problem((*path, "store"), "this modality takes no files' bytes, so its arrays are kept: leave store out")
    source = _encoder_source(finder, form, name)
    if source is None:
        return None
    choice = form.modalities[source].encoder or EncoderChoice.model_construct(name=None)
    own = finder if source == name else Finder(finder.folder)  # of a shared one its owner tells the problems
    options, unaugmented = dict(given.options), modality_cls.unaugmented or {}
    earlier = None
    if choice.run is not None:
        earlier, encoder = find_earlier(own, choice, source)
        if earlier is not None and choice.name is None:
            options = with_earlier_options(finder, earlier, options, given.type or name, path)
            if encoder is not None and encoder.weights.frozen_epochs is None:  # what augments is not taken over
                options = {k: v for k, v in options.items() if k in given.options or k not in unaugmented}
    else:
        owner: type[Modality] = registry.get("modality", form.modalities[source].type or source)
        encoder_name = choice.name or owner.default_encoder
        if encoder_name is None:
            finder.problem(path, f"encoder is missing; there are {', '.join(registry.names('encoder'))}")
            return None
        encoder = own.component("encoder", encoder_name, choice.options, (*path, "encoder"), beside=choice.own_keys())
    if encoder is not None and trains:
        _add_needs(finder, path, modality_cls, encoder, options)
    frozen = encoder is not None and encoder.weights.frozen_epochs is None
    if frozen and not given.augmented_copies and not _mixes(form.training):
        options = {**unaugmented, **options}
    modality = finder.component("modality", given.type or name, options, path, name_key="type", beside=given.own_keys())
    if modality is None or encoder is None:
        return None
    columns = tuple(given.reads(name))
    shares = None if source == name else source
    on_bad, copies = given.on_bad or form.on_bad, given.augmented_copies
    many = None if given.many is None else Many(given.many, given.separator, given.ordered)
    plan = InputPlan(name, columns, modality, encoder, on_bad, shares, given.store, copies, earlier, many)
    if copies and (refused := _refused_copies(plan, form.training)):
        finder.problem((*path, "augmented_copies"), f"{refused}, or leave it out")
    return plan


def _mixes(training: Training) -> bool:
    """Whether rows are mixed, before they are encoded."""
    return training.mixup is not None or training.cutmix is not None


def _refused_copies(plan: InputPlan, training: Training) -> str | None:
    """Why no augmented versions of an input's rows can be encoded once, and what to do; None if they can."""
    if not plan.is_frozen:
        return f"what {plan.encoder.name} gives changes as it is trained: freeze it for good (freeze: true)"
    if _mixes(training):
        return "training.mixup and cutmix mix rows anew in each step, before they are encoded: leave them out"
    if plan.is_unaugmented:
        options = listed(f"{key}: {shown(value)}" for key, value in plan.modality.cls.unaugmented.items())
        return f"nothing is augmented{f' ({options})' if options else ''}: let {plan.modality.name} augment"
    return None


def _add_needs(
    finder: Finder, path: KeyPath, modality: type[Modality], encoder: Component, options: dict[str, Any]
) -> None:
    """Complete a modality's options by what its encoder needs, and by what suits it where they say nothing."""
    try:
        needed = encoder.cls.modality_options(encoder.options)
        suitable = encoder.cls.modality_defaults(encoder.options)
    except MmregError as error:  # such as a pretrained network's folder that cannot be read
        finder.problem((*path, "encoder"), str(error))
        return
    files = marked(modality, AssetMark)
    for key, value in needed.items():
        found = options.setdefault(key, value)
        if found != value and not (key in files and _same_file(found, value, finder.folder)):
            told = f"must be {value!r}, as encoder {encoder.name!r} needs it, found {found!r}"
            finder.problem((*path, key), told)
    known = option_names(modality)
    for key, value in suitable.items():
        if key in known:
            options.setdefault(key, value)


def _same_file(given: Any, needed: Any, folder: Path | None) -> bool:
    """Whether a recipe's file has the contents of the one that an encoder needs, as a run's copy of it has."""
    if not (isinstance(given, str) and isinstance(needed, str)):
        return False
    contents = digest(needed)
    return contents is not None and contents in (digest((folder or Path()) / given), digest(given))


def _encoder_source(finder: Finder, form: Form, name: str) -> str | None:
    """The input whose encoder this one has: mostly its own; None if there is a problem."""
    choice = form.modalities[name].encoder
    if choice is None or choice.share is None:
        return name
    path: KeyPath = ("modalities", name, "encoder", "share")
    others = [other for other in form.modalities if other != name]
    if choice.share not in others:
        told = f"there is no other input {choice.share!r}{near(choice.share, others)}; there are {', '.join(others)}"
        finder.problem(path, told if others else "there is no other input")
        return None
    owner = form.modalities[choice.share].encoder
    if owner is not None and owner.share is not None:
        finder.problem(path, f"{choice.share!r} shares an encoder itself; name the input that has it: {owner.share}")
        return None
    return choice.share


def _shared(inputs: dict[str, InputPlan | None]) -> dict[str, InputPlan | None]:
    """The inputs, those that share an encoder with the very same component."""
    result = dict(inputs)
    for name, plan in inputs.items():
        owner = inputs.get(plan.shares or "") if plan is not None else None
        if plan is not None and owner is not None:
            result[name] = replace(plan, encoder=owner.encoder)
    return result


def _metrics(finder: Finder, form: Form, task: Component) -> dict[str, Component]:
    """The metrics that a recipe names beyond the task's own, by the names that they have in figures."""
    metrics: dict[str, Component] = {}
    chosen: list[tuple[KeyPath, str, dict[str, Any]]] = [
        (("metrics", index), each.name, each.options) for index, each in enumerate(form.metrics)
    ]
    named = {metric_name(name, task) for _, name, _ in chosen}
    if form.training.metric is not None and form.training.metric not in named:
        chosen.append((("training", "metric"), form.training.metric, {}))
    further = any(name not in task.cls.metrics for _, name, _ in chosen)  # only then is every metric imported
    fitting = further_metrics(task) if further else []
    for path, full_name, options in chosen:
        if full_name in task.cls.metrics:
            if options:
                finder.problem(path, f"{full_name} is the task's own metric and takes no options")
            continue
        target, name = of_target(full_name, task)
        if target is None:
            known = [*task.cls.metrics, *fitting]
            told = f"names no target's metric{near(name, known)}; there are {', '.join(known)}"
            finder.problem(path, f"{name!r} {told}")
            continue
        start, own = f"{target}." if target else "", task.targets[target]
        takes = _spaces(registry_name(name))
        if takes is not None and start + registry_name(name) not in fitting:
            of = f"the task {own.name!r}"
            known = [*task.cls.metrics, *fitting]
            told = f"{of} has no metric {name!r}{near(full_name, known)}; it has {', '.join(known)}"
            if takes:
                told = f"{name} has no meaning for {of}, whose scores are {own.cls.space}; it takes {', '.join(takes)}"
            finder.problem(path, told)
            continue
        component = finder.component("metric", name, options, path)
        if component is not None and start + component.name in metrics:
            finder.problem(path, f"the metric {start + component.name!r} is named twice")
        elif component is not None:
            metrics[start + component.name] = component
    return metrics


def of_target(name: str, task: Component) -> tuple[str | None, str]:
    """The target that a metric is of, and its name without the target's; None if it names none of several targets."""
    if "" in task.targets:
        return "", name
    target, _, own = name.partition(".")
    return (target, own) if own and target in task.targets else (None, name)


def metric_name(name: str, task: Component) -> str:
    """What a metric is called in figures: its bare name, with its target's before it where there are several."""
    target, own = of_target(name, task)
    return f"{target}.{registry_name(own)}" if target else registry_name(own)


def further_metrics(task: Component) -> list[str]:
    """The installed metrics that fit a task beyond its own, with the target that each is of before their names."""
    found = []
    for target, own in task.targets.items():
        start = f"{target}." if target else ""
        found += [start + name for name in fitting_metrics(own.cls) if name not in own.cls.metrics]
    return found


def _spaces(name: str) -> list[str] | None:
    """The spaces of scores that a metric takes; none if there is no such metric, None if it cannot be told."""
    entries = [entry for entry in registry.specs("metric") if entry.spec.name == name]
    if len(entries) > 1:
        return None
    try:
        return sorted(space for entry in entries for space in getattr(registry.load(entry), "spaces", ()))
    except ComponentImportError:
        return None


def registry_name(name: str) -> str:
    """A component's bare name, without its kind and distribution."""
    return name.rpartition("/")[2].rpartition(":")[2]


def fitting_metrics(task: type[Task]) -> list[str]:
    """The installed metrics that have a meaning for a task's scores, less those that cannot be imported."""
    names = []
    for entry in registry.specs("metric"):
        try:
            if task.space in getattr(registry.load(entry), "spaces", ()):
                names.append(entry.spec.name)
        except ComponentImportError:
            continue
    return names


def _training(finder: Finder, form: Form, found: Found, tried: bool) -> None:
    """The optimizer and the schedule, tried together; and the names that the training's keys hold."""
    training, path = form.training, ("training",)
    chosen = training.optimizer
    found.optimizer = finder.component("optimizer", chosen.name, chosen.options, (*path, "optimizer"))
    course = training.schedule
    if course is not None:
        found.schedule = finder.component("schedule", course.name, course.options, (*path, "schedule"))
    # What a recipe leaves out works; trying it would cost each check of a recipe 1.5 s, as torch imports its compiler.
    chooses = bool(training.model_fields_set & {"optimizer", "schedule"})
    if tried and chooses and found.optimizer is not None and (course is None or found.schedule is not None):
        refused = refusal(found.optimizer, found.schedule, training.epochs)
        if refused is not None:
            finder.problem((*path, refused[0]), refused[1])
    if training.last_epoch > training.epochs:
        told = f"must be at most training.epochs, {training.epochs}; found {training.last_epoch}"
        finder.problem((*path, "refit", "epochs"), told)
    balance = training.balance
    if balance is not None:
        found.balance = finder.component("balance", balance.name, balance.options, (*path, "balance"))
    task = None if found.task is None else found.task.cls
    fuses_none = len(form.modalities) == 1 or (task is not None and not task.needs_target)
    if found.balance is not None and (found.fusion is not None or fuses_none):
        check_balance(finder, found.balance, found.fusion, found.inputs, task, training)
    classes = task is None or task.space in ("log_probabilities", "log_odds")
    if training.class_balance and found.task is not None and not classes:
        told = f"the task {found.task.name!r} has no classes; leave it out, or weigh rows by target.weight"
        if found.task.cls.space == "several":
            told = "of several targets none says which rows are rare; leave it out, or set class_weights in a target"
        finder.problem((*path, "class_balance"), told)
    _mixing(finder, training, {name: plan.modality.cls for name, plan in found.inputs.items()})
    inputs = list(form.modalities)
    for name in training.modality_dropout if isinstance(training.modality_dropout, dict) else ():
        if name not in inputs:
            finder.problem((*path, "modality_dropout", name), f"is no modality; there are {', '.join(inputs)}")
    among = training.missing.among
    left_out = [name for name in inputs if name not in among]
    if among and left_out:
        finder.problem((*path, "missing_rate", "among"), f"lacks {', '.join(left_out)}, which the recipe has")


def _mixing(finder: Finder, training: Training, modalities: dict[str, type[Modality]]) -> None:
    """What cannot be mixed as the training asks for."""
    refused = [name for name, cls in modalities.items() if not cls.mixes]
    no_mixup = [name for name, cls in modalities.items() if "mixup" not in cls.mixes]
    if training.mixup and no_mixup:
        told = f"{listed(no_mixup)} cannot be blended, and rows are mixed as a whole"
        finder.problem(("training", "mixup"), f"{told}; leave mixup out")
    if training.cutmix and (refused or not any("cutmix" in cls.mixes for cls in modalities.values())):
        told = (
            f"{listed(refused)} cannot be mixed, and rows are mixed as a whole" if refused else "there are no pictures"
        )
        finder.problem(("training", "cutmix"), f"{told}; leave cutmix out")
