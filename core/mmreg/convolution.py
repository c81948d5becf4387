"""Convolution, batch norm, max pooling and ReLU as one operation, which takes a CPU fewer passes over memory.

Axes: B batch, C channels, H W height and width (of a spectrogram: frequency and time).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from mmreg.layers import MaskedBatchNorm, length_mask, on_host

FAR = 1.0
"""How large what the zeros of padding add to the variance may be, in times the variance itself, to be taken out of it
again: the rounding of the sum is then at most doubled. Beyond it the variance is computed without them, which takes a
fifth longer as a whole."""
FEW = 16
"""Values under a kernel up to which a product of matrices takes less time than torch's convolution (4 instead of 8 ms
for 64 spectrograms of one channel), which counts on many channels."""


def conv_norm_pool(
    conv: nn.Conv2d,
    norm: MaskedBatchNorm,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    pool: tuple[int, int] = (2, 2),
    ceil_mode: bool = False,
) -> Tensor:
    """The ReLU of `max_pool2d(norm(conv(values), mask), pool)`, as fast as the device allows.

    Of a CPU in full precision, it uses that the maximum can be taken before the norm, which leaves a quarter of the
    values to normalise, and that padding differs from silence in one column alone.

    Args:
        conv: without a bias, as the norm has one. With a mask, of a kernel of 3 with padding 1 and stride 1.
        norm: over the channels that the convolution gives.
        values: (B, C, H, W), with a mask zero beyond it.
        mask: (B, W) bool, which columns are valid, the valid ones first; None for all.
        pool: height and width of a window; the width is 2 with a mask.
        ceil_mode: whether what is left at the end and fills no window has one of its own.

    Returns:
        (B, C', H', W'), zero where a window has no valid column. Gradients of values beyond the mask mean nothing.
    """
    fused = _can_fuse(conv, norm, values)
    if fused and not values.requires_grad and conv.weight[0].numel() <= FEW:
        convolved = _product(conv, values)
    else:
        convolved = _channels_last(conv(_channels_last(values)))
    height, width = convolved.shape[2:]
    lengths = None if mask is None else mask.sum(1)
    count = height * (len(convolved) * width if lengths is None else int(lengths.sum())) if fused else 0
    if not fused or (norm.training and count <= 1 and norm.peers is None):
        normalised = norm(convolved, None if mask is None else mask[:, None, None, :])
        return max_pool(normalised, pool, ceil_mode).relu()
    assert norm.weight is not None
    # Of what a negative weight multiplies, the maximum comes from the minimum.
    sign = torch.where(norm.weight.detach() < 0, -1, 1).to(values.dtype)
    if bool((sign < 0).any()):
        convolved = convolved * sign[:, None, None]
    with torch.no_grad():
        if lengths is not None:  # the kernel reaches over one column of padding
            _fill(convolved, lengths, lengths < width, 0.0)
        mean, variance, count = _statistics(norm, convolved, sign, count, lengths)
    result: Tensor = _NormPool.apply(  # type: ignore[no-untyped-call]
        convolved,
        norm.weight * sign,
        norm.bias,
        mean,
        (variance + norm.eps).rsqrt(),
        lengths,
        count if norm.training else None,
        norm.peers,
        pool,
        ceil_mode,
    )
    return result


def max_pool(values: Tensor, pool: tuple[int, int], ceil_mode: bool = False) -> Tensor:
    """As `max_pool2d` of (B, C, H, W), windows side by side; exported in a form that holds for odd and even sizes."""
    if not torch.compiler.is_exporting():
        return nn.functional.max_pool2d(values, pool, ceil_mode=ceil_mode)
    down, across = pool
    if ceil_mode:
        values = nn.functional.pad(values, (0, across - 1, 0, down - 1), value=-torch.inf)
    height, width = values.shape[2] // down, values.shape[3] // across
    for axis, size in ((2, height * down), (3, width * across)):  # a slice would be traced for sizes that fit
        values = values.index_select(axis, torch.arange(size, device=values.device))
    return values.reshape(*values.shape[:2], height, down, width, across).amax((3, 5))


def _can_fuse(conv: nn.Conv2d, norm: MaskedBatchNorm, values: Tensor) -> bool:
    """Whether it is computed here and in full precision, of all rows, untraced, by layers of the usual kind."""
    if not on_host(values) or values.dtype not in (torch.float32, torch.float64):
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    usual = conv.bias is None and conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    usual = usual and not isinstance(conv.padding, str)
    return usual and norm.weight is not None and norm.running_mean is not None and norm.own is None


def _channels_last(values: Tensor) -> Tensor:
    """In the memory order in which a CPU convolves, normalises and pools fastest."""
    return values.contiguous(memory_format=torch.channels_last)


def _product(conv: nn.Conv2d, values: Tensor) -> Tensor:
    """A convolution of values that need no gradient as a product of matrices, channels last."""
    batch, channels, _, _ = values.shape
    assert not isinstance(conv.padding, str)
    (down, across), (below, beside) = conv.stride, conv.padding
    rows, columns = conv.kernel_size
    padded = nn.functional.pad(values, (beside, beside, below, below))
    height = (padded.shape[2] - rows) // down + 1
    width = (padded.shape[3] - columns) // across + 1
    under = values.new_empty(batch, height, width, channels * rows * columns)  # the kernel, at every position
    place = 0
    for channel in padded.unbind(1):
        for row in range(rows):
            for column in range(columns):
                lines = channel[:, row : row + (height - 1) * down + 1 : down]
                under[..., place] = lines[:, :, column : column + (width - 1) * across + 1 : across]
                place += 1
    # In this order of memory the product that gives the weight's gradient takes a tenth of the time.
    result: Tensor = under.flatten(0, 2) @ conv.weight.flatten(1).t().contiguous()
    return result.view(batch, height, width, conv.out_channels).permute(0, 3, 1, 2)


def _fill(values: Tensor, lengths: Tensor, which: Tensor, number: float) -> None:
    """Set, in some rows (B,) bool of (B, C, H, W), the column after the row's last valid one."""
    rows = which.nonzero()[:, 0]
    # Of the data alone: a view that was written to would get its gradient by way of a copy.
    values.data.permute(0, 2, 3, 1)[rows, :, lengths[rows]] = number


def _statistics(
    norm: MaskedBatchNorm, values: Tensor, sign: Tensor, count: int, lengths: Tensor | None
) -> tuple[Tensor, Tensor, int]:
    """The mean and variance (C,) by which a norm goes, and of how many positions; training moves the running ones.

    Args:
        norm: whose running statistics are of the values without the sign.
        values: (B, C, H, W), zero where they do not count.
        sign: (C,) what they have been multiplied by.
        count: how many positions count.
        lengths: (B,) how many columns of each row do; None for all.
    """
    running_mean, running_var = norm.running_mean, norm.running_var
    assert running_mean is not None
    assert running_var is not None
    if not norm.training:
        return running_mean * sign, running_var, count
    mean, variance = torch.batch_norm_update_stats(values, None, None, 0.0)
    total = values.numel() // values.shape[1]
    if lengths is not None and total > count:
        # Zeros among them: E[y^2] and E[y] of all are those of what counts, times count / total.
        wide = mean.double() * (total / count)
        added = wide.square() * ((total - count) / total)
        left = (variance.double() * (total / count) - added).clamp(min=0)
        if bool((added > FAR * left).any()):
            wide, left = _centred(values, wide, lengths, count)
        mean, variance = wide.to(mean.dtype), left.to(variance.dtype)
    if norm.peers is not None:
        mean, variance, count = _of_peers(mean, variance, count, norm.peers)
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1 / float(norm.num_batches_tracked) if momentum is None else momentum
    assert momentum is not None
    running_mean.lerp_((mean * sign).to(running_mean.dtype), momentum)
    running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    return mean, variance, count


def _of_peers(mean: Tensor, variance: Tensor, count: int, peers: Any) -> tuple[Tensor, Tensor, int]:
    """The mean and variance (C,) of the values of several processes, and how many they are, from each one's own."""
    wide = mean.double()
    sums = torch.cat([wide * count, (variance.double() + wide.square()) * count, wide.new_full((1,), count)])
    distributed.all_reduce(sums, group=peers)
    total = int(sums[-1])
    wide, square = (sums[:-1] / total).chunk(2)
    return wide.to(mean.dtype), (square - wide.square()).clamp(min=0).to(variance.dtype), total


def _centred(values: Tensor, near: Tensor, lengths: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean and variance (C,) of what counts of (B, C, H, W), by its differences from about the mean."""
    near = near.to(values.dtype)
    beyond = ~length_mask(lengths, values.shape[3])[:, None, None, :]
    apart = (values - near[:, None, None]).masked_fill_(beyond, 0)
    rest = apart.sum((0, 2, 3)).double() / count
    return near + rest, apart.square_().sum((0, 2, 3)).double() / count - rest.square()


class _NormPool(torch.autograd.Function):
    """relu(norm(max_pool(values))), for weights that are not negative; see `conv_norm_pool`."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        inverse: Tensor,
        lengths: Tensor | None,
        count: int | None,
        peers: Any,
        pool: tuple[int, int],
        ceil_mode: bool,
    ) -> Tensor:
        """Normalise by a mean and the inverse of a deviation (C,), which depend on `count` of the values, or on none.

        The values (B, C, H, W) are zero in the column after the last valid one.
        """
        odd = None if lengths is None else (lengths < values.shape[3]) & (lengths % 2 == 1)
        if lengths is not None and odd is not None:  # their last window reaches over a column of padding
            _fill(values, lengths, odd, -torch.inf)
        pooled, places = torch.ops.aten.max_pool2d_with_indices(values, pool, pool, (0, 0), (1, 1), ceil_mode)
        if lengths is not None and odd is not None:
            _fill(values, lengths, odd, 0.0)
        scale = weight * inverse
        result = torch.addcmul((bias - mean * scale)[:, None, None], pooled, scale[:, None, None]).relu_()
        if lengths is not None:
            result.masked_fill_(~length_mask((lengths + 1) // 2, result.shape[3])[:, None, None, :], 0)
        ctx.save_for_backward(values, pooled, places, result, weight, mean, inverse, lengths)
        ctx.count, ctx.peers, ctx.pooling = count, peers, (pool, pool, (0, 0), (1, 1), ceil_mode)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the values, the weight and the bias (Ioffe and Szegedy 2015, section 3)."""
        values, pooled, places, result, weight, mean, inverse, lengths = ctx.saved_tensors
        through = torch.ops.aten.threshold_backward(_channels_last(gradients[0]), result, 0)
        of_bias = through.sum((0, 2, 3))
        of_normalised = (through * pooled).sum((0, 2, 3)) - mean * of_bias
        scale = weight * inverse
        of_values = torch.ops.aten.max_pool2d_with_indices_backward(
            through * scale[:, None, None], values, *ctx.pooling, places
        )
        if ctx.count is not None:
            # The values move the mean and the variance as well.
            sums = torch.stack([of_bias, of_normalised])
            if ctx.peers is not None:
                distributed.all_reduce(sums, group=ctx.peers)
            of_mean = -scale * sums[0] / ctx.count
            of_variance = -weight * inverse.pow(3) * sums[1] / ctx.count
            of_values.addcmul_(values, of_variance[:, None, None])
            of_values.add_((of_mean - of_variance * mean)[:, None, None])
        if lengths is not None:
            _fill(of_values, lengths, lengths < values.shape[3], 0.0)
        return of_values, of_normalised * inverse, of_bias, None, None, None, None, None, None, None
