"""From a resolved recipe and the modalities' specs to a model, with a check that everything fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from mmreg import registry
from mmreg.allocation import MemoryGuard
from mmreg.contract.balance import Balance
from mmreg.contract.fusion import ModelFusion
from mmreg.contract.interfaces import Encoder, Outputs
from mmreg.contract.spec import Spec, Specs, specs_text
from mmreg.contract.task import Task
from mmreg.errors import ComponentRestoreError, MmregError
from mmreg.messages import one_line, plural
from mmreg.model.balanced import BalancedHead
from mmreg.model.model import MultimodalModel
from mmreg.model.nodes import FeatureNode, FusionNode, ModelNode
from mmreg.model.per_target import PerTarget
from mmreg.model.pooling import ValuePooling
from mmreg.model.seeding import seeded
from mmreg.recipe.components import Component, FusionPlan, InputPlan, Many
from mmreg.recipe.earlier import EarlierInput
from mmreg.recipe.find_balance import balanced_heads
from mmreg.recipe.resolve import Plan
from mmreg.registry.options import Problem

States = Mapping[str, Mapping[str, Any]]
"""What components saved of themselves, by role, such as "encoder/image"."""


def build(
    plan: Plan, specs: Mapping[str, Specs], task: Task, prior: Tensor | None = None, states: States | None = None
) -> MultimodalModel:
    """Build the model that a recipe describes; its weights are keyed to the recipe's seed and the components' names.

    Args:
        plan: the resolved recipe.
        specs: what each modality gives.
        task: fitted, so that it knows the number of outputs.
        prior: (K,) the scores of a row without any modality; zeros if it is not given.
        states: of components that are restored rather than built: their weights are loaded afterwards.

    Raises:
        RecipeError: an encoder does not take its modality's spec, or an operator or encoder cannot be built; names
            both sides, and what would fit.
        MemoryLimitError: the heads need more memory than there is.
    """
    return _Builder(plan, specs, task, states or {}).model(torch.zeros(task.num_outputs) if prior is None else prior)


class _Builder:
    def __init__(self, plan: Plan, specs: Mapping[str, Specs], task: Task, states: States) -> None:
        self.plan, self.specs, self.task, self.states = plan, specs, task, states
        self.seed = plan.recipe.form.training.seed
        self.problems: list[Problem] = []
        self.encoders: dict[str, Encoder] = {}

    def model(self, prior: Tensor) -> MultimodalModel:
        plan = self.plan
        wanted = _wanted_outputs(plan)
        shares = {name: given.shares for name, given in plan.inputs.items() if given.shares}
        for name, given in plan.inputs.items():
            if name in shares:
                self.check_share(given, wanted)
                continue
            encoder = self.encoder(given, wanted[name])
            if encoder is not None:
                self.encoders[name] = encoder
        plan.recipe.fail_if(self.problems)
        root = None if plan.fusion is None else self.node(plan.fusion)
        plan.recipe.fail_if(self.problems)
        head = None
        if not self.task.needs_target:
            head = self.own_head()
        elif not isinstance(root, ModelNode):
            size = (
                root.fusion.out_features
                if isinstance(root, FeatureNode)
                else next(iter(self.encoders.values())).out_features
            )
            head = self.head("", size, self.task.heads, self.task.num_logits)
        balance, balanced = self.balance(root, head)
        plan.recipe.fail_if(self.problems)
        pooling = {name: self.pooling(name, given.many) for name, given in plan.inputs.items() if given.many}
        return MultimodalModel(self.encoders, wanted, root, head, self.task, prior, shares, balance, balanced, pooling)

    def pooling(self, name: str, many: Many) -> ValuePooling:
        """What makes one of the values that a row has of an input."""
        with seeded(self.seed, "weights", "pooling", name):
            return ValuePooling(many.pooling, self.size(name, reads_scores=True), many.ordered)

    def balance(self, root: FusionNode | None, head: nn.Module | None) -> tuple[Balance | None, BalancedHead | None]:
        """The balance, if the recipe names one, and what it acts on."""
        if self.plan.balance is None:
            return None, None
        assert root is not None
        ((operator, names),) = balanced_heads(self.plan.fusion).items()
        nodes = [node for node in root.modules() if isinstance(node, FusionNode)]
        node = next(node for node in nodes if node.name == operator)
        above = [other for other in nodes if operator in other.part_names]
        own = above[0].heads[operator] if above and isinstance(above[0], ModelNode) else head
        assert isinstance(node, FeatureNode)
        assert isinstance(own, nn.Linear)
        sizes = {name: self.size(name, reads_scores=True) for name in names}
        passed_in: dict[str, Any] = {
            "num_logits": self.task.num_logits,
            "num_outputs": self.task.num_outputs,
            "space": self.task.space,
        }
        if self.plan.balance.cls.shares_head:
            passed_in["head_size"] = node.fusion.out_features
        with seeded(self.seed, "weights", "balance"):
            built = self.construct("balance", ("training", "balance"), self.plan.balance, sizes, **passed_in)
        return built, BalancedHead(tuple(names), node, own)

    def check_share(self, given: InputPlan, wanted: Mapping[str, Outputs]) -> None:
        """Note what keeps two inputs from having one encoder."""
        owner = given.shares
        assert owner is not None
        path = ("modalities", given.name, "encoder", "share")
        if self.specs[given.name] != self.specs[owner]:
            specs = f"{owner!r} gives {self.specs[owner]}, {given.name!r} gives {self.specs[given.name]}"
            told = f"{specs}; to share an encoder they must give the same"
            self.problems.append(Problem(path, told))
        if wanted[given.name] != wanted[owner]:
            told = f"what fuses {owner!r} takes {wanted[owner]}, what fuses {given.name!r} takes {wanted[given.name]}"
            self.problems.append(Problem(path, told))

    def encoder(self, given: InputPlan, outputs: Outputs) -> Encoder | None:
        spec, encoder = self.specs[given.name], given.encoder
        path = ("modalities", given.name, "encoder")
        try:
            # What is restored was taken once, and may not read again what it was built from.
            restored = f"encoder/{given.name}" in self.states
            reason = None if restored else _refusal(encoder.cls, spec, encoder.options)
        except Exception as error:  # whatever a plugin's code raises
            what = f"encoder {encoder.entry.reference} cannot say whether it takes {specs_text(spec)}"
            self.problems.append(Problem(path, f"{what}: {one_line(error)}"))
            return None
        if reason is not None:
            fits = _encoders_for(spec)
            self.problems.append(
                Problem(
                    path,
                    f"{encoder.name} does not take what {given.modality.name} gives, {specs_text(spec)}: {reason}. "
                    f"With their default options these take it: {', '.join(fits) or 'none of the installed'}",
                )
            )
            return None
        passed_in = {"outputs": outputs} if "tokens" in encoder.cls.provides else {}
        if given.earlier is not None and f"encoder/{given.name}" not in self.states:
            built = self.begun(given, given.earlier, **passed_in)
        else:
            with seeded(self.seed, "weights", "encoder", given.name):
                built = self.construct(f"encoder/{given.name}", path, encoder, spec, **passed_in)
        if isinstance(built, Encoder):
            self.check_stages(given, built)
            return built
        return None

    def check_stages(self, given: InputPlan, encoder: Encoder) -> None:
        """Note what a recipe asks of an encoder's stages that it has not."""
        stages, weights = len(encoder.stages()), given.encoder.weights
        path = ("modalities", given.name, "encoder")
        if weights.layer_decay != 1 and not stages:
            self.problems.append(Problem((*path, "layer_decay"), f"{given.encoder.name} has no stages; leave it out"))
        if weights.frozen_stages > stages:
            has = f"{given.encoder.name} has {plural(stages, 'stage')}" if stages else f"{given.encoder.name} has none"
            told = f"freezes {plural(weights.frozen_stages, 'stage')}, but {has}; freeze: true freezes all of it"
            self.problems.append(Problem((*path, "freeze"), told))

    def begun(self, given: InputPlan, earlier: EarlierInput, **passed_in: Any) -> Encoder | None:
        """An encoder as an earlier run has trained it; None with a problem where it does not go with this input."""
        path, spec = ("modalities", given.name, "encoder", "from"), self.specs[given.name]
        try:
            reason = earlier.refusal(given.modality.entry, spec)
            if given.encoder.weights.in_run == "reference":
                reason = "the new run keeps the weights that it takes from an earlier one; leave weights_in_run out"
            if reason is None:
                with seeded(self.seed, "weights", "encoder", given.name), MemoryGuard(f"encoder/{given.name}"):
                    encoder: Encoder = given.encoder.build(spec, restored=not earlier.is_referred_to, **passed_in)
                    earlier.load_into(encoder, passed_in.get("outputs") == "tokens")
                return encoder
        except KeyboardInterrupt:
            raise
        except Exception as error:  # whatever a plugin's code raises
            reason = str(error) if isinstance(error, MmregError) else one_line(error)
        self.problems.append(Problem(path, reason))
        return None

    def construct(
        self, role: str, path: tuple[str | int, ...], component: Component, *arguments: Any, **passed_in: Any
    ) -> Any:
        """Build a component, or restore it from what its role saved; see `constructed`."""
        return self.constructed(role, path, component, arguments, passed_in, self.states.get(role))

    def constructed(
        self,
        role: str,
        path: tuple[str | int, ...],
        component: Component,
        arguments: Sequence[Any],
        passed_in: Mapping[str, Any],
        state: Mapping[str, Any] | None,
    ) -> Any:
        """Build a component, or restore it from a state; an error of its own becomes a problem of the recipe.

        Raises:
            ComponentRestoreError: it cannot be restored, which is not the recipe's fault.
        """
        try:
            built = component.build(*arguments, restored=state is not None, **passed_in)
            if state is not None:
                with MemoryGuard(role):
                    built.load_state(state)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a plugin's code raises
            if state is not None:
                raise ComponentRestoreError(role, one_line(error)) from error
            told = str(error)
            if not isinstance(error, MmregError):
                what = f"{component.entry.spec.kind} {component.entry.reference} cannot be built"
                told = f"{what} for {', '.join(map(str, arguments))}: {one_line(error)}"
            self.problems.append(Problem(path, told))
            return None
        if any(isinstance(parameter, UninitializedParameter) for parameter in built.parameters()):
            told = f"{component.name} has a lazy module, which has no size yet; take sizes from the spec"
            self.problems.append(Problem(path, told))
            return None
        return built

    def node(self, plan: FusionPlan) -> FusionNode | None:
        nodes = {part.name: self.node(part) for part in plan.of if isinstance(part, FusionPlan)}
        if self.problems:
            return None
        parts: list[str | FusionNode] = []
        for part in plan.of:
            node = part if isinstance(part, str) else nodes[part.name]
            assert node is not None
            parts.append(node)
        evidential = getattr(plan.fusion.cls, "evidential", False)
        reads_scores = plan.level == "feature" or evidential
        sizes = {part if isinstance(part, str) else part.name: self.size(part, reads_scores) for part in parts}
        role, path = f"fusion/{plan.name}", ("fusion",)
        with seeded(self.seed, "weights", "fusion", plan.name):
            if plan.level == "feature":
                fusion = self.construct(role, path, plan.fusion, sizes)
            else:
                fusion = self.model_fusion(role, path, plan.fusion, sizes)
        if fusion is None:
            return None
        if plan.level == "feature":
            return FeatureNode(plan.name, parts, fusion, list(sizes.values()) if plan.learned_absent else ())
        # What evidential parts give is their operator's to read, which knows of K alone.
        outputs = self.task.num_outputs if evidential else self.task.num_logits
        own = {"": outputs} if evidential else self.task.heads
        heads = {name: self.head(name, size, own, outputs) for name, size in sizes.items() if size}
        return ModelNode(plan.name, parts, fusion, heads, plan.own_losses, plan.joint_loss, plan.gradient_blending)

    def model_fusion(
        self, role: str, path: tuple[str | int, ...], component: Component, sizes: Mapping[str, int]
    ) -> ModelFusion | None:
        """An operator on predictions: of several targets, one for each."""
        states, built = self.states.get(role), {}
        for name, target in self.task.targets().items():
            state = states.get(name, {}) if states is not None and name else states
            passed_in = {"num_outputs": target.task.num_outputs, "space": target.task.space}
            built[name] = self.constructed(role, path, component, [sizes], passed_in, state)
        if any(each is None for each in built.values()):
            return None
        return built[""] if "" in built else PerTarget(self.task, built)

    def size(self, part: str | FusionNode, reads_scores: bool) -> int:
        """The features that a part gives; a model-level part gives its scores where they are read, else none."""
        if isinstance(part, str):
            return self.encoders[self.plan.inputs[part].shares or part].out_features
        if isinstance(part, FeatureNode):
            return part.fusion.out_features
        return self.task.num_outputs if reads_scores else 0

    def own_head(self) -> nn.Module:
        """What a task without a target has in the place of fusion and head."""
        sizes = {name: self.size(name, reads_scores=False) for name in self.plan.inputs}
        with seeded(self.seed, "weights", "head", ""), MemoryGuard(f"the head of {self.task.num_logits:,} outputs"):
            return self.task.head(sizes)

    def head(self, name: str, features: int, targets: Mapping[str, int], size: int) -> nn.Linear:
        """A layer of this size with the outputs of all targets, which begins as those of each would by themselves.

        The first target's weights are those of a model of this target alone.
        """
        with MemoryGuard(f"the head of {size:,} outputs"):
            heads = []
            for index, (target, outputs) in enumerate(targets.items()):
                with seeded(self.seed, "weights", "head", name, *([target] if index else [])):
                    heads.append(nn.Linear(features, outputs))
            if len(heads) == 1 and heads[0].out_features == size:
                return heads[0]
            with torch.device("meta"):
                joined = nn.Linear(features, size)
            joined = joined.to_empty(device=heads[0].weight.device)
            with torch.no_grad():
                joined.weight.copy_(_padded(torch.cat([head.weight for head in heads]), size))
                joined.bias.copy_(_padded(torch.cat([head.bias for head in heads]), size))
            return joined


