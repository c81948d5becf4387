"""What a model comes to on the validation rows, whole and by its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.metrics import MetricValue
from mmreg.contract.task import Task
from mmreg.data.lengths import unpadded_order
from mmreg.model.inference import Predicted, mean_loss, predict
from mmreg.model.measures import Measures
from mmreg.model.model import MultimodalModel
from mmreg.training.peers import Peers
from mmreg.training.rows import AnyBatch, TrainingRows


class Validation:
    """Measures models on the validation rows.

    Args:
        rows: of the training.
        modalities: by name, fitted.
        measures: computes the metrics.
        metrics: those of the whole model.
        metric: the one that chooses the weights, for the parts as well.
        batch_size: rows that are predicted at a time.
        device: where to compute.
        dtype: the dtype of the forward pass.
        peers: the processes that train together; each predicts its share of the batches.
    """

    def __init__(
        self,
        rows: TrainingRows,
        modalities: Mapping[str, Modality],
        measures: Measures,
        metrics: list[str],
        metric: str,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
        peers: Peers | None = None,
    ) -> None:
        self.peers = peers or Peers()
        self.rows, self.modalities, self.measures = rows, modalities, measures
        self.metrics, self.metric, self.batch_size = metrics, metric, batch_size
        self.order = unpadded_order(rows.prepared, rows.validation, batch_size)
        self.device, self.dtype = device, dtype

    def __call__(self, model: MultimodalModel, between: Callable[[], None]) -> list[MetricValue]:
        """Loss and metrics; nothing without validation rows.

        Args:
            model: left in evaluation mode.
            between: called before each batch; what it raises is raised.
        """
        if not len(self.rows.validation):
            return []
        order = self.peers.batches_of(len(self.rows.validation), self.batch_size, self.order)
        predicted = predict(model, self.modalities, self._batches(order, between), self.device, self.dtype)
        predicted = self.peers.predicted(predicted, order)
        measured = self.peers.from_first(lambda: self._measured(model.task, predicted))
        self.peers.settle()
        return measured

    def _measured(self, task: Task, predicted: Predicted) -> list[MetricValue]:
        targets = torch.from_numpy(self.rows.targets[self.rows.validation])
        weights = torch.from_numpy(self.rows.weights[self.rows.validation])
        found = [("", "loss", mean_loss(task, predicted.scores, targets, weights))]
        result = self.measures.evaluate(predicted.scores, targets, self.metrics)
        found += [("", name, value) for name, value in result.items() if isinstance(value, float)]
        for name, part in predicted.parts.items():
            rows = part.present
            if rows.any():
                found.append((name, "loss", mean_loss(task, part.scores[rows], targets[rows], weights[rows])))
                result = self.measures.evaluate(task.scores(part.scores)[rows], targets[rows], [self.metric])
                own = result.get(self.metric)
                found += [] if own is None else [(name, self.metric, own)]
        return [MetricValue("validation", *each) for each in found]

    def _batches(self, order: Sequence[NDArray[np.int64]] | None, between: Callable[[], None]) -> Iterator[AnyBatch]:
        for batch in self.rows.validation_batches(self.batch_size, order, self.device):
            if self.peers.size == 1:  # others may have fewer batches, and ask less often
                between()
            yield batch
