"""A head and a loss of its own for each modality, beside the fused one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Le

from mmreg import Balance
from mmreg_balance.heads import OwnHeads


class OwnLosses(OwnHeads):
    """A linear head with a loss of its own for each modality, beside the fused one: L = L_fused + weight sum_m L_m.

    So no encoder stops to learn where the fused head is right by the other modalities alone. It is what most methods of
    this kind begin with, and by itself often as good; `gradient_blending` weighs these losses anew as they go. A row
    counts for the modalities that it has. For any task.

    Cost: a linear layer a modality.

    Args:
        weight: of each modality's loss. With 0 the heads learn from what the encoders give, which do not notice: so a
            run shows each modality's own figures, and is trained as without a balance.
    """

    spaces = Balance.spaces | {"several"}

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        weight: Annotated[float, Ge(0), Le(1e6)] = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(inputs, **options)
        self.detached = weight == 0
        self.own_loss = weight or 1.0
