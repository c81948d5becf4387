"""Building blocks that never let padding leak: masks, norms and pooling over valid positions; recurrence, a perceptron.

Axes: B batch, C channels, T time or tokens, D features.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from mmreg.recurrence import scanned

Pooling = Literal["last", "mean", "max", "attention"]
_Steps = TypeVar("_Steps", Tensor, PackedSequence)
GLOBAL_DRAWS = threading.RLock()
"""Held by whoever seeds torch's global random state, for as long as it draws from it: threads share that state."""
_CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN_TANH": nn.RNN,
    "RNN_RELU": partial(nn.RNN, nonlinearity="relu"),
}
_KERNELS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Which of `size` positions lie within each sample's length.

    Args:
        lengths: (B,) int64.
        size: T.

    Returns:
        (B, T) bool.

    Example:
        >>> length_mask(torch.tensor([1, 3]), 3)
        tensor([[ True, False, False],
                [ True,  True,  True]])
    """
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over T of (B, T, D), valid positions only (mask (B, T) bool; None: all); zero where there is none.

    Example:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [100.0]]]), length_mask(torch.tensor([2]), 3))
        tensor([[2.]])
    """
    if mask is None:
        return values.mean(1)
    weights = mask.unsqueeze(-1).to(values.dtype)
    total = values.masked_fill(~mask.unsqueeze(-1), 0).sum(1)
    return total / weights.sum(1).clamp(min=1)


def masked_max(values: Tensor, mask: Tensor | None) -> Tensor:
    """The maximum over T of (B, T, D), valid positions only (mask (B, T) bool; None: all); zero where there is none."""
    if mask is None:
        return values.amax(1)
    lowest = torch.finfo(values.dtype).min
    result = values.masked_fill(~mask.unsqueeze(-1), lowest).amax(1)
    return result.masked_fill(~mask.any(1, keepdim=True), 0)