def _padded(values: Tensor, size: int) -> Tensor:
    """Values (n, ...) with zeros after them, (size, ...)."""
    return torch.cat([values, values.new_zeros(size - len(values), *values.shape[1:])])


def _wanted_outputs(plan: Plan) -> dict[str, Outputs]:
    """What each encoder is asked for: tokens where the operator above takes them and it has them.

    Where a row has any number of values, each is encoded to one vector, whatever is made of these.
    """
    wanted: dict[str, Outputs] = dict.fromkeys(plan.inputs, "pooled")
    for node in plan.fusion.nodes() if plan.fusion else ():
        for part in node.of:
            if isinstance(part, str) and node.takes_tokens:
                provides = plan.inputs[part].encoder.cls.provides
                wanted[part] = "tokens" if "tokens" in provides and not plan.inputs[part].many else "pooled"
    return wanted


def _refusal(encoder: type[Encoder], spec: Any, options: Mapping[str, Any]) -> str | None:
    """Why an encoder does not take what a modality gives; None if it does."""
    if not (isinstance(spec, Spec) or encoder.multiple_arrays):
        return "it takes a single array"
    return encoder.accepts(spec, options)


def _encoders_for(spec: Specs) -> list[str]:
    """The installed encoders that take a spec with their default options, less those that cannot be imported."""
    fits = []
    for entry in registry.specs("encoder"):
        try:
            cls: Any = registry.load(entry)
            options = {
                option["name"]: option["default"] for option in registry.describe("encoder", entry.reference)["options"]
            }
            if _refusal(cls, spec, options) is None:
                fits.append(entry.spec.name)
        except Exception:  # whatever a plugin's code raises; it is not the one that was asked for
            continue
    return fits
