"""The conformance checks of everything that the plugin brings."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from mmreg.testing import parametrize_checks

RECORDINGS = [np.random.default_rng(size).normal(0, 9.81, (size, 6)) for size in (40, 1, 90, 16, 33, 70)]


def permute_weights(state: Mapping[str, Tensor], order: Sequence[int]) -> Mapping[str, Tensor]:
    """The weights go by name, so that the state stays as it is in another order of the parts."""
    return state


@parametrize_checks(
    "modality/motion", options={"channels": 6, "source_rate": 100.0}, values=RECORDINGS, bad_values=["text", [[1.0]]]
)
def test_motion_conforms(check: Callable[[], None]) -> None:
    check()


@parametrize_checks("encoder/motion_tcn", options={"channels": 8, "features": 6, "blocks": 3})
def test_motion_tcn_conforms(check: Callable[[], None]) -> None:
    check()


@parametrize_checks("fusion/geometric", permute_state=permute_weights)
def test_geometric_conforms(check: Callable[[], None]) -> None:
    check()