def masked_last(values: Tensor, mask: Tensor | None) -> Tensor:
    """The last valid position of (B, T, D); valid ones (mask (B, T) bool; None: all) are taken to come first."""
    if mask is None:
        return values[:, -1]
    index = (mask.sum(1) - 1).clamp(min=0)
    return values[torch.arange(values.shape[0], device=values.device), index]


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or as they are if float64: sums of reduced precision lose too much, or overflow."""
    return values if values.dtype == torch.float64 else values.float()


def masked_softmax(logits: Tensor, mask: Tensor | None, dim: int = -1) -> Tensor:
    """A softmax over the positions where the mask (broadcastable, bool; None: all) is True; zero elsewhere.

    A slice without any valid position gives zeros, not NaN. Computed in float32 under reduced precision.
    """
    wide = at_least_float32(logits)
    if mask is None:
        return wide.softmax(dim).to(logits.dtype)
    weights = wide.masked_fill(~mask, torch.finfo(wide.dtype).min).softmax(dim)
    return weights.masked_fill(~mask, 0).to(logits.dtype)


class AttentionPool(nn.Module):
    """Pooling by learned attention: a weight per position, softmax(v . tanh(W x)) over valid ones (Bahdanau 2015).

    Args:
        features: D.
        hidden: the size of W x; 0 for D.
    """

    def __init__(self, features: int, hidden: int = 0) -> None:
        super().__init__()
        hidden = hidden or features
        self.project = nn.Linear(features, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """Pool (B, T, D) with mask (B, T) bool, or None, to (B, D)."""
        logits = self.score(torch.tanh(self.project(values))).squeeze(-1)
        weights = masked_softmax(logits, mask)
        if mask is not None:
            values = values.masked_fill(~mask.unsqueeze(-1), 0)
        return torch.einsum("bt,btd->bd", weights, values)


class SequencePool(nn.Module):
    """Pools the valid positions of a sequence to one vector.

    Args:
        features: D.
        how: the last valid position, their mean, their maximum, or learned attention.
    """

    def __init__(self, features: int, how: Pooling) -> None:
        super().__init__()
        self.how = how
        self.attention = AttentionPool(features) if how == "attention" else None

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """Pool (B, T, D) with mask (B, T) bool, or None, to (B, D)."""
        if self.attention is not None:
            pooled: Tensor = self.attention(values, mask)
            return pooled
        pool = {"last": masked_last, "mean": masked_mean, "max": masked_max}[self.how]
        return pool(values, mask)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over any number of trailing axes, with statistics of valid positions only.

    The same parameters and buffers as `torch.nn.BatchNorm1d` and `BatchNorm2d`, and the same result without a mask.
    Unlike those it trains on a single value per channel too, or none, by using the running statistics for it.

    Args:
        num_features: C.

    Attributes:
        peers: the processes that train together, a torch.distributed group: the statistics are then of the values of
            all of them. None for those of this one.
        own: (n,) bool, which rows of a batch are this process's own, of whose values alone the statistics are; None for
            all of them.
    """

    peers: Any = None
    own: Tensor | None = None

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch normalisation needs (B, C, ...), found {tuple(input.shape)}")

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise (B, C, ...) with mask (B, 1, ...) bool, broadcastable; padding comes out as zero.

        In training on a CPU the valid positions alone are gathered and normalised, which costs less than to mask every
        step. Elsewhere their number is not asked for, as the host would have to wait for it.
        """
        self._check_input_dim(values)
        if self.training and self.peers is not None:
            return masked_batch_norm(self, values, mask, self.peers, self.own)
        if mask is None:
            if self.training and values.numel() <= values.shape[1]:
                return nn.functional.batch_norm(
                    values, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
                )
            return super().forward(values)
        if not self.training:
            return super().forward(values).masked_fill(~mask, 0)
        gathers = on_host(values) and not torch.compiler.is_compiling()  # a graph is traced for any number of them
        return self._gathered(values, mask) if gathers else self._masked(values, mask)

    def _gathered(self, values: Tensor, mask: Tensor) -> Tensor:
        """Normalised in training by way of the valid positions alone."""
        rows = values.movedim(1, -1)  # (B, ..., C): a view without a copy where the memory is channels-last
        valid = mask.expand(values.shape[0], 1, *values.shape[2:]).flatten().nonzero()[:, 0]
        found = rows.reshape(-1, self.num_features).index_select(0, valid)
        normalised = self.forward(found)
        result = normalised.new_zeros(rows.numel() // self.num_features, self.num_features)
        return result.index_copy_(0, valid, normalised).view(rows.shape).movedim(-1, 1)

    def _masked(self, values: Tensor, mask: Tensor) -> Tensor:
        """Normalised in training by sums over all positions, to which padding adds nothing."""
        return masked_batch_norm(self, values, mask)


def masked_batch_norm(
    norm: nn.modules.batchnorm._BatchNorm,
    values: Tensor,
    mask: Tensor | None,
    peers: Any = None,
    own: Tensor | None = None,
) -> Tensor:
    """What a batch norm makes in training of (B, C, ...), by sums over valid positions.

    Args:
        norm: its weights, and the running statistics that it moves.
        values: of any precision.
        mask: (B, 1, ...) bool, broadcastable; None for all of them.
        peers: the processes whose values are summed together, a torch.distributed group; None for this one's.
        own: (n,) bool, which rows of a batch are summed, if not all are; the others come out as padding does.
    """
    mask = _of_own_rows(values, mask, own)
    wide = at_least_float32(values)
    axes = [0, *range(2, wide.dim())]
    shape = [1, norm.num_features, *[1] * (wide.dim() - 2)]
    if mask is None:
        count = wide.new_full((), wide.numel() // norm.num_features)
    else:
        count = mask.expand(wide.shape[0], 1, *wide.shape[2:]).sum().to(wide.dtype)
    total, count = _over_peers(_valid(wide, mask).sum(axes), count, peers)
    mean = total / count.clamp(min=1)
    centred = _valid(wide - mean.view(shape), mask)
    variance = _over_peers(centred.square().sum(axes), count, peers)[0] / count.clamp(min=1)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        enough = count > 1  # of a single value there is no deviation: the running one is used for it
        norm.num_batches_tracked += enough
        seen = norm.num_batches_tracked.to(wide.dtype).clamp(min=1)
        share = enough.to(wide.dtype) * (1 / seen if norm.momentum is None else norm.momentum)
        with torch.no_grad():
            unbiased = variance * (count / (count - 1).clamp(min=1))
            norm.running_mean += share * (mean - norm.running_mean)
            norm.running_var += share * (unbiased - norm.running_var)
        shift = torch.where(enough, 0.0, (mean - norm.running_mean)).view(shape)
        centred = _valid(centred + shift, mask)
        variance = torch.where(enough, variance, norm.running_var)
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    result = centred * scale.view(shape)
    if norm.bias is not None:
        result = result + norm.bias.view(shape)
    return _valid(result, mask).to(values.dtype)


def _of_own_rows(values: Tensor, mask: Tensor | None, own: Tensor | None) -> Tensor | None:
    """A mask of (B, C, ...) without what is not of own rows (n,); those of B follow each other, as many of each."""
    if own is None or len(values) % len(own):
        return mask
    of_own = own.repeat_interleave(len(values) // len(own)).view(-1, *[1] * (values.dim() - 1))
    return of_own if mask is None else mask & of_own


def _valid(values: Tensor, mask: Tensor | None) -> Tensor:
    """The values with zeros where a mask says that there are none."""
    return values if mask is None else values.masked_fill(~mask, 0)


def _over_peers(total: Tensor, count: Tensor, peers: Any) -> tuple[Tensor, Tensor]:
    """A sum (C,) and what it is over, of all processes; gradients go back to each."""
    if peers is None:
        return total, count
    from torch.distributed.nn.functional import all_reduce  # only where there are several

    both = all_reduce(torch.cat([total, count[None]]), group=peers)  # type: ignore[no-untyped-call]
    return both[:-1], both[-1].detach()


def on_host(values: Tensor) -> bool:
    """Whether a tensor's content can be looked at without waiting for a device."""
    return values.device.type == "cpu"


