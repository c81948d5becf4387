"""Finding what a recipe's balance acts on: the modalities that reach one head through feature-level fusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmreg.contract.balance import Balance
from mmreg.contract.task import Task
from mmreg.messages import listed
from mmreg.recipe.components import Component, FusionPlan, InputPlan
from mmreg.recipe.finder import Finder
from mmreg.recipe.training_form import Training

PATH = ("training", "balance")


def balanced_heads(tree: FusionPlan | None) -> dict[str, list[str]]:
    """The modalities that each head's features are fused of, where they are several, by the operator below it."""
    return {} if tree is None else {name: inputs for name, inputs in _heads(tree) if len(inputs) > 1}


def _heads(node: FusionPlan) -> Iterator[tuple[str, list[str]]]:
    if node.level == "feature":
        yield node.name, list(_fused(node))
    for part in _models(node):
        yield from _heads(part)


def _fused(node: FusionPlan) -> Iterator[str]:
    """The inputs whose features reach an operator's."""
    for part in node.of:
        if isinstance(part, str):
            yield part
        elif part.level == "feature":
            yield from _fused(part)


def _models(node: FusionPlan) -> Iterator[FusionPlan]:
    """The operators below one that are, or are part of, models of their own."""
    for part in node.of:
        if isinstance(part, FusionPlan):
            if node.level == "feature" and part.level == "feature":
                yield from _models(part)
            else:
                yield part


def check_balance(
    finder: Finder,
    balance: Component,
    tree: FusionPlan | None,
    inputs: Mapping[str, InputPlan],
    task: type[Task] | None,
    training: Training,
) -> None:
    """Note what keeps a balance from working in a recipe."""
    cls: type[Balance] = balance.cls
    name = balance.name
    heads = balanced_heads(tree)
    if len(heads) != 1:
        found = f"here there are several: {', '.join(f'below {each}' for each in heads)}" if heads else "here none does"
        told = "balances several modalities that reach one head through feature-level fusion"
        finder.problem(PATH, f"{name} {told}, and {found}; leave it out")
        return
    ((operator, modalities),) = heads.items()
    if cls.blends and tree is not None and tree.name != operator:
        told = f"weighs the loss of the whole model, and {operator} gives a part of {tree.name}'s"
        finder.problem(PATH, f"{name} {told}: set own_loss: gradient_blending of {tree.name} instead")
    most = cls.max_inputs
    if len(modalities) < cls.min_inputs or (most is not None and len(modalities) > most):
        allowed = f"at least {cls.min_inputs}" if most is None else f"{cls.min_inputs} to {most}"
        finder.problem(PATH, f"{name} balances {allowed} modalities, but {operator} fuses {len(modalities)}")
    if task is not None and task.space not in cls.spaces:
        told = f"has no meaning for a task whose scores are {task.space}; it takes {', '.join(sorted(cls.spaces))}"
        if task.space == "several":
            told = "has no meaning for several targets, as it goes by how sure of one the modalities are; leave it out"
        finder.problem(PATH, f"{name} {told}")
    if cls.observes and (training.mixup or training.cutmix):
        key = "mixup" if training.mixup else "cutmix"
        finder.problem(PATH, f"{name} goes by each row's target, and mixed rows have two: leave {key} or it out")
    shared = {given.shares for given in inputs.values() if given.shares} | {n for n, i in inputs.items() if i.shares}
    sharing = [each for each in modalities if each in shared]
    if cls.modulates and sharing:
        told = "changes the gradients of each modality's own encoder, but one is shared by"
        finder.problem(PATH, f"{name} {told} {listed(sharing)}: give each its own, or choose another balance")
