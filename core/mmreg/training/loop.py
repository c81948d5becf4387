"""The training loop: epochs over batches, one optimizer step a group of batches, evaluation after every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmreg import runs
from mmreg.contract.callback import Step
from mmreg.contract.interfaces import Modality
from mmreg.contract.metrics import Epoch
from mmreg.contract.optimization import Schedule
from mmreg.errors import TrainingError
from mmreg.messages import listed
from mmreg.model.measures import Measures
from mmreg.model.model import MultimodalModel
from mmreg.model.nodes import ModelNode
from mmreg.model.seeding import Draws
from mmreg.recipe.resolve import Plan
from mmreg.recipe.training_form import EarlyStopping
from mmreg.regions import region, waited
from mmreg.training.averaging import Average
from mmreg.training.blending import blending_weights
from mmreg.training.captured import CapturedStep, CudaRecorder, make_capturable, with_own_flags
from mmreg.training.dropout import dropped_modalities
from mmreg.training.nonfinite import ALL_FINITE, REMEDY, NonFiniteError, Watch, reason
from mmreg.training.order import bucket_lengths, epoch_order
from mmreg.training.parameters import Freezing, parameter_groups, trained_weights
from mmreg.training.peers import Part, Peers, without_borrowed
from mmreg.training.progress import Clock, Position, Progress, rates_after
from mmreg.training.rows import AnyBatch, TrainingRows
from mmreg.training.sampling import row_classes
from mmreg.training.soup import UNMEASURED, Standing, best_epochs, standing
from mmreg.training.step import TrainingStep
from mmreg.training.validation import Validation


class Trainer:
    """Trains a model.

    Args:
        plan: the resolved recipe.
        model: on its device; where processes share out the weights, in host memory.
        modalities: by name, fitted.
        rows: what to learn from.
        device: where to compute.
        dtype: the dtype of the forward pass.
        on_step: told of every optimizer step.
        batch_size: the rows a batch where the recipe leaves them open.
        between_steps: called after every step, and after every batch of a validation: `state` is whole then. What it
            raises ends the training.
        tell: told what a person should know.
        on_gradients: told the number of a step when its gradients are there; None if nobody follows it.
        peers: the processes that train together.

    Attributes:
        average: the moving average of the weights, where the recipe asks for one.
        out_of_time: whether `max_minutes` has ended the training before its time.
        within_epoch: whether the last epoch that was given ended before its last step: a training that goes on does so
            from there, as if that epoch had never been measured.
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
        between_steps: Callable[[], None] = lambda: None,
        on_gradients: Callable[[int], None] | None = None,
        tell: Callable[[str], None] = lambda text: None,
        peers: Peers | None = None,
    ) -> None:
        self.peers = peers or Peers()
        weights = trained_weights(plan)
        self.model, groups = self.peers.trained(model, parameter_groups(model, weights))
        self.plan, self.modalities, self.rows = plan, modalities, rows
        self.device, self.dtype, self.on_step, self.between_steps = device, dtype, on_step, between_steps
        given = plan.recipe.form.training
        self.options = options = given if batch_size is None else given.model_copy(update={"batch_size": batch_size})
        self.task = self.model.task
        self.measures = Measures(self.task, plan.metrics)
        self.metric = plan.metric or self.task.main_metric
        metrics = list(dict.fromkeys([*plan.metric_names, self.metric]))
        self.validation = Validation(
            rows, modalities, self.measures, metrics, self.metric, options.batch_rows, device, dtype, self.peers
        )
        per_epoch = math.ceil(math.ceil(len(rows.train) / options.batch_rows) / options.accumulate)
        self.steps = min(options.epochs * per_epoch, options.max_steps or options.epochs * per_epoch)
        self.freezing = Freezing(self.model, weights)
        self.optimizer: torch.optim.Optimizer = plan.optimizer.build().build(groups)
        self.course: Schedule | None = None if plan.schedule is None else plan.schedule.build()
        self.schedule = self.course and self.course.build(self.optimizer, steps=self.steps, epochs=options.epochs)
        # Else torch warns of a schedule that is ahead of the optimizer where the first step was left out.
        vars(self.optimizer)["_opt_called"] = True
        self.classes = row_classes(self.task.space, rows.targets[rows.train]) if options.class_balance else None
        self.lengths = bucket_lengths(rows.prepared, rows.train, options, model)
        self.step = TrainingStep(
            self.model, modalities, self.optimizer, options, self.steps, device, dtype, on_gradients, self.peers
        )
        self._together: frozenset[int] | None = None  # the parameters whose gradients are added up over processes
        self.average = None
        if options.average is not None:
            self.average = Average(self.model, options.average, self.peers.copied(model))
        self._whole = model if self.peers.leads else self.model
        self._tell = tell
        self._compile(tell)
        self.watch = Watch(options.on_nonfinite == "skip", self._explain)
        self.progress = Progress()
        self.position: Position | None = None
        self.out_of_time = self.within_epoch = False
        self._clock = Clock(options.max_minutes)

    @property
    def predicting(self) -> MultimodalModel:
        """The model that is measured and kept: the one that is trained, or that of the averaged weights."""
        return self.model if self.average is None else self.average.model

    @property
    def ended_early(self) -> bool:
        """Whether `early_stopping` has ended the training before its time."""
        return self._is_stale() and not self._is_done()

    def best_epochs(self, history: Sequence[Epoch]) -> list[int]:
        """The best epochs by the metric that chooses the weights, the best first."""
        return best_epochs(history, self.metric, more_is_better=self.measures.more_is_better(self.metric))

    def measured(self, state: Mapping[str, Tensor]) -> float | None:
        """That metric of some weights on the validation rows, which the model then has."""
        runs.load_kept_weights(self.plan, self.model, state)
        values = self.validation(self.model, lambda: None)
        return next((each.value for each in values if not each.part and each.name == self.metric), None)

    def _compile(self, tell: Callable[[str], None]) -> None:
        """Put values on the device, and record and compile the step, where recipe and device allow it."""
        self.captured: CapturedStep | None = None
        resident = self.rows.keep_on(self.device)
        if not self.peers.trains_alone:
            if self.options.compile is True:
                tell("encoders are not compiled where several processes train together")
            return
        if not self.options.compile or self.step.on_gradients is not None:  # a recorded step shows nobody its gradients
            return
        if self.options.compile is True:
            if self.model.balance is not None and self.model.balance.own_gradients:
                tell("encoders are not compiled, as the balance goes back through them twice")
            else:
                tell("the encoders are compiled at the first steps, which takes a minute or so")
                self.model.compile_encoders()
        if self.device.type == "cuda" and resident:
            make_capturable(self.optimizer)
            self.captured = CapturedStep(self.step, CudaRecorder(), tell)
        elif self.device.type == "cuda":
            tell("steps are not recorded, as that needs all values in half of the GPU's memory")

    def state(self) -> dict[str, Any]:
        """All that is needed to go on from a step, as tensors and plain data; of several processes all ask for it."""
        self._look()
        return {
            "model": self._weights(self.model),
            "optimizer": self.peers.whole_optimizer(self.optimizer),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "average": None if self.average is None else self._weights(self.average.model),
            "progress": self.progress.to_plain(),
            "course": {"steps": self.steps, "epochs": self.options.epochs},
            "position": None if self.position is None else self.position.to_plain(),
            "watch": self.watch.to_plain(),
        }

    def weights(self) -> Mapping[str, Tensor]:
        """The weights of the model that is measured and kept; of several processes all ask for them."""
        return self._weights(self.predicting)

    def _weights(self, model: MultimodalModel) -> Mapping[str, Tensor]:
        return self.peers.whole_weights(runs.trained_weights(self.plan, model))

    def _load(self, model: MultimodalModel, weights: Mapping[str, Tensor]) -> None:
        runs.load_kept_weights(self.plan, model, self.peers.own_weights(model, weights))

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, also where the training is to be longer or shorter now."""
        self._load(self.model, state["model"])
        self.progress = Progress.from_plain(state["progress"])
        course = {"steps": self.steps, "epochs": self.options.epochs}
        rates = None
        if self.schedule is not None and self.course is not None:
            if state.get("course", course) == course or self.course.follows_loss:
                self.schedule.load_state_dict(state["schedule"])
            else:
                done = self.progress.step if self.course.per_step else self.progress.epoch
                rates = rates_after(self.schedule, self.optimizer, done)
        own = self.peers.own_optimizer(self.optimizer, state["optimizer"])
        self.optimizer.load_state_dict(with_own_flags(own, self.optimizer))
        for group, own in zip(self.optimizer.param_groups, rates or (), strict=False):
            group.update(own)
        self.step.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self._load(self.average.model, state["average"])
        if "watch" in state:  # earlier releases kept a training between its epochs alone
            self.watch.load_plain(state["watch"])
            position = state["position"]
            self.position = None if position is None else Position.from_plain(position, self.device)
        self.progress.finished = self._is_stale() or (self.position is None and self._is_done())

    def epochs(self) -> Iterator[tuple[Epoch, dict[str, Any], bool]]:
        """Train epoch by epoch.

        Yields:
            The epoch, its row of timings, and whether it is the best so far (without validation
            rows every epoch is).

        Raises:
            TrainingError: the loss is no longer finite.
        """
        while not self.progress.finished:
            if self._train_epoch():
                yield self._end_epoch()
                self.out_of_time = self._clock.is_over() and not self.progress.finished
            else:
                self.out_of_time = True
                self.between_steps()  # before the measuring of what is left within the epoch changes the state
            if self.out_of_time:
                break
        if self.position is not None:
            self.within_epoch = True
            yield self._end_epoch()
        self.peers.end()
        self.freezing.end()
        self.model.compile_encoders(False)
        if self.average is not None:
            self.model.load_state_dict(self.average.model.state_dict())
        self.model = self.step.forward = self.peers.whole_model(self.model, self._whole, self.device)
        self.validation.peers = Peers()  # from here on a process measures what it likes

    def _train_epoch(self) -> bool:
        """Train to the end of an epoch, from where it stands; False where the time is over before."""
        self.model.train()
        self.freezing.begin(self.progress.epoch)
        self._join()
        self._blend()
        if self.captured is not None:
            self.captured.begin_epoch()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        if self.position is None:
            rate = float(self.optimizer.param_groups[0]["lr"])
            self.position = Position(self.progress.step, rate)
        position = self.position
        started = time.perf_counter() - position.seconds
        parts, batches = self._batches(position.batches)
        first = position.batches
        for group in waited("waiting for data", _groups(batches, self.options.accumulate)):
            if self.progress.step >= self.steps:
                break
            done = position.batches - first
            self._take_step(group, position, parts and parts[done : done + len(group)])
            position.seconds = time.perf_counter() - started
            self.between_steps()
            if self._is_time_over():
                break
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            position.seconds = time.perf_counter() - started
        return self.progress.step >= self.steps or position.batches >= self._num_batches

    def _is_time_over(self) -> bool:
        """Whether there is no time left, for this process or another."""
        return self.options.max_minutes is not None and self.peers.any(self._clock.is_over())

    def _join(self) -> None:
        """Have the gradients of the weights that are trained now added up over all processes."""
        together = frozenset(id(weight) for weight in self.model.parameters() if weight.requires_grad)
        if together != self._together:
            self._together = together
            self.step.forward = self.peers.forward(self.model)

    def _take_step(self, group: list[AnyBatch], position: Position, parts: list[Part] | None) -> None:
        """One optimizer step, and what it comes to."""
        if parts is None:
            weight, rows = sum(batch.weight for batch in group), sum(batch.size for batch in group)
        else:
            weight, rows = sum(part.weight for part in parts), sum(part.rows for part in parts)
        if self.captured is not None:
            losses = self.captured(group, self.progress.step, weight)
        else:
            losses = self.step(group, self.progress.step, weight, parts)
        if self.average is not None and self.step.guard.bad is not True:
            self.average.update(self.progress.step)
        self.progress.step += 1
        if self.schedule is not None and self.course is not None and self.course.per_step:
            self.schedule.step()
        bad = self.step.guard.bad
        position.add(len(group), weight, losses, bad)
        self.watch.after(self.progress.step, losses.loss, bad, weight)
        self.on_step(Step(self.progress.epoch + 1, self.progress.step, self.steps, rows, losses.loss.item))

    def _batches(self, first: int, last: int | None = None) -> tuple[list[Part] | None, Iterator[AnyBatch]]:
        """The batches of this epoch from one on, up to another; and what part this process takes of each, if so."""
        order = epoch_order(len(self.rows.train), self.options, self.progress.epoch, self.lengths, self.classes)
        self._num_batches = len(order)
        drop = dropped_modalities(self.rows.prepared, self.rows.train, self.options, self.progress.epoch)
        order = order[first:last]
        parts = self.peers.parts(order, lambda: (self.rows.present(drop), self.rows.weights[self.rows.train]))
        if parts is None:
            return None, self.rows.training_batches(order, drop, self.device, self.progress.epoch)
        own = self.rows.training_batches([part.places for part in parts], drop, self.device, self.progress.epoch)
        return parts, (without_borrowed(batch, part.own) for batch, part in zip(own, parts, strict=True))

    def _look(self) -> None:
        """Have a look at the losses that an accelerator has not shown yet, and take skipped steps out of the means."""
        self.watch.look()
        if self.position is not None:
            self.position.weight -= self.watch.take_left_out()

    def _explain(self, number: int) -> str:
        """What a person should know of a step, numbered from 1 over the training, whose loss is not finite."""
        position, options = self.position, self.options
        assert position is not None
        first = (number - 1 - position.first_step) * options.accumulate
        batches = list(self._batches(first, first + options.accumulate)[1])
        draws = [Draws(self.step.seed(number - 1, index), self.peers.rank) for index in range(len(batches))]
        rows = self.rows.named(np.concatenate([batch.index for batch in batches]))
        group = list(zip(batches, draws, strict=True))
        with self.peers.alone():
            why = reason(self.model, self.modalities, group, self.device, self.rows.named)
        told = self.peers.from_all((why.startswith(ALL_FINITE), rows, why))
        _, rows, why = min(told, key=lambda each: each[0])  # of a process that has found where it comes from
        return (
            f"the loss is not a finite number at step {number:,} (epoch {self.progress.epoch + 1}), over the rows "
            f"{listed(rows, 5)}: {why}"
        )

    def _end_epoch(self) -> tuple[Epoch, dict[str, Any], bool]:
        """Measure what an epoch has come to, and close it."""
        position = self.position
        assert position is not None
        started = time.perf_counter()
        self._look()
        if self.watch.skipped and not position.weight > 0:
            raise NonFiniteError(f"not one step of epoch {self.progress.epoch + 1} had a finite loss; {REMEDY}")
        means = position.means()
        if slow := self.peers.slow():
            self._tell(slow)
        with self._clock.validating(), region("validation"):
            self.model.eval()
            measured = self.validation(self.predicting, self.between_steps)
        epoch = Epoch(self.progress.epoch + 1, self.progress.step, position.learning_rate, (*means, *measured))
        improved = self._judge(epoch)
        self.progress.epoch += 1
        self.progress.history.append(epoch)
        self.position = None
        self.progress.finished = self._is_done() or self._is_stale()
        if self.course is not None and not self.course.per_step:
            self._step_schedule(epoch)
        return epoch, self._timings(position, time.perf_counter() - started), improved

    def _blend(self) -> None:
        """Set the weights of the losses that are blended by what the epochs so far have shown."""
        root, balance, balanced = self.model.root, self.model.balance, self.model.balanced
        if balance is not None and balance.blends:
            assert balanced is not None
            parts = {**{name: name for name in balanced.names}, balanced.node.name: ""}
            self.model.blended = blending_weights(self.progress.history, parts) or {}
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

    def _judge(self, epoch: Epoch) -> bool:
        """Whether the epoch is the best so far, by the metric and of equal ones by the loss."""
        value = epoch.get("validation", self.metric)
        if value is None and len(self.rows.validation):
            raise TrainingError(
                f"the metric {self.metric!r} chooses the weights, but gave no finite number on the validation rows; "
                "choose another one by training.metric"
            )
        if value is None:
            return True
        early = self.options.early_stopping
        delta = early.min_delta if isinstance(early, EarlyStopping) else 0.0
        best, now = self.progress.best, self._standing(epoch)
        before = UNMEASURED if best is None else self._standing(self.progress.history[best[1] - 1])
        improved = now[0] - before[0] > delta if delta else now > before
        self.progress.stale = 0 if improved else self.progress.stale + 1
        if now > before:
            self.progress.best = (value, epoch.number)
        return now > before

    def _standing(self, epoch: Epoch) -> Standing:
        return standing(epoch, self.metric, more_is_better=self.measures.more_is_better(self.metric))

    def _is_done(self) -> bool:
        return self.progress.epoch >= self.options.last_epoch or self.progress.step >= self.steps

    def _is_stale(self) -> bool:
        early = self.options.early_stopping
        patience = early.patience if isinstance(early, EarlyStopping) else early
        return patience is not None and self.progress.stale >= patience

    def _timings(self, position: Position, measuring: float) -> dict[str, Any]:
        memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
        rows = min(position.batches * self.options.batch_rows, len(self.rows.train))
        return {
            "epoch": self.progress.epoch,
            "train_seconds": round(position.seconds, 4),
            "seconds": round(position.seconds + measuring, 4),
            "rows_per_second": round(rows / position.seconds, 1),
            "device_memory_bytes": memory,
        }


def _groups(batches: Iterable[AnyBatch], size: int) -> Iterator[list[AnyBatch]]:
    """Batches in groups of a size; the last one may be smaller."""
    group: list[AnyBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
