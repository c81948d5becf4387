"""Gradient blending (Wang et al. 2020)."""

from __future__ import annotations

from mmreg_balance.heads import OwnHeads


class GradientBlending(OwnHeads):
    """A head and a loss of its own for each modality, weighed anew by how much each of them and the fused one overfits.

    Wang, Tran and Feiszli, What Makes Training Multi-Modal Classification Networks Hard?, CVPR 2020: the training loss
    is the sum of w_k L_k over the fused head and a head for each modality, with

        w_k = G_k / O_k^2,  scaled to a mean of one,

    G_k being what the validation loss L_k fell by over a few epochs, and O_k what the gap between it and the training
    loss grew by. One whose validation loss did not fall has no weight until it falls again. Epochs go in windows of
    three; all weights are one until two of them are over, and stay where nothing got better.

    The paper trains each head alone, from the same start, for each estimate; here the course of the training itself is
    what counts, which takes nothing more. At model level `own_loss: gradient_blending` of an operator does the same for
    its parts. The weights follow from the history of the epochs, so that a training that goes on finds them. Needs
    validation rows, and an operator that gives the whole model's features. For any task.

    Cost: a linear layer a modality.
    """

    detached = False
    blends = True
