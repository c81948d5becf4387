"""The form of a recipe's key `training`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator, Field

from mmreg.recipe.keys import Chosen, Closed, Share, named

BATCH_ROWS = 64
"""Rows a batch where a recipe says nothing of it."""


class OptimizerChoice(Chosen):
    """An optimizer, and its options."""


class ScheduleChoice(Chosen):
    """A schedule, and its options."""


class BalanceChoice(Chosen):
    """A balance, and its options."""


class EarlyStopping(Closed):
    """When to end a training that no longer gets better on the validation rows."""

    patience: Annotated[int, Ge(1)]
    """Epochs without a better validation metric, or a lower loss at an equal one, after which training ends."""
    min_delta: Annotated[float, Ge(0)] = 0.0
    """Improvements of the metric up to this much do not count; above 0 the metric alone does."""


class Checkpoint(Closed):
    """How often a training is kept within its epochs; at the end of each it always is."""

    minutes: Annotated[float, Gt(0)] | None = 5.0
    """Minutes after which the state is kept again; null for none."""
    steps: Annotated[int, Ge(1)] | None = None
    """Optimizer steps after which it is; with both, whichever comes first."""


class Refit(Closed):
    """A training of which all is chosen, so that it learns from validation rows as well."""

    epochs: Annotated[int, Ge(1)] | None = None
    """Epochs after which it ends; the learning rate's course stays that of all epochs. All of them if not given."""
    run: str | None = None
    """The folder of the run, relative to the recipe, from which operators that are fitted on validation rows are taken
    over as they are."""


class MissingRate(Closed):
    """Modalities that training and validation rows are made to lack."""

    rate: Share
    """The share."""
    among: dict[str, Annotated[list[str], MinLen(1)]] = Field(default_factory=dict)
    """The modalities, each with its columns, of which every row keeps one: for a recipe of some of them that is to see
    the same rows as that of all; those of the recipe if left out."""


