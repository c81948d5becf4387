"""The optimizers of torch.optim under their own names, with torch's options and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from mmreg import Optimizer, ParameterGroup
from mmreg_optim.groups import param_group, param_groups_without_decay
from mmreg_optim.options import (
    Amsgrad,
    Betas,
    Capturable,
    Decoupled,
    Differentiable,
    Doc,
    Epsilon,
    Foreach,
    Fraction,
    Fused,
    LearningRate,
    Maximize,
    Momentum,
    NotNegative,
    Positive,
    WeightDecay,
    options,
)


class TorchOptimizer(Optimizer):
    """The class of torch.optim that has the same name; its options are torch's."""

    lr: float

    def build(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        """See `Optimizer`."""
        given = dict(vars(self))
        if given.get("fused", False) is None and self._is_faster_fused(groups):
            given["fused"] = True  # torch's own choice takes a kernel for each operation, on a CPU of each parameter
        if "weight_decay" in given:
            param_groups = [param_group(group, self.lr, given["weight_decay"]) for group in groups]
        else:
            param_groups = param_groups_without_decay(groups, self.lr)
        built: torch.optim.Optimizer = getattr(torch.optim, type(self).__name__)(param_groups, **given)
        return built

    def _is_faster_fused(self, groups: Sequence[ParameterGroup]) -> bool:
        """Whether a single kernel steps these parameters faster, and no other way is asked for."""
        given = vars(self)
        if given.get("foreach") or given.get("differentiable"):
            return False
        parameters = [parameter for group in groups for parameter in group.parameters]
        devices = {parameter.device.type for parameter in parameters}
        known = devices == {"cuda"} or (devices == {"cpu"} and type(self).__name__ in ("Adam", "AdamW"))
        return known and all(parameter.is_floating_point() for parameter in parameters)


@options
class ASGD(TorchOptimizer):
    """Averaged stochastic gradient descent (Polyak and Juditsky 1992)."""

    lr: LearningRate = 0.01
    lambd: Annotated[NotNegative, Doc("how fast the learning rate falls and weights shrink.")] = 0.0001
    alpha: Annotated[NotNegative, Doc("the power of the fall of the learning rate.")] = 0.75
    t0: Annotated[NotNegative, Doc("the step at which averaging begins.")] = 1e6
    weight_decay: WeightDecay = 0.0
    foreach: Foreach = None
    maximize: Maximize = False
    differentiable: Differentiable = False
    capturable: Capturable = False


@options
class Adadelta(TorchOptimizer):
    """Steps by the ratio of the running means of updates and gradients (Zeiler 2012)."""

    lr: LearningRate = 1.0
    rho: Annotated[Fraction, Doc("the decay of the running means of squares.")] = 0.9
    eps: Epsilon = 1e-6
    weight_decay: WeightDecay = 0.0
    foreach: Foreach = None
    capturable: Capturable = False
    maximize: Maximize = False
    differentiable: Differentiable = False


@options
class Adafactor(TorchOptimizer):
    """Adam with second moments kept as rows and columns alone, for large models (Shazeer and Stern 2018)."""

    lr: LearningRate = 0.01
    beta2_decay: Annotated[float, Le(0), Doc("the power of the step by which the second moment decays.")] = -0.8
    eps: Annotated[
        tuple[NotNegative | None, NotNegative],
        Doc("the least second moment (null: that of the dtype), and the least root mean square of a weight."),
    ] = (None, 0.001)
    d: Annotated[float, Ge(1), Doc("the greatest root mean square of an update; longer ones are shortened.")] = 1.0
    weight_decay: WeightDecay = 0.0
    foreach: Foreach = None
    maximize: Maximize = False


@options
class Adagrad(TorchOptimizer):
    """Steps that shrink with the sum of squared gradients (Duchi, Hazan and Singer 2011)."""

    lr: LearningRate = 0.01
    lr_decay: Annotated[NotNegative, Doc("how fast the learning rate falls.")] = 0.0
    weight_decay: WeightDecay = 0.0
    initial_accumulator_value: Annotated[NotNegative, Doc("what the sum of squares begins with.")] = 0.0
    eps: Epsilon = 1e-10
    foreach: Foreach = None
    maximize: Maximize = False
    differentiable: Differentiable = False
    fused: Fused = None


@options
class Adam(TorchOptimizer):
    """Steps by the first and second moments of the gradient (Kingma and Ba 2015)."""

    lr: LearningRate = 0.001
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.0
    amsgrad: Amsgrad = False
    foreach: Foreach = None
    maximize: Maximize = False
    capturable: Capturable = False
    differentiable: Differentiable = False
    fused: Fused = None
    decoupled_weight_decay: Decoupled = False


@options
class AdamW(TorchOptimizer):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019)."""

    lr: LearningRate = 0.001
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.01
    amsgrad: Amsgrad = False
    maximize: Maximize = False
    foreach: Foreach = None
    capturable: Capturable = False
    differentiable: Differentiable = False
    fused: Fused = None


@options
class Adamax(TorchOptimizer):
    """Adam with the infinity norm for the second moment (Kingma and Ba 2015)."""

    lr: LearningRate = 0.002
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.0
    foreach: Foreach = None
    maximize: Maximize = False
    differentiable: Differentiable = False
    capturable: Capturable = False


@options
class NAdam(TorchOptimizer):
    """Adam with Nesterov momentum (Dozat 2016)."""

    lr: LearningRate = 0.002
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.0
    momentum_decay: Annotated[NotNegative, Doc("how fast the momentum comes to its full size.")] = 0.004
    decoupled_weight_decay: Decoupled = False
    foreach: Foreach = None
    maximize: Maximize = False
    capturable: Capturable = False
    differentiable: Differentiable = False


@options
class RAdam(TorchOptimizer):
    """Adam whose first steps are corrected for the variance of their rates (Liu et al. 2020)."""

    lr: LearningRate = 0.001
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.0
    decoupled_weight_decay: Decoupled = False
    foreach: Foreach = None
    maximize: Maximize = False
    capturable: Capturable = False
    differentiable: Differentiable = False


@options
class RMSprop(TorchOptimizer):
    """Steps by the root of a running mean of squared gradients (Tieleman and Hinton 2012)."""

    lr: LearningRate = 0.01
    alpha: Annotated[NotNegative, Doc("the decay of the running mean of squares.")] = 0.99
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.0
    momentum: Momentum = 0.0
    centered: Annotated[bool, Doc("whether squares are taken about the mean gradient (Graves 2013).")] = False
    capturable: Capturable = False
    foreach: Foreach = None
    maximize: Maximize = False
    differentiable: Differentiable = False


@options
class Rprop(TorchOptimizer):
    """Steps by the sign of the gradient alone, for training on full batches (Riedmiller and Braun 1993)."""

    lr: LearningRate = 0.01
    etas: Annotated[
        tuple[Positive, Annotated[float, Gt(1)]],
        Doc("by what a step shrinks when the sign turns, and grows when it stays."),
    ] = (0.5, 1.2)
    step_sizes: Annotated[tuple[Positive, Positive], Doc("the least and the greatest step.")] = (1e-6, 50.0)
    capturable: Capturable = False
    foreach: Foreach = None
    maximize: Maximize = False
    differentiable: Differentiable = False


@options
class SGD(TorchOptimizer):
    """Stochastic gradient descent, with momentum if asked for (Sutskever et al. 2013)."""

    lr: LearningRate = 0.001
    momentum: Momentum = 0.0
    dampening: Annotated[float, Doc("what is taken off the gradient where momentum is used.")] = 0.0
    weight_decay: WeightDecay = 0.0
    nesterov: Annotated[bool, Doc("whether to look ahead; needs momentum, and no dampening.")] = False
    maximize: Maximize = False
    foreach: Foreach = None
    differentiable: Differentiable = False
    fused: Fused = None
