"""The training loop: epochs over batches, one optimizer step a group of batches, evaluation after every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.callback import Step
from mmreg.contract.interfaces import Modality
from mmreg.contract.metrics import Epoch, MetricValue
from mmreg.contract.optimization import Schedule
from mmreg.data.batches import Batch, Batches
from mmreg.data.lengths import unpadded_order
from mmreg.data.prepare import Prepared
from mmreg.errors import TrainingError
from mmreg.model.inference import mean_loss, predict
from mmreg.model.measures import Measures
from mmreg.model.model import MultimodalModel
from mmreg.model.nodes import ModelNode
from mmreg.recipe.form import EarlyStopping
from mmreg.recipe.resolve import Plan
from mmreg.training.blending import blending_weights
from mmreg.training.dropout import dropped_modalities
from mmreg.training.order import bucket_lengths, epoch_order
from mmreg.training.parameters import Freezing, parameter_groups, trained_weights
from mmreg.training.progress import Clock, Progress, rates_after
from mmreg.training.step import TrainingStep, weight_of


@dataclass(frozen=True)
class TrainingRows:
    """The rows that a training learns from and is judged by.

    Attributes:
        prepared: each modality's values, for all rows of the table.
        targets: (N, ...) as the task encodes them.
        weights: (N,) the weight of each row's loss.
        train: numbers of the training rows.
        validation: numbers of the rows that the best weights are chosen by; none to keep the last ones.
    """

    prepared: Mapping[str, Prepared]
    targets: NDArray[Any]
    weights: NDArray[np.float32]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    def batches(self, rows: NDArray[np.int64], batch_size: int, **options: Any) -> Batches:
        """Batches of some rows; options as for `Batches`."""
        return Batches(self.prepared, rows, self.targets[rows], self.weights[rows], batch_size, **options)


class Trainer:
    """Trains a model.

    Args:
        plan: the resolved recipe.
        model: on its device.
        modalities: by name, fitted.
        rows: what to learn from.
        device: where to compute.
        dtype: the dtype of the forward pass.
        on_step: told of every optimizer step.
        batch_size: the rows a batch where the recipe leaves them open.

    Attributes:
        out_of_time: whether `max_minutes` has ended the training before its time.
    """

    def __init__(
        self,
        plan: Plan,
        model: MultimodalModel,
        modalities: Mapping[str, Modality],
        rows: TrainingRows,
        device: torch.device,
        dtype: torch.dtype,
        on_step: Callable[[Step], None],
        batch_size: int | None = None,
    ) -> None:
        self.model, self.modalities, self.rows = model, modalities, rows
        self.device, self.dtype, self.on_step = device, dtype, on_step
        given = plan.recipe.form.training
        self.options = options = given if batch_size is None else given.model_copy(update={"batch_size": batch_size})
        self.task = model.task
        self.measures = Measures(self.task, plan.metrics)
        self.metric = plan.metric or self.task.main_metric
        self.metrics = list(dict.fromkeys([*plan.metric_names, self.metric]))
        per_epoch = math.ceil(math.ceil(len(rows.train) / options.batch_rows) / options.accumulate)
        self.steps = min(options.epochs * per_epoch, options.max_steps or options.epochs * per_epoch)
        weights = trained_weights(plan)
        self.freezing = Freezing(model, weights)
        self.optimizer: torch.optim.Optimizer = plan.optimizer.build().build(parameter_groups(model, weights))
        self.course: Schedule | None = None if plan.schedule is None else plan.schedule.build()
        self.schedule = self.course and self.course.build(self.optimizer, steps=self.steps, epochs=options.epochs)
        self.step = TrainingStep(model, modalities, self.optimizer, options, self.steps, device, dtype)
        self.lengths = bucket_lengths(rows.prepared, rows.train, options, model)
        self.progress = Progress()
        self.out_of_time = False
        self._clock = Clock(options.max_minutes)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on from the end of an epoch, as tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "progress": self.progress.to_plain(),
            "course": {"steps": self.steps, "epochs": self.options.epochs},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, also where the training is to be longer or shorter now."""
        self.model.load_state_dict(state["model"])
        self.progress = Progress.from_plain(state["progress"])
        course = {"steps": self.steps, "epochs": self.options.epochs}
        rates = None
        if self.schedule is not None and self.course is not None:
            if state.get("course", course) == course or self.course.follows_loss:
                self.schedule.load_state_dict(state["schedule"])
            else:
                done = self.progress.step if self.course.per_step else self.progress.epoch
                rates = rates_after(self.schedule, self.optimizer, done)
        self.optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self.optimizer.param_groups, rates or (), strict=False):
            group.update(own)
        self.step.scaler.load_state_dict(state["scaler"])
        self.progress.finished = self._is_done() or self._is_stale()

    def epochs(self) -> Iterator[tuple[Epoch, dict[str, Any], bool]]:
        """Train epoch by epoch.

        Yields:
            The epoch, its row of timings, and whether it is the best so far (without validation
            rows every epoch is).

        Raises:
            TrainingError: the loss is no longer finite.
        """
        while not self.progress.finished:
            started = time.perf_counter()
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            rate = float(self.optimizer.param_groups[0]["lr"])
            losses = self._train_epoch()
            seconds = time.perf_counter() - started
            with self._clock.validating():
                measured = self._validate()
            epoch = Epoch(self.progress.epoch + 1, self.progress.step, rate, (*losses, *measured))
            improved = self._judge(epoch)
            self.progress.epoch += 1
            self.progress.history.append(epoch)
            self.progress.finished = self._is_done() or self._is_stale()
            self.out_of_time = self._clock.is_over() and not self.progress.finished
            if self.course is not None and not self.course.per_step:
                self._step_schedule(epoch)
            yield epoch, self._timings(seconds, started), improved
            if self.out_of_time:
                break
        self.freezing.end()

    def _train_epoch(self) -> list[MetricValue]:
        """One pass over the training rows; the means of the loss and of its terms."""
        self.model.train()
        self.freezing.begin(self.progress.epoch)
        options, epoch = self.options, self.progress.epoch
        batches = self.rows.batches(
            self.rows.train,
            options.batch_rows,
            order=epoch_order(len(self.rows.train), options, epoch, self.lengths),
            drop=dropped_modalities(self.rows.prepared, self.rows.train, options, epoch),
            prefetch=True,
        )
        total = torch.zeros((), device=self.device)
        sums: dict[tuple[str, str], Tensor] = {}
        weight = 0.0  # of the rows of the epoch; some are not zero, as the weight column was checked
        self._blend()
        for group in _groups(batches, options.accumulate):
            loss, terms = self.step(group, self.progress.step)
            self.progress.step += 1
            if self.schedule is not None and self.course is not None and self.course.per_step:
                self.schedule.step()
            rows = sum(batch.size for batch in group)
            group_weight = sum(weight_of(batch) for batch in group)
            total += loss * group_weight
            weight += group_weight
            for key, term in terms.items():
                sums[key] = sums.get(key, 0.0) + term * group_weight
            self.on_step(Step(epoch + 1, self.progress.step, self.steps, rows, loss.item))
            if self.progress.step >= self.steps or self._clock.is_over():
                break
        mean = float(total) / weight
        if not math.isfinite(mean):
            raise TrainingError(
                f"the loss is {mean} after step {self.progress.step} (epoch {epoch + 1}); "
                "lower the learning rate, set training.gradient_clip, or use precision float32"
            )
        means = [("", "loss", mean), *((part, name, float(term) / weight) for (part, name), term in sums.items())]
        return [MetricValue("train", *each) for each in means]

    def _blend(self) -> None:
        """Set the weights of the losses that are blended by what the epochs so far have shown."""
        root = self.model.root
        for node in self.model.modules():
            if isinstance(node, ModelNode) and node.blended:
                parts = {name: name for name in node.blended if name != node.name}
                if node is root and node.name in node.blended:
                    parts[node.name] = ""  # the validation loss of the whole model
                weights = blending_weights(self.progress.history, parts) or {}
                node.joint_loss = weights.pop(node.name, node.joint_loss)
                node.own_losses |= weights

    def _step_schedule(self, epoch: Epoch) -> None:
        """Set the learning rate for the next epoch, of a schedule that goes by epochs."""
        assert self.schedule is not None
        assert self.course is not None
        loss = epoch.get("validation", "loss")
        loss = epoch.get("train", "loss") if loss is None else loss
        self.schedule.step(*([loss] if self.course.follows_loss else []))

    def _validate(self) -> list[MetricValue]:
        """Loss and metrics on the validation rows; nothing without them."""
        if not len(self.rows.validation):
            return []
        order = unpadded_order(self.rows.prepared, self.rows.validation, self.options.batch_rows)
        batches = self.rows.batches(self.rows.validation, self.options.batch_rows, order=order)
        predicted = predict(self.model, self.modalities, batches, self.device, self.dtype)
        targets = torch.from_numpy(self.rows.targets[self.rows.validation])
        weights = torch.from_numpy(self.rows.weights[self.rows.validation])
        found = [("", "loss", mean_loss(self.task, predicted.scores, targets, weights))]
        result = self.measures.evaluate(predicted.scores, targets, self.metrics)
        found += [("", name, value) for name, value in result.items() if isinstance(value, float)]
        for name, part in predicted.parts.items():
            rows = part.present
            if rows.any():
                found.append((name, "loss", mean_loss(self.task, part.scores[rows], targets[rows], weights[rows])))
                result = self.measures.evaluate(self.task.scores(part.scores)[rows], targets[rows], [self.metric])
                found += [(name, self.metric, result[self.metric])] if self.metric in result else []
        return [MetricValue("validation", *each) for each in found]

    def _judge(self, epoch: Epoch) -> bool:
        """Whether the epoch is the best so far by the metric; ties go to the earlier one."""
        value = epoch.get("validation", self.metric)
        if value is None and len(self.rows.validation):
            raise TrainingError(
                f"the metric {self.metric!r} chooses the weights, but gave no finite number on the validation rows; "
                "choose another one by training.metric"
            )
        if value is None:
            return True
        sign = 1 if self.measures.more_is_better(self.metric) else -1
        early = self.options.early_stopping
        delta = early.min_delta if isinstance(early, EarlyStopping) else 0.0
        best = self.progress.best
        improved = best is None or sign * (value - best[0]) > 0
        enough = best is None or sign * (value - best[0]) > delta
        self.progress.stale = 0 if enough else self.progress.stale + 1
        if improved:
            self.progress.best = (value, self.progress.epoch + 1)
        return improved

    def _is_done(self) -> bool:
        return self.progress.epoch >= self.options.epochs or self.progress.step >= self.steps

    def _is_stale(self) -> bool:
        early = self.options.early_stopping
        patience = early.patience if isinstance(early, EarlyStopping) else early
        return patience is not None and self.progress.stale >= patience

    def _timings(self, seconds: float, started: float) -> dict[str, Any]:
        memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
        return {
            "epoch": self.progress.epoch,
            "train_seconds": round(seconds, 4),
            "seconds": round(time.perf_counter() - started, 4),
            "rows_per_second": round(len(self.rows.train) / seconds, 1),
            "device_memory_bytes": memory,
        }


def _groups(batches: Batches, size: int) -> Iterator[list[Batch]]:
    """Batches in groups of a size; the last one may be smaller."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
