"""Weights of the models computed per row, from the features that the models saw.

Axes: B batch, D features, K classes, M modalities (parts).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmreg import Fused, Space
from mmreg.errors import OptionError
from mmreg.layers import at_least_float32
from mmreg_fusion.model_level.common import EVERY, ScoreFusion


class Gated(ScoreFusion):
    """Convex weights per row: p_k = sum_m g_m p_mk, g = softmax over the parts present of (w_m . f_m + b_m).

    f_m (B, D_m) are the features that part m's own head reads (Jacobs 1991, with one linear gate a part, so that an
    absent part leaves the others' scores alone). A part without features (D_m = 0) has the learned b_m only. It
    starts as the mean (w = 0, b = 0) and is trained by the loss of the combined scores. Classes, labels and all
    else as for `mean`. Cost: O(sum_m D_m + M K) a row; sum_m D_m + M parameters. Sums in float32.

    Jacobs, Jordan, Nowlan and Hinton, Adaptive Mixtures of Local Experts, Neural Computation 3(1), 1991.
    """

    spaces = EVERY
    uses_features = True

    def __init__(self, inputs: Mapping[str, int], *, num_outputs: int, space: Space) -> None:
        super().__init__(inputs, num_outputs=num_outputs, space=space)
        self.bias = nn.Parameter(torch.zeros(len(inputs)))
        self.weights = nn.ParameterDict(
            {str(index): nn.Parameter(torch.zeros(size)) for index, size in enumerate(inputs.values()) if size}
        )

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) scores with present (B, M) and each part's features (B, D) to (B, K).

        Raises:
            OptionError: a part that has features came without them.
        """
        gates = []
        for index, name in enumerate(self.names):
            gate = at_least_float32(self.bias[index]).expand(present.shape[0])
            if str(index) in self.weights:
                if features is None or name not in features:
                    raise OptionError(f"Gated weighs {name} by its features, found none: pass `features`")
                feature = torch.where(present[:, index, None], at_least_float32(features[name]), 0)
                # A product and a sum, since autocast would do a matrix product in half precision.
                gate = gate + (feature * self.weights[str(index)]).sum(-1)
            gates.append(gate)
        return Fused(self.mixture(scores, present, torch.stack(gates, 1)))
