"""The form of a recipe: which keys there are and what each may hold. Component options are checked elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mmreg.data.addresses import checked_prefix, checked_table
from mmreg.data.dialect import TableFile, checked_encoding, checked_separator
from mmreg.recipe.keys import Chosen, Closed, Open, Weight, named
from mmreg.recipe.training_form import Training

OnBad = Literal["error", "absent", "skip"]
Store = Literal["decoded", "encoded"]
Pooling = Literal["mean", "max", "attention", "tokens"]


class MetricChoice(Chosen):
    """A metric, and its options."""


class CallbackChoice(Chosen):
    """A callback, and its options."""


class FreezeUntil(Closed):
    """Frozen at first."""

    until_epoch: Annotated[int, Ge(1)]
    """The last epoch in which the weights stay as they are."""


class Weights(Closed):
    """How the weights of an encoder or an operator are trained: keys beside its name and options.

    Where an option of the component has such a name, the option is meant.
    """

    lr: Annotated[float, Gt(0), Le(1e6)] = 1.0
    """By what the learning rate is multiplied for its weights."""
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    """Of an encoder with stages, such as a pretrained one: by what the learning rate of a stage is multiplied for each
    stage that comes after it, so that what is nearer to the input moves less."""
    freeze: bool | Annotated[int, Ge(1)] | FreezeUntil = False
    """Whether its weights stay as they are, always or until an epoch; or how many of an encoder's stages do, from the
    input on. What is frozen computes as in use (no dropout, norms by their running statistics)."""
    weight_decay: Weight | None = None
    """The weight decay of its weights, instead of the optimizer's."""
    weights_in_run: Literal["copy", "reference"] = "copy"
    """Whether the run keeps the weights of an encoder that is frozen for good, or reads them again from the file that
    `weights` names, of which it keeps a hash; the file has to stay where it is then, or be put into the folder of
    weights at hand (MMREG_WEIGHTS_DIR)."""


class EncoderChoice(Open):
    """An encoder, and its options; or the encoder of another input, or of an earlier run."""

    name: str | None = None
    """The encoder's name."""
    share: str | None = None
    """The input whose encoder this one uses as well, weights and all; instead of `name`."""
    run: str | None = Field(None, alias="from")
    """The folder of an earlier run, relative to the recipe, whose encoder this one begins with: its name, options and
    weights, and what its modality was given and has learned. A run's own recipe has name and options beside it."""
    input: str | None = None
    """With `from`: which input of that run; the one of the same name, or its only one, if not given."""

    @model_validator(mode="after")
    def _one_way(self) -> EncoderChoice:
        if self.share is not None and (self.name is not None or self.run is not None):
            raise ValueError("give one of name (with options), share: INPUT, and from: RUN")
        if self.share is None and self.name is None and self.run is None:
            raise ValueError("give one of name (with options), share: INPUT, and from: RUN")
        if self.input is not None and self.run is None:
            raise ValueError("input names one of an earlier run; give from: RUN as well")
        if self.share is not None and (self.options or self.model_fields_set != {"share"}):
            raise ValueError("share takes the other input's encoder as it is; give no options beside it")
        return self


class _Delimited(Closed):
    separator: Annotated[str, AfterValidator(checked_separator)] | None = None
    """The character between cells of delimited text (.csv, .tsv, .tab, .txt), such as ";" or "tab"; found by the first
    rows if it is not given."""
    encoding: Annotated[str, AfterValidator(checked_encoding)] | None = None
    """The encoding of delimited text, such as cp1252, latin-1 or utf-16; UTF-8, or what the file's mark says, if it is
    not given."""


class OneTable(_Delimited):
    """A table's file, and how it is written."""

    path: str
    """The file, relative to the recipe."""


class Tables(_Delimited):
    """A table's file, or one a split, and how they are written."""

    path: str | None = None
    """The file of all rows, relative to the recipe; instead of one a split."""
    train: str | OneTable | None = None
    """The file of the training rows; or a mapping of its `path`, `separator` and `encoding`."""
    validation: str | OneTable | None = None
    """That of the rows that the best weights are chosen by."""
    test: str | OneTable | None = None
    """That of the rows that the final figures are measured on."""

    @model_validator(mode="after")
    def _one_way(self) -> Tables:
        if self.path is not None and (self.train or self.validation or self.test):
            raise ValueError("must be a mapping of either path, or train with validation and test")
        if self.path is None and self.train is None:
            raise ValueError("must be a mapping of path, or of train with validation and test")
        return self