class Training(Closed):
    """How the model is trained."""

    epochs: Annotated[int, Ge(1)] = 20
    """Passes over the training rows."""
    max_steps: Annotated[int, Ge(1)] | None = None
    """Optimizer steps after which training ends, whatever the epochs."""
    max_minutes: Annotated[float, Gt(0)] | None = None
    """Minutes after which training ends, with the best weights so far, those within an epoch included; counted from the
    first step of each call, so a training that goes on has as many again. The learning rate's course is that of all
    epochs."""
    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = BATCH_ROWS
    """Rows a batch. auto: as many as make a training on this device faster and fit into its memory, found by a few
    steps before it starts; the run keeps the number, and goes on with it. It may be another one on another machine, and
    the learning rate is not changed by it."""
    bucket: Literal["auto"] | bool = "auto"
    """Whether training rows of similar length come together in a batch, so that less of it is padding; still in random
    order, and each row once an epoch. auto: where at least 60 % of a batch of random rows would be padding, and no norm
    takes its statistics from a batch, which may cost accuracy."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Batches whose gradients are added up before each optimizer step."""
    optimizer: Annotated[OptimizerChoice, BeforeValidator(named)] = OptimizerChoice(name="AdamW")
    """The optimizer by name, or with its options. Weight decay spares biases and norms."""
    schedule: Annotated[ScheduleChoice | None, BeforeValidator(named)] = ScheduleChoice(name="cosine")
    """The learning rate's course by name, or with its options; null for a constant rate."""
    balance: Annotated[BalanceChoice | None, BeforeValidator(named)] = None
    """What keeps one modality from starving the others, by name, or with its options: for modalities that reach one
    head through feature-level fusion; null for training by that head's loss alone."""
    gradient_clip: Annotated[float, Gt(0)] | None = None
    """The greatest norm of the gradient; longer ones are shortened to it."""
    seed: Annotated[int, Ge(0)] = 0
    """The seed of all that is random."""
    deterministic: bool = False
    """Whether to use only operations that give the same bits in a repeated run, even if they are slower."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The precision of the forward pass (torch.autocast); auto: bfloat16 where that is faster, else float32.

    Layers for which torch has no kernel in it here compute in float32; `mmreg doctor` names them.
    """
    compile: Literal["auto"] | bool = "auto"
    """auto: on a GPU, whole steps are recorded as CUDA graphs, which changes no result; a step that cannot be recorded,
    or gives something else then, runs as it is. true: encoders are also compiled by torch.compile, on a CPU as well,
    which takes a minute or so at the beginning and changes results within rounding. false: neither."""
    keep: Literal["best", "last", "soup"] = "best"
    """Which weights the run ends with: the best on validation, and of equal ones those of the lower loss; or the last.
    soup: the mean of those of the three best epochs, as far as each makes the validation metric no worse (greedy soup,
    Wortsman et al. 2022)."""
    metric: str | None = None
    """The metric by which the best weights are chosen; the task's main one if it is not given."""
    early_stopping: EarlyStopping | Annotated[int, Ge(1)] | None = None
    """When to stop early: a number of epochs without improvement, or a mapping of `patience` and `min_delta`."""
    checkpoint: Checkpoint = Checkpoint()
    """How often the state is kept within an epoch, for a training that is stopped to go on from: a mapping of `minutes`
    and `steps`. It is written beside the training, which waits for the copy alone."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What to do at a step whose loss is not a finite number: end the training, or skip the step. Then weights,
    optimizer and running statistics stay as they were, also where a gradient is not finite, and the report says how
    many steps were left out; 20 in a row, or all of an epoch, end the training. On an accelerator, skip waits for the
    device once a step, unless the optimizer is a fused one."""
    refit: bool | Refit = False
    """Whether validation rows are learned from as well, once all is chosen that they are for: then there are no figures
    of validation, and the weights are those of the last epoch. Or a mapping of `epochs` and `run`, as `mmreg refit RUN`
    writes it."""
    modality_dropout: Share | dict[str, Share] = 0.0
    """The share of training rows in which each modality is left out at random (never all of a row at once)."""
    missing_rate: Share | MissingRate = 0.0
    """The share of training and validation rows that lack each modality for good, as if the table had it not; drawn
    once for each row, which keeps one of those that it has. For studies of missing data, such as `mmreg robustness`;
    test rows stay as they are. Or a mapping of `rate` and `among`."""
    class_balance: Annotated[float, Ge(0), Le(1)] = 0.0
    """How far rare classes are drawn more often in training: 0 for each row once an epoch, 1 for all classes alike; in
    between a class of n rows is drawn in proportion to n ** (1 - class_balance). An epoch has as many rows as before;
    of several labels a row, its rarest one is its class. Class weights and `target.weight` still weigh the losses."""
    mixup: Annotated[float, Ge(0.01), Le(100)] | None = None
    """Mixup (Zhang et al. 2018), such as 0.2: in training the rows of a batch are blended in pairs, in a proportion
    drawn from Beta(mixup, mixup), and so are the losses for their two targets. Every modality has to allow it: images
    and sounds do, texts do not."""
    cutmix: Annotated[float, Ge(0.01), Le(100)] | None = None
    """CutMix (Yun et al. 2019), such as 1.0: in training a box of another row's picture is pasted into each, of a share
    drawn from Beta(cutmix, cutmix); what is no picture is blended in the same proportion, as by mixup. With both keys a
    coin decides for each batch."""
    average: Annotated[float, Gt(0), Lt(1)] | None = None
    """The decay of a moving average of the weights, such as 0.999: validation and the finished run use the average. In
    the first steps it decays faster, by (1 + step) / (10 + step)."""

    @property
    def batch_rows(self) -> int:
        """Rows a batch; the default where they are yet to be found."""
        return BATCH_ROWS if self.batch_size == "auto" else self.batch_size

    @property
    def refitted(self) -> Refit | None:
        """`refit` as a mapping; None where validation rows are for choosing."""
        return self.refit if isinstance(self.refit, Refit) else Refit() if self.refit else None

    @property
    def last_epoch(self) -> int:
        """The epoch after which training ends, if nothing ends it before."""
        return (self.refitted and self.refitted.epochs) or self.epochs

    @property
    def missing(self) -> MissingRate:
        """`missing_rate` as a mapping."""
        return self.missing_rate if isinstance(self.missing_rate, MissingRate) else MissingRate(rate=self.missing_rate)
