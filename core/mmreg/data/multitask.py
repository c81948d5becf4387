"""Several targets as one task: a head each, losses that are added up, and rows that may lack some of the targets.

Logits and scores are those of the targets side by side. Encoded targets are one float32 array, in which each target has
the numbers of its own task, and after them the weight of the row in its loss: NaN where the row lacks the target.

Axes: B batch, N rows, K the scores of all targets, k those of one, W the encoded numbers of all targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg.contract.lifecycle import migrated
from mmreg.contract.metrics import of_target
from mmreg.contract.target_values import TargetRecords, TargetValues
from mmreg.contract.task import Concern, Space, Task
from mmreg.data.joined_targets import Encoding, JoinedTarget, encoding_of, mean_loss, slices
from mmreg.errors import OptionError, TargetError
from mmreg.messages import listed, near, plural

LOSS = "relative_loss"
"""The metric of all targets together."""
PRIOR_ROWS = 65_536
"""Of more training rows than this, a part is enough to tell what the prior comes to."""


class MultiTask(Task):
    """Several targets, each with a task of its own, whose weighted losses are added up.

    A target's loss is the mean over the training rows that have it, as far as one can tell from a batch: each row
    counts by its weight over the mean of the training rows' weights, those that lack the target having none. With a
    weight that is learned, the loss L of a target becomes

        exp(-s) L + s / 2 (of numbers exp(-s) L / 2 + s / 2)

    where s is the logarithm of its variance, a parameter that begins at 0 (Kendall, Gal and Cipolla, Multi-Task
    Learning Using Uncertainty to Weigh Losses, CVPR 2018).

    `relative_loss` is the mean over the targets of their loss, unweighted, over the one that the prior of the training
    rows comes to on these: 1 for knowing nothing. Targets with the weight 0 do not count.

    Args:
        tasks: by target; those of `several`.
        loss_weights: by target; None for one that is learned.
    """

    space: ClassVar[Space] = "several"
    main_metric: ClassVar[str] = LOSS
    metrics: ClassVar[Mapping[str, bool]] = {LOSS: False}

    def __init__(self, tasks: Mapping[str, Task], loss_weights: Mapping[str, float | None]) -> None:
        self.tasks, self.loss_weights = dict(tasks), dict(loss_weights)
        self.learned = [name for name in tasks if loss_weights[name] is None]
        self._encodings: dict[str, Encoding] = {}
        self.num_outputs = 0

    @property
    def target_tasks(self) -> Mapping[str, Task]:
        """The task of each target."""
        return self.tasks

    @property
    def heads(self) -> Mapping[str, int]:
        """The sizes of what each target's head gives."""
        return {name: task.num_logits for name, task in self.tasks.items()}

    @property
    def num_logits(self) -> int:
        """The size of all heads; one more where it would be that of the scores, with other places for the targets."""
        sizes = [(task.num_logits, task.num_outputs) for task in self.tasks.values()]
        logits = sum(size for size, _ in sizes)
        return logits + (logits == self.num_outputs and any(size != outputs for size, outputs in sizes))

    def targets(self) -> Mapping[str, JoinedTarget]:
        """Each target by name."""
        columns = slices(task.num_outputs for task in self.tasks.values())
        return {
            name: JoinedTarget(task, own, self._encodings[name])
            for (name, task), own in zip(self.tasks.items(), columns, strict=True)
        }

    def _split(self, scores: Tensor) -> dict[str, Tensor]:
        """Each target's logits, or scores, of those of all."""
        of_logits = scores.shape[-1] == self.num_logits
        columns = slices(task.num_logits if of_logits else task.num_outputs for task in self.tasks.values())
        return {name: scores[..., own] for name, own in zip(self.tasks, columns, strict=True)}

    def fit(self, values: Sequence[Any]) -> None:
        """Learn the labels of each target from dicts by target, of which each may lack some.

        Raises:
            TargetError: no row has a target, or the values of one do not fit its task; names the target.
        """
        columns, first = TargetRecords.of(values, self.tasks).columns, 0
        encodings = {}
        for name, task in self.tasks.items():
            rows = np.flatnonzero(~columns[name].missing())
            if not len(rows):
                raise TargetError(f"target {name!r}: no training row has a value")
            with _naming(name):
                task.fit_column(columns[name].select(rows))
                some = rows[np.linspace(0, len(rows) - 1, min(len(rows), PRIOR_ROWS)).astype(np.int64)]
                own = task.encode_column(columns[name].select(some))
            encodings[name] = encoding = encoding_of(task, own, first)
            first = encoding.weight + 1
        self._set(encodings)

    def fit_column(self, values: TargetValues) -> None:
        """As `fit`."""
        self.fit(values)

    def _set(self, encodings: Mapping[str, Encoding]) -> None:
        self._encodings = dict(encodings)
        self.num_outputs = sum(task.num_outputs for task in self.tasks.values())
        modules = {name: task.module for name, task in self.tasks.items() if task.module is not None}
        self.module = _Learned(modules, len(self.learned)) if modules or self.learned else None

    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """The targets of dicts by target, (N, W); the weights are those that the tasks give, such as of classes.

        Raises:
            TargetError: a value does not fit its target's task; names the target.
        """
        columns = TargetRecords.of(values, self.tasks).columns
        encoded = np.full((len(values), sum(len(each.filler) + 1 for each in self._encodings.values())), np.nan)
        for name, encoding in self._encodings.items():
            encoded[:, encoding.first : encoding.weight] = encoding.filler
            rows = np.flatnonzero(~columns[name].missing())
            if len(rows):
                with _naming(name):
                    own = self.tasks[name].encode_column(columns[name].select(rows))
                encoded[rows, encoding.first : encoding.weight] = own.reshape(len(rows), -1)
                encoded[rows, encoding.weight] = self.tasks[name].row_weights(own)
        return encoded.astype(np.float32)

    def encode_column(self, values: TargetValues) -> NDArray[np.float32]:
        """As `encode`."""
        return self.encode(values)

    def weigh(
        self, targets: NDArray[Any], weights: Mapping[str, NDArray[np.float32]], train: NDArray[np.int64]
    ) -> None:
        """Give encoded targets (N, W) their weights in each loss, so that the training rows' mean is 1 in each.

        Args:
            targets: changed in place.
            weights: for some targets (N,), by what the tasks' own weights are multiplied.
            train: the numbers of the training rows.
        """
        for name, encoding in self._encodings.items():
            own = targets[:, encoding.weight]
            own *= weights.get(name, 1.0)
            total = float(np.nansum(own[train], dtype=np.float64))
            if total > 0:
                own *= len(train) / total

    def concerns(self, targets: Mapping[str, NDArray[Any]]) -> list[Concern]:
        """Those of each target, rows that lack one, and splits in which no row has it."""
        found = []
        for name, encoding in self._encodings.items():
            known = {split: rows[~np.isnan(rows[:, encoding.weight])] for split, rows in targets.items()}
            lacking = sum(len(rows) - len(known[split]) for split, rows in targets.items())
            texts = []
            if lacking:
                rows, of = plural(lacking, "row has", "rows have"), sum(map(len, targets.values()))
                texts.append(f"{rows} no value, of {of:,}; they count for the other targets alone")
            without = [split for split, own in known.items() if not len(own)]
            if without:
                texts.append(f"no {listed(without)} row has a value, so nothing is measured of it there")
            found += [Concern(f"target {name!r}: {text}") for text in texts]
            there = {split: encoding.own(torch.from_numpy(own)).numpy() for split, own in known.items() if len(own)}
            for each in self.tasks[name].concerns(there):
                metric = None if each.metric is None else f"{name}.{each.metric}"
                found.append(Concern(f"target {name!r}: {each.text}", each.options, metric))
        return found

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """1 for each row, (N,): what a task gives acts on its own loss alone, and stands in the encoded targets."""
        return np.ones(len(targets), np.float32)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The sum of the targets' losses, (B,), of logits or scores and encoded targets (B, W)."""
        return torch.stack(list(self.losses(scores, targets).values())).sum(0)

    def loss_among(self, scores: Tensor, targets: Tensor, present: Tensor) -> Tensor:
        """As `loss`, where each target's task compares those rows alone that are present and have the target."""
        return torch.stack(list(self.losses(scores, targets, present).values())).sum(0)

    def losses(self, scores: Tensor, targets: Tensor, present: Tensor | None = None) -> dict[str, Tensor]:
        """The loss (B,) of each target, weighted, and zero for rows that lack it; of those with a weight above 0."""
        losses = {}
        for name, own in self._split(scores).items():
            fixed, encoding = self.loss_weights[name], self._encodings[name]
            if fixed == 0:
                continue
            weights = targets[:, encoding.weight]
            there = ~weights.isnan() if present is None else present & ~weights.isnan()
            loss = self.tasks[name].loss_among(own, encoding.own(targets), there)
            weights = torch.where(weights.isnan(), 0, weights)  # first, as zero times NaN has no gradient
            if fixed is None:
                scale, log_variance = self._uncertainty(name)
                loss = scale.to(loss.device) * loss + log_variance.to(loss.device) / 2
            else:
                loss = fixed * loss
            losses[name] = loss * weights
        return losses

    def _uncertainty(self, name: str) -> tuple[Tensor, Tensor]:
        """By what the loss of a target whose weight is learned is multiplied, and the logarithm of its variance."""
        assert isinstance(self.module, _Learned)
        assert self.module.log_variances is not None
        log_variance = self.module.log_variances[self.learned.index(name)]
        return torch.exp(-log_variance) / (2 if self.tasks[name].space == "values" else 1), log_variance

    def scores(self, logits: Tensor) -> Tensor:
        """What the targets' heads give, (B, num_logits), in the tasks' spaces, (B, K)."""
        return torch.cat([self.tasks[name].scores(own) for name, own in self._split(logits).items()], -1)

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """The priors of the targets, (K,), each of the rows that have it."""
        found = []
        for name, encoding in self._encodings.items():
            of_loss = targets[:, encoding.weight]
            rows = ~np.isnan(of_loss)
            own = encoding.own(torch.from_numpy(targets[rows])).numpy()
            # None is left where all of them had cells that cannot be loaded.
            prior = self.tasks[name].prior(own, (weights * of_loss)[rows]) if len(own) else None
            found.append(torch.zeros(self.tasks[name].num_outputs) if prior is None else prior)
        return torch.cat(found)

    @property
    def learns_from_scores(self) -> bool:
        """Whether any target's task does."""
        return any(task.learns_from_scores for task in self.tasks.values())

    def fit_scores(self, scores: Tensor, targets: Tensor) -> None:
        """Let each target's task learn from its own scores of the rows that have it."""
        for target in self.targets().values():
            own_scores, own_targets = target.known(scores, targets)
            if target.task.learns_from_scores and len(own_targets):
                target.task.fit_scores(own_scores, own_targets)

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows: `relative_loss`, and each target's own as "TARGET.METRIC", of the rows that have it.

        "targets" has for each target the number of its rows, the weight of its loss if that was learned, and what its
        task gives besides, such as the confusion matrix. A target that none of the rows has is without figures.

        Raises:
            OptionError: a metric that no target has.
            TargetError: there are no rows.
        """
        for name in metrics:
            if name not in self.metrics:
                known = ", ".join(sorted(self.metrics))
                raise OptionError(f"unknown metric {name!r}{near(name, self.metrics)} (this task has {known})")
        if not len(targets):
            raise TargetError("there are no rows to evaluate")
        result: dict[str, Any] = {}
        relative: list[float] = []
        intervals: dict[str, Any] = {}
        baseline: dict[str, Any] = {}
        answers: dict[str, Any] = {}
        told: dict[str, dict[str, Any]] = {}
        for name, target in self.targets().items():
            own_scores, own_targets = target.known(scores, targets)
            told[name] = {"rows": len(own_targets)}
            if self.loss_weights[name] is None:
                told[name]["loss_weight"] = self._uncertainty(name)[0].item()
            if not len(own_targets):
                continue
            if self.loss_weights[name] != 0:
                loss = mean_loss(target.task, own_scores, own_targets)
                relative.append(loss / target.encoding.prior_loss)
            wanted = [each.removeprefix(f"{name}.") for each in metrics if each.startswith(f"{name}.")]
            figures = target.task.evaluate(own_scores, own_targets, wanted)
            intervals |= {f"{name}.{key}": each for key, each in figures.pop("intervals", {}).items()}
            own_baseline = figures.pop("baseline", None)
            if own_baseline is not None:
                answers[name] = own_baseline.pop("prediction")
                baseline |= {f"{name}.{key}": each for key, each in own_baseline.items() if isinstance(each, float)}
            result |= {f"{name}.{key}": each for key, each in figures.items() if isinstance(each, float)}
            told[name] |= {key: each for key, each in figures.items() if not isinstance(each, float)}
        if relative:
            result = {LOSS: math.fsum(relative) / len(relative), **result}
        result["targets"] = told
        result |= {"intervals": intervals} if intervals else {}
        return result | ({"baseline": {"prediction": answers, **baseline}} if baseline else {})

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """The columns of each target's task, as "TARGET.COLUMN"."""
        return {
            f"{name}.{column}": values
            for name, target in self.targets().items()
            for column, values in target.task.predictions(target.scores(scores)).items()
        }

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """The targets' own lines, one after the other."""
        texts = []
        for name, task in self.tasks.items():
            own = of_target(result, name)
            known = own.pop("rows", 0)
            texts.append(f"{name}: {task.headline(own, known) if known else 'no row has a value'}")
        return " | ".join(texts)

    def state(self) -> dict[str, Any]:
        """What the targets' tasks learned, and how their targets are encoded."""
        return {
            "targets": {
                name: {"version": type(task).version, "state": task.state(), "encoding": vars(self._encodings[name])}
                for name, task in self.tasks.items()
            }
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        encodings, first = {}, 0
        for name, task in self.tasks.items():
            own = state["targets"][name]
            task.load_state(migrated(type(task), own["state"], own["version"]))
            told = own["encoding"]
            encoding = Encoding(**{**told, "shape": tuple(told["shape"]), "filler": tuple(told["filler"])})
            if encoding.first != first or not encoding.is_sound:
                raise TargetError(f"target {name!r}: what the run says of how it is encoded is damaged")
            encodings[name], first = encoding, encoding.weight + 1
        self._set(encodings)


def several(tasks: Mapping[str, type[Task]]) -> type[MultiTask]:
    """The class of the tasks that predict these targets, which knows their metrics as "TARGET.METRIC"."""
    own = {f"{name}.{metric}": more for name, cls in tasks.items() for metric, more in cls.metrics.items()}
    return type("MultiTask", (MultiTask,), {"metrics": {**MultiTask.metrics, **own}, "__module__": __name__})


class _Learned(nn.Module):
    """What the tasks of several targets learn beside the model: their own modules, and the weights of their losses."""

    log_variances: nn.Parameter | None

    def __init__(self, modules: Mapping[str, nn.Module], learned: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(learned)) if learned else None
        self.tasks = nn.Module()
        self.tasks._modules.update(modules)


@contextmanager
def _naming(target: str) -> Iterator[None]:
    try:
        yield
    except TargetError as error:
        raise TargetError(f"target {target!r}: {error}") from error