class Fractions(Closed):
    """How to split one table at random (by the seed)."""

    validation: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Share of the rows for validation."""
    test: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Share of the rows for the final test."""
    by: str | None = None
    """A column whose equal values stay together, such as a speaker or a patient."""

    folds: Annotated[int, Ge(2)] | None = None
    """For cross-validation: into how many parts the rows are divided, each of them the test rows of one training.
    `mmreg train --folds` sets it."""
    fold: Annotated[int, Ge(1)] | None = None
    """With `folds`: which part has the test rows, from 1. `validation` is then the share of the other parts' rows."""
    column: str | None = None
    """With `folds`: a column that says which split a row belongs to; its test rows are in no part."""

    @model_validator(mode="after")
    def _whole_folds(self) -> Fractions:
        if self.folds is None:
            if self.fold is not None or self.column is not None:
                raise ValueError("fold and column go with folds; a column alone is given as split: COLUMN")
            return self
        if self.fold is None or self.fold > self.folds:
            raise ValueError(f"fold must be one of 1 to {self.folds}, found {self.fold}")
        if "test" in self.model_fields_set and self.test:
            raise ValueError("with folds the test rows are those of a fold; leave test out")
        self.test = 0.0
        return self

    @model_validator(mode="after")
    def _leaves_something(self) -> Fractions:
        if self.validation + self.test >= 1:
            raise ValueError(f"shares of {self.validation} and {self.test} leave nothing for training")
        return self

    seed: Annotated[int, Ge(0)] | None = None
    """The seed of the split; the training's if not given."""
    stratify: bool | None = None
    """Whether every class gets the same shares; null: yes where the target is a class and `by` is not given. Of several
    labels a row, its rarest one is its class."""


class Target(Open):
    """What is to be predicted; further keys are the task's options."""

    column: str | None = None
    """The column that holds it; none for a task that has no target, such as contrastive."""
    columns: Annotated[dict[str, str], MinLen(1)] | None = None
    """For a task that reads several columns of a row, such as survival: the column of each thing that it reads."""
    task: str = "classification"
    """The task's name."""
    weight: str | None = None
    """A column of non-negative numbers by which each row's loss is weighted."""

    @model_validator(mode="after")
    def _one_source(self) -> Target:
        if self.column is not None and self.columns is not None:
            raise ValueError("give either column or, for a task that reads several of them, columns")
        return self

    @property
    def reads(self) -> str | dict[str, str] | None:
        """The column that it reads, or the columns by what the task reads of them; None without a target."""
        return self.column if self.columns is None else self.columns


class NamedTarget(Target):
    """One of several targets; further keys are the options of its task.

    A row may lack some of the targets, and counts for the others then.
    """

    loss_weight: Weight | Literal["uncertainty"] = 1.0
    """By what its loss is multiplied before the losses of all targets are added up; each is the mean over the rows that
    have the target. 0 leaves it untrained. uncertainty: a weight that is learned with the model, smaller for a target
    that is harder to predict (Kendall et al. 2018)."""


class Input(Open):
    """One modality; further keys are its options."""

    column: str | None = None
    """The column that it reads; the input's own name if neither this nor `columns` is given."""
    columns: Annotated[list[str], MinLen(1)] | None = None
    """Several columns, for a modality that reads them together."""
    type: str | None = None
    """The modality's name in the registry; the input's own name if it is not given."""
    encoder: Annotated[EncoderChoice | None, BeforeValidator(named)] = None
    """The encoder's name, or a mapping of `name` and its options; the modality's own choice if left out."""
    on_bad: OnBad | None = None
    """What to do with cells that cannot be loaded: stop, take them for absent, or skip their rows."""
    store: Store = "decoded"
    """What the cache keeps: arrays, or files as they are (of pictures and sounds), which takes far less room, and
    processor time in every epoch."""

    augmented_copies: Annotated[int, Ge(0), Le(1000)] = 0
    """Beside a frozen encoder, how many augmented versions of each training row are encoded before the first epoch, of
    which every epoch draws one; 0 for none, then the modality does not augment. Validation and use take the row as it
    is."""

    many: Pooling | None = None
    """For cells that hold any number of values (a list, or a text that is one): how what the encoder gives for each
    becomes one vector a row, by its mean, its max or learned attention; or tokens, one a value, for operators that take
    them. Without it a cell is one value."""
    separator: Annotated[str, MinLen(1)] | None = None
    """With `many`: what stands between the values of a text, such as "|". A text that is a list in JSON holds its
    elements in any case; without a separator any other is one value."""
    ordered: bool = False
    """With `many: attention` or `tokens`: whether the order of a cell's values counts. Each value's place is then added
    to its features."""

    @model_validator(mode="after")
    def _one_source(self) -> Input:
        if self.column is not None and self.columns is not None:
            raise ValueError("give either column or columns")
        return self

    @model_validator(mode="after")
    def _many_first(self) -> Input:
        if self.many is None and (self.separator is not None or self.ordered):
            key = "separator" if self.separator is not None else "ordered"
            raise ValueError(f"{key} is of cells of several values; give many as well")
        if self.ordered and self.many in ("mean", "max"):
            raise ValueError(
                f"the {self.many} of values has no order, so ordered does nothing; many: attention, or tokens"
            )
        return self

    def reads(self, name: str) -> list[str]:
        """The columns that it reads, if it has this name."""
        return self.columns or [name if self.column is None else self.column]