def recurrent(layer: nn.RNNBase, values: _Steps, state: Any = None) -> tuple[_Steps, Any]:
    """Run a recurrent layer, whatever precision autocast asks for: in float32 where torch has no kernel for it here.

    On a CPU without AVX-512 torch has none for an LSTM in bfloat16, and calling the layer itself raises an error there.

    Args:
        layer: a `torch.nn.LSTM`, `GRU` or `RNN`.
        values: what it takes: (B, T, D) if it is `batch_first`, or a packed sequence.
        state: the state that it begins with; zeros if it is not given.

    Returns:
        What the layer returns, the last layer's states and the final state: under autocast in the dtype that it asks
        for, on every machine.
    """
    device, dtype = values.data.device.type, _asked_for(values.data)
    if dtype is None:
        states, state = layer(values, state)
        return states, state
    if has_recurrent_kernel(layer.mode, device, dtype):
        states, state = layer(values, state)
    else:
        own = next(layer.parameters()).dtype
        with torch.autocast(device, enabled=False):
            states, state = layer(_cast(values, own), _cast(state, own))
    return _cast(states, dtype), _cast(state, dtype)


def _asked_for(values: Tensor) -> torch.dtype | None:
    """What autocast asks for where values are; None where it leaves them as they are, as it does with float64."""
    device = values.device.type
    if values.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def recurrent_states(layer: nn.RNNBase, values: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The last layer's states of recurrent layers over padded sequences, of which padding changes none.

    No device is waited for, and dropout between layers draws from torch's global state on every device.

    Args:
        layer: a `torch.nn.LSTM`, `GRU` or `RNN` that is `batch_first`.
        values: (B, T, D).
        lengths: (B,) int64, at least 1; None where nothing is padding.

    Returns:
        (B, T, H or 2 H); those beyond a row's length hold anything finite.
    """
    if not layer.bidirectional:  # no valid step comes after padding: nothing to keep away, and much faster
        lengths = None
    draws = layer.training and layer.dropout > 0 and layer.num_layers > 1
    asked = _asked_for(values)
    if torch.compiler.is_exporting() or (not on_host(values) and (lengths is not None or draws or asked is not None)):
        return _layer_by_layer(layer, lengths, values, asked)
    if lengths is None:
        return recurrent(layer, values)[0]
    packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(recurrent(layer, packed)[0], batch_first=True, total_length=values.shape[1])[0]


def _layer_by_layer(layer: nn.RNNBase, lengths: Tensor | None, values: Tensor, asked: torch.dtype | None) -> Tensor:
    """One layer and direction after the other: the backward one reads each row from its own last step.

    A packed sequence would need the lengths in host memory; cuDNN's own dropout draws from a state that nobody seeds;
    and autocast would have it compute in float16 whatever is asked for, whose small gradients vanish.
    """
    device, own = values.device.type, next(layer.parameters()).dtype
    dtype = asked if asked is not None and has_recurrent_kernel(layer.mode, device, asked) else own
    steps = torch.arange(values.shape[1], device=values.device)
    order = steps.flip(0)[None].expand(values.shape[:2])
    if lengths is not None:
        order = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    weights = iter(layer.all_weights)
    with torch.autocast(device, enabled=False) if asked is not None else nullcontext():
        values = values.to(dtype)
        for number in range(layer.num_layers):
            if number:
                values = nn.functional.dropout(values, layer.dropout, layer.training)
            directions = [_one_direction(layer, values, next(weights))]
            if layer.bidirectional:
                back = _one_direction(layer, _reordered(values, order), next(weights))
                directions.append(_reordered(back, order))
            values = torch.cat(directions, -1) if layer.bidirectional else directions[0]
    return values if asked is None else values.to(asked)


def _one_direction(layer: nn.RNNBase, values: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The states of a layer's one direction, in the dtype of the values."""
    sizes = [layer.proj_size or layer.hidden_size, layer.hidden_size][: 1 + (layer.mode == "LSTM")]
    zeros = [values.new_zeros(1, values.shape[0], size) for size in sizes]
    begin = tuple(zeros) if layer.mode == "LSTM" else zeros[0]
    own = [each.to(values.dtype) for each in weights]
    kernel = partial(scanned, layer.mode) if torch.compiler.is_exporting() else _KERNELS[layer.mode]
    with warnings.catch_warnings():  # that the weights of one layer alone are copied together
        warnings.simplefilter("ignore")
        states: Tensor = kernel(values, begin, own, layer.bias, 1, 0.0, layer.training, False, True)[0]
    return states


def _reordered(values: Tensor, order: Tensor) -> Tensor:
    """(B, T, D) with the steps of each row in another order (B, T)."""
    return values.gather(1, order.unsqueeze(-1).expand_as(values))


def has_recurrent_kernel(mode: str, device: str, dtype: torch.dtype) -> bool:
    """Whether torch trains a recurrent layer in this dtype here, found by trying it once a process.

    Args:
        mode: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU", as `torch.nn.RNNBase.mode`.
        device: the type of the device, such as "cpu".
        dtype: what autocast asks for.
    """
    return _trains(mode, device, dtype)


@cache
def _trains(mode: str, device: str, dtype: torch.dtype) -> bool:
    # Asked in the middle of a forward pass, this changes neither the random state nor what is recorded there.
    with GLOBAL_DRAWS, torch.random.fork_rng(devices=()), torch.inference_mode(False), torch.enable_grad():
        by_autocast = device == "cpu"  # elsewhere weights and values are brought into the dtype by hand
        own = torch.float32 if by_autocast else dtype
        layer = _CELLS[mode](1, 1, batch_first=True).to(device, own)
        try:
            with torch.autocast(device, dtype, enabled=by_autocast):
                states = layer(torch.zeros(1, 1, 1, device=device, dtype=own))[0]
            states.float().sum().backward()
        except torch.OutOfMemoryError:
            raise  # it says nothing of the kernel
        except RuntimeError:
            return False
    return True


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Tensors, packed sequences, pairs of them or None in another dtype."""
    if isinstance(values, tuple) and not isinstance(values, PackedSequence):
        return tuple(_cast(each, dtype) for each in values)
    return None if values is None else values.to(dtype)


class MLP(nn.Sequential):
    """Linear layers with ReLU and dropout between them; the last one is linear.

    Args:
        in_features: D of the input.
        hidden: sizes of the hidden layers; none for a single linear layer.
        out_features: D of the output.
        dropout: the share of values dropped after each hidden layer.
    """

    def __init__(self, in_features: int, hidden: Sequence[int], out_features: int, dropout: float = 0.0) -> None:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(in_features, size), nn.ReLU(), nn.Dropout(dropout)]
            in_features = size
        super().__init__(*layers, nn.Linear(in_features, out_features))


def own_share(tensor: Tensor) -> Tensor:
    """What this process has of a tensor that several processes share out; otherwise all of it."""
    found: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found


def trainable_parameters(module: nn.Module) -> int:
    """How many numbers of a module are trained."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