class FusionChoice(Open):
    """A fusion operator; further keys are its options."""

    name: str
    """The operator's name."""
    of: Annotated[list[str | FusionChoice], MinLen(1)] | None = None
    """What it fuses: names of modalities, or further fusions; all modalities if it is not given."""
    called: Annotated[str, MinLen(1)] | None = None
    """What it is called among figures: as its operator if it is not given; `mmreg fuse` calls runs by their folders."""
    own_loss: bool | Weight | dict[str, Weight] | Literal["gradient_blending"] = True
    """At model level: whether (or with which weight, or which for each part) each part is trained by its own loss;
    gradient_blending sets the weights, the joint loss's included, anew every few epochs (Wang et al. 2020)."""
    joint_loss: bool | Weight = False
    """At model level: whether (or with which weight) the parts are trained by the loss of the combination, too."""
    absent: Literal["masked", "learned"] = "masked"
    """At feature level: what the operator is given where a row lacks a part: nothing, so that it goes by the others, or
    features that are learned, one vector a part, as if the part were there."""


class Form(Closed):
    """A recipe: from a table to a trained model."""

    table: Annotated[str, AfterValidator(checked_table)] | Tables
    """The table's path, relative to the recipe; or a mapping, which may name a table for each split, a separator and an
    encoding."""
    missing: list[str] = Field(default_factory=list)
    """Texts that mark an absent cell, such as [NA, "null"]: cells that hold exactly one of them count as empty, and a
    column of delimited text that holds numbers else is numeric."""
    remote: list[Annotated[str, AfterValidator(checked_prefix)]] = Field(default_factory=list)
    """Addresses from which files that cells name are fetched, with all below them, such as [s3://bucket/images/]; what
    is on the host or in the bucket that the table itself is fetched from is fetched in any case."""
    split: str | Fractions | None = None
    """A column that says which split a row belongs to, or the shares of a random split."""
    target: Target | None = None
    """What is to be predicted."""
    targets: Annotated[dict[str, NamedTarget], MinLen(1)] | None = None
    """Several targets by name, instead of `target`: one model predicts all of them, with a head for each. Their metrics
    are called TARGET.METRIC, such as price.mae, and so are the columns of predictions."""
    modalities: Annotated[dict[str, Input], MinLen(1)]
    """The inputs by name."""
    fusion: Annotated[FusionChoice | None, BeforeValidator(named)] = None
    """The operator that joins the modalities, by name or with its options; concat if none is named."""
    training: Training = Field(default_factory=Training)
    key: str | None = None
    """A column that names a row in predictions; the row's number if it is not given."""
    on_bad: OnBad = "error"
    """What to do with cells that cannot be loaded, for modalities that do not say it themselves."""
    metrics: list[Annotated[MetricChoice, BeforeValidator(named)]] = Field(default_factory=list)
    """Further metrics, by name or with their options: the task's own, and those of plugins that fit its scores."""
    callbacks: list[Annotated[CallbackChoice, BeforeValidator(named)]] = Field(default_factory=list)
    """Who follows the training, by name or with options, besides the callbacks that plugins bring to every training."""

    @property
    def predicted(self) -> dict[str, Target]:
        """The targets by name; that of a recipe with a single one is ""."""
        single = {} if self.target is None else {"": self.target}
        return {**single, **(self.targets or {})}

    def files(self) -> dict[str, TableFile]:
        """The table's file, under "", or one for each split that has one."""
        if isinstance(self.table, str):
            return {"": TableFile(self.table)}
        shared = self.table
        given = {"": shared.path, "train": shared.train, "validation": shared.validation, "test": shared.test}
        files = {}
        for split, one in given.items():
            if isinstance(one, str):
                files[split] = TableFile(one, shared.separator, shared.encoding)
            elif one is not None:
                files[split] = TableFile(one.path, one.separator or shared.separator, one.encoding or shared.encoding)
        return files
